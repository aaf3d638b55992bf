// fair_tree: what waits, ordered by a key, linked through the waiting themselves: the smallest at once, any other by its
// key.
//
// A treap: a search tree by key that is a heap by random ranks, so that its depth is logarithmic whatever order the keys
// come in. Fair queueing feeds a tree the worst there is, keys that only grow; ranks do not mind, and no rebalancing
// state is kept. A binary heap would need an array that somebody must allocate; a pairing heap pays for ten thousand
// inserts in one single removal.
//
// Ownership:      none: the nodes belong to their flows, and must leave before they end.
// Thread safety:  none: its user's lock.
// Blocking:       never; no allocation.
// Cost:           48 bytes a node. insert, erase: O(log n) expected, some 2 ln n steps; first: 1.
#pragma once

#include <compare>
#include <cstdint>

namespace sluice {

// Virtual time in two words. One would overflow within hours at the finest weights, and a flow that slept through an
// overflow would find its tag far in the future; two last longer than the machine (see docs/fair.md).
struct virtual_time {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  [[nodiscard]] constexpr virtual_time plus(std::uint64_t span) const noexcept {
    const std::uint64_t sum = low + span;
    return {.high = high + (sum < span ? 1U : 0U), .low = sum};
  }
  // Requires: it is not before the beginning.
  [[nodiscard]] constexpr virtual_time minus(std::uint64_t span) const noexcept {
    return {.high = high - (low < span ? 1U : 0U), .low = low - span};
  }
  // How far this is after `other`. Requires: it is, and by less than 2^64.
  [[nodiscard]] constexpr std::uint64_t since(virtual_time other) const noexcept { return low - other.low; }

  friend constexpr auto operator<=>(const virtual_time&, const virtual_time&) = default;
};

struct fair_key {
  virtual_time at;
  std::uint64_t turn = 0;  // between equals; no two nodes of a tree share both

  friend constexpr auto operator<=>(const fair_key&, const fair_key&) = default;
};

class fair_node {
 public:
  fair_node() = default;
  fair_node(const fair_node&) = delete;
  fair_node& operator=(const fair_node&) = delete;

  [[nodiscard]] const fair_key& key() const noexcept { return key_; }

 protected:
  ~fair_node() = default;

 private:
  friend class fair_tree;

  fair_key key_;
  fair_node* less_ = nullptr;
  fair_node* more_ = nullptr;
  std::uint64_t rank_ = 0;
};

class fair_tree {
 public:
  fair_tree() = default;
  fair_tree(const fair_tree&) = delete;
  fair_tree& operator=(const fair_tree&) = delete;

  [[nodiscard]] bool empty() const noexcept { return root_ == nullptr; }
  // The smallest, or null.
  [[nodiscard]] fair_node* first() const noexcept { return first_; }

  // Requires: the node is in no tree; no node here has this key.
  void insert(fair_node& node, const fair_key& key) noexcept;
  // Requires: the node is here (checked).
  void erase(fair_node& node) noexcept;

 private:
  void erase_first() noexcept;

  fair_node* root_ = nullptr;
  fair_node* first_ = nullptr;
  std::uint64_t random_ = 0x9E3779B97F4A7C15;
};

}  // namespace sluice
