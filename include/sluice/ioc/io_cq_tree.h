// io_cq_tree: the io_cqs of one context, by queue: a search tree whose nodes are the io_cqs themselves.
//
// A digital search tree: at depth d the bit d of the queue's id decides between left and right, so a path has at most 64
// nodes whatever the ids are, nothing is ever rebalanced, and ids that are given out one after the other fall into a
// balanced tree (their low bits come first). A node that leaves is replaced by any leaf below it: that leaf agrees with
// it in every bit above.
//
// The queue is compared as well as its id: if an id were ever used again, two queues of one id would be two nodes on one
// path, and none would be taken for the other (O6).
//
// Ownership:      owns nothing: whoever unlinks an io_cq ends it.
// Thread safety:  the context's lock guards all of it.
// Limits:         64 steps per operation.
// Cost:           no allocation; 16 bytes in each io_cq.
// Invariants:     O6
#pragma once

#include <array>
#include <cstdint>

#include "sluice/base/check.h"

namespace sluice {

template <class Pair, class Context, class Queue, class Sync>
class io_context_links;
template <class Pair, class Context, class Queue, class Sync, std::size_t Hints>
class request_queue_links;

// What an io_cq is to the two sides that link it. Pair is the class itself.
template <class Pair, class Context, class Queue>
class io_cq_node {
 public:
  io_cq_node(const io_cq_node&) = delete;
  io_cq_node& operator=(const io_cq_node&) = delete;

  [[nodiscard]] Context& context() const noexcept { return *context_; }
  [[nodiscard]] Queue& queue() const noexcept { return *queue_; }

 protected:
  io_cq_node() = default;
  ~io_cq_node() = default;

 private:
  template <class>
  friend class io_cq_tree;
  template <class, class, class, class>
  friend class io_context_links;
  template <class, class, class, class, std::size_t>
  friend class request_queue_links;

  // Constant once linked.
  Context* context_ = nullptr;
  Queue* queue_ = nullptr;
  std::uint64_t id_ = 0;  // the queue's
  // Guarded by the queue's lock.
  Pair* queue_next_ = nullptr;
  Pair* queue_prev_ = nullptr;
  // Guarded by the context's lock. Once out of the tree, the first is the link to the next that has exited.
  std::array<Pair*, 2> below_{};
};

template <class Pair>
class io_cq_tree {
 public:
  [[nodiscard]] bool empty() const noexcept { return root_ == nullptr; }
  // Some node; null if there is none.
  [[nodiscard]] Pair* any() const noexcept { return root_; }

  template <class Queue>
  [[nodiscard]] Pair* find(std::uint64_t id, const Queue& queue) const noexcept {
    std::uint64_t bits = id;
    Pair* at = root_;
    while (at != nullptr && (at->id_ != id || at->queue_ != &queue)) {
      at = at->below_[bits & 1];
      bits >>= 1;
    }
    return at;
  }

  // Requires: the pair's id and queue are set, and it is in no tree.
  void insert(Pair& fresh) noexcept {
    SLUICE_DCHECK(fresh.below_[0] == nullptr && fresh.below_[1] == nullptr, "an io_cq is linked once");
    Pair** at = &root_;
    for (std::uint64_t bits = fresh.id_; *at != nullptr; bits >>= 1) {
      at = &(*at)->below_[bits & 1];
    }
    *at = &fresh;
  }

  // Requires: it is in this tree.
  void erase(Pair& gone) noexcept {
    Pair** place = &root_;
    for (std::uint64_t bits = gone.id_; *place != &gone; bits >>= 1) {
      SLUICE_CHECK(*place != nullptr, "an io_cq is not in its context's tree");
      place = &(*place)->below_[bits & 1];
    }
    Pair** leaf = place;
    while (Pair** below = deeper(**leaf)) {
      leaf = below;
    }
    Pair* heir = *leaf;
    *leaf = nullptr;
    if (heir != &gone) {
      heir->below_ = gone.below_;
      *place = heir;
    }
    gone.below_ = {};
  }

  // For reports: walks it all.
  [[nodiscard]] std::size_t size() const noexcept { return count(root_); }

 private:
  // Where a child of this node hangs, or null if it is a leaf.
  [[nodiscard]] static Pair** deeper(Pair& node) noexcept {
    for (Pair*& each : node.below_) {
      if (each != nullptr) {
        return &each;
      }
    }
    return nullptr;
  }
  // At most 64 deep, see above.
  [[nodiscard]] static std::size_t count(const Pair* at) noexcept {
    return at == nullptr ? 0 : 1 + count(at->below_[0]) + count(at->below_[1]);
  }

  Pair* root_ = nullptr;
};

}  // namespace sluice
