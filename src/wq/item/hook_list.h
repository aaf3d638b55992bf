// hook_list: a doubly linked list through two pointers of its members, named by the type: one object, several lists.
//
// Thread safety:  none; the owner's lock protects it.
#pragma once

#include <cstddef>

namespace sluice::detail {

template <class Node, Node* Node::* Prev, Node* Node::* Next>
class hook_list {
 public:
  [[nodiscard]] Node* front() const noexcept { return head_; }
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] static Node* after(const Node& node) noexcept { return node.*Next; }

  void push_front(Node& node) noexcept {
    node.*Prev = nullptr;
    node.*Next = head_;
    (head_ != nullptr ? head_->*Prev : tail_) = &node;
    head_ = &node;
    ++size_;
  }
  void push_back(Node& node) noexcept {
    node.*Next = nullptr;
    node.*Prev = tail_;
    (tail_ != nullptr ? tail_->*Next : head_) = &node;
    tail_ = &node;
    ++size_;
  }
  [[nodiscard]] Node* pop_front() noexcept {
    Node* const first = head_;
    if (first != nullptr) {
      remove(*first);
    }
    return first;
  }
  // Requires: the node is in this list.
  void remove(Node& node) noexcept {
    Node* const before = node.*Prev;
    Node* const behind = node.*Next;
    (before != nullptr ? before->*Next : head_) = behind;
    (behind != nullptr ? behind->*Prev : tail_) = before;
    --size_;
  }

 private:
  Node* head_ = nullptr;
  Node* tail_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sluice::detail
