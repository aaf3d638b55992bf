#include "sluice/ioc/fair_tree.h"

#include "sluice/base/check.h"

namespace sluice {

void fair_tree::insert(fair_node& node, const fair_key& key) noexcept {
  // xorshift: ranks need not be good, only independent of the keys.
  random_ ^= random_ << 13U;
  random_ ^= random_ >> 7U;
  random_ ^= random_ << 17U;
  node.key_ = key;
  node.rank_ = random_;
  fair_node** place = &root_;
  while (*place != nullptr && (*place)->rank_ > node.rank_) {
    place = key < (*place)->key_ ? &(*place)->less_ : &(*place)->more_;
  }
  // The subtree that stood here is split at the key: its halves become the node's.
  fair_node* rest = *place;
  fair_node** less = &node.less_;
  fair_node** more = &node.more_;
  *place = &node;
  while (rest != nullptr) {
    if (rest->key_ < key) {
      *less = rest;
      less = &rest->more_;
      rest = rest->more_;
    } else {
      *more = rest;
      more = &rest->less_;
      rest = rest->less_;
    }
  }
  *less = nullptr;
  *more = nullptr;
  if (first_ == nullptr || key < first_->key_) {
    first_ = &node;
  }
}

// The first has nobody on its lesser side, so its other side takes its place.
void fair_tree::erase_first() noexcept {
  fair_node* above = nullptr;
  fair_node** place = &root_;
  while ((*place)->less_ != nullptr) {
    above = *place;
    place = &above->less_;
  }
  fair_node* next = (*place)->more_;
  *place = next;
  first_ = next == nullptr ? above : next;
  while (next != nullptr) {
    first_ = next;
    next = next->less_;
  }
}

void fair_tree::erase(fair_node& node) noexcept {
  if (&node == first_) {
    erase_first();
    return;
  }
  fair_node** place = &root_;
  while (*place != &node) {
    SLUICE_CHECK(*place != nullptr, "erased from a tree that it is not in");
    place = node.key_ < (*place)->key_ ? &(*place)->less_ : &(*place)->more_;
  }
  fair_node* less = node.less_;
  fair_node* more = node.more_;
  while (less != nullptr && more != nullptr) {
    if (less->rank_ > more->rank_) {
      *place = less;
      place = &less->more_;
      less = less->more_;
    } else {
      *place = more;
      place = &more->less_;
      more = more->less_;
    }
  }
  *place = less != nullptr ? less : more;
}

}  // namespace sluice
