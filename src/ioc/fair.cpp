#include "sluice/ioc/fair.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/ioc/io_context.h"

namespace sluice {
namespace {

std::uint64_t ns_of(steady_time time) noexcept {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  return static_cast<std::uint64_t>(std::max<std::int64_t>(since, 0));
}

steady_time time_of(std::uint64_t ns) noexcept {
  return ns == fair_order::never_ns ? no_deadline
                                    : steady_time(std::chrono::nanoseconds(static_cast<std::int64_t>(ns)));
}

// The pair: the flow of a context, with the requests of it that wait. It stands in the elevator's ring while there are
// any, and then the requests keep its context, and that its memory.
class fair_pair final : public io_cq, public fair_flow {
 public:
  [[nodiscard]] bool empty() const noexcept { return again_.empty() && waiting_.empty(); }

  void push(request& waiting) noexcept {
    note(waiting);
    waiting_.push(waiting);
  }
  void push_again(request& waiting) noexcept {
    note(waiting);
    again_.push(waiting);
  }
  request* pop() noexcept {
    request* begun = again_.pop();
    return begun != nullptr ? begun : waiting_.pop();
  }
  std::size_t extract_owner(std::uint64_t owner, request_fifo& into) noexcept {
    if (owners_ == owners::one && owner_ != owner) {
      return 0;
    }
    const std::size_t begun = again_.extract_owner(owner, into);
    return begun + waiting_.extract_owner(owner, into);
  }
  std::size_t extract_all(request_fifo& into) noexcept {
    const std::size_t begun = again_.extract_all(into);
    return begun + waiting_.extract_all(into);
  }

  [[nodiscard]] fair_terms terms() const noexcept {
    return {.prio = context().get_ioprio(), .weight = context().weight(), .limits = context().limits()};
  }

 private:
  friend class fair_elevator;

  enum class owners : std::uint8_t { one, several };

  // Most contexts issue for one owner: remembering it spares the others' cancels a walk over the requests.
  void note(const request& waiting) noexcept {
    if (empty()) {
      owner_ = waiting.owner();
      owners_ = owners::one;
    } else if (waiting.owner() != owner_) {
      owners_ = owners::several;
    }
  }

  request_fifo again_;    // whose quantum is over
  request_fifo waiting_;  // who has not begun
  std::uint64_t owner_ = 0;
  owners owners_ = owners::one;
  // The ring of those who wait.
  fair_pair* next_ = nullptr;
  fair_pair* prev_ = nullptr;
};

static_assert(sizeof(fair_pair) - sizeof(io_cq) == 200, "as fair.h says");

class fair_elevator final : public elevator {
 public:
  explicit fair_elevator(const fair_options& options) : elevator(io_cq_use::wanted), order_(options) {}

  [[nodiscard]] std::string_view name() const noexcept override { return "fair"; }

  [[nodiscard]] std::unique_ptr<io_cq> make_io_cq() noexcept override {
    return std::unique_ptr<io_cq>(new (std::nothrow) fair_pair);
  }
  void exit_io_cq_locked(io_cq& pair) noexcept override {
    // With requests waiting the flow goes on. Without, it is in no list here, and nothing of it is looked at again.
    const auto& flow = static_cast<fair_pair&>(pair);
    SLUICE_CHECK(flow.in() == !flow.empty(), "a flow is in the order exactly while requests of it wait");
  }

  [[nodiscard]] bool may_go_locked(request& coming, io_cq* pair, steady_time now) noexcept override;
  void set_quantum_locked(std::uint64_t bytes) noexcept override { quantum_ = bytes; }
  [[nodiscard]] bool goes_on_locked(request& going, io_cq* pair, std::uint64_t bytes,
                                    steady_time now) noexcept override;
  void lift_limits_locked(bool lifted, steady_time now) noexcept override;
  void insert_locked(request& waiting, io_cq* pair) noexcept override;
  void insert_again_locked(request& waiting, io_cq* pair) noexcept override;
  [[nodiscard]] elevator_pick next_locked(steady_time now) noexcept override;
  void served_locked(request& over, io_cq* pair, std::uint64_t bytes, steady_time now) noexcept override;
  void take_back_locked(request& untouched, io_cq* pair, steady_time now) noexcept override;
  [[nodiscard]] bool empty_locked() const noexcept override { return ring_ == nullptr; }
  std::size_t extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept override;
  std::size_t extract_all_locked(request_fifo& into) noexcept override;

 private:
  // What a request is charged with when it goes.
  [[nodiscard]] std::uint64_t piece_of(std::uint64_t left) const noexcept { return std::min(left, quantum_); }
  // What went is over, or its quantum is: `bytes` moved, and not what was charged.
  void settle(fair_pair& flow, const request& over, std::uint64_t bytes) noexcept;
  // The flow has a request waiting, one more than before.
  void join(fair_pair& flow) noexcept;
  void leave(fair_pair& flow) noexcept;
  // Calls take(flow) for each that waits, and lets those go that have nothing left.
  template <class Take>
  std::size_t extract(Take take) noexcept;

  std::uint64_t quantum_ = ~std::uint64_t{0};  // the queue's
  fair_order order_;
  fair_pair* ring_ = nullptr;  // any of those who wait
  // The time that was last told. Older than the true one where none is told: then a flow may be filed as capped that is
  // not any more, until the next pick, which tells the time, finds it due.
  std::uint64_t now_ns_ = 0;
};

void fair_elevator::join(fair_pair& flow) noexcept {
  if (flow.in()) {
    order_.refile(flow, flow.terms(), now_ns_);
    return;
  }
  if (ring_ == nullptr) {
    flow.next_ = &flow;
    flow.prev_ = &flow;
    ring_ = &flow;
  } else {
    flow.next_ = ring_;
    flow.prev_ = std::exchange(ring_->prev_, &flow);
    flow.prev_->next_ = &flow;
  }
  order_.wake(flow, flow.terms(), now_ns_);
}

void fair_elevator::leave(fair_pair& flow) noexcept {
  if (flow.next_ == &flow) {
    ring_ = nullptr;
  } else {
    flow.prev_->next_ = flow.next_;
    flow.next_->prev_ = flow.prev_;
    ring_ = flow.next_;
  }
  flow.next_ = nullptr;
  flow.prev_ = nullptr;
}

bool fair_elevator::may_go_locked(request& coming, io_cq* pair, steady_time now) noexcept {
  now_ns_ = ns_of(now);
  auto& flow = static_cast<fair_pair&>(*pair);
  // Behind its own, if any of it wait: a flow's requests go in their order.
  if (flow.in() || !order_.try_pass(flow, flow.terms(), piece_of(coming.bytes_left()), now_ns_)) {
    return false;
  }
  set_note(coming, flow.limits_version());
  return true;
}

bool fair_elevator::goes_on_locked(request& going, io_cq* pair, std::uint64_t bytes, steady_time now) noexcept {
  now_ns_ = ns_of(now);
  auto& flow = static_cast<fair_pair&>(*pair);
  if (bytes > piece_of(going.bytes_left() + bytes)) {
    return false;  // a block larger than the quantum: what it moved beyond its charge counts before the limits are asked
  }
  // No flow waits, so the time of its class goes along with this one: what it takes alone costs it nothing later.
  if (!order_.try_pass(flow, flow.terms(), piece_of(going.bytes_left()), now_ns_)) {
    return false;
  }
  set_note(going, flow.limits_version());
  settle(flow, going, bytes);
  return true;
}

void fair_elevator::lift_limits_locked(bool lifted, steady_time now) noexcept {
  now_ns_ = ns_of(now);
  order_.lift_limits(lifted);
  // Each flow that waits stands where its limits put it now.
  fair_pair* const first = ring_;
  for (fair_pair* each = first; each != nullptr; each = each->next_ == first ? nullptr : each->next_) {
    order_.sleep(*each);
    order_.wake(*each, each->terms(), now_ns_);
  }
}

void fair_elevator::settle(fair_pair& flow, const request& over, std::uint64_t bytes) noexcept {
  const std::uint64_t charged = piece_of(over.bytes_left() + bytes);
  if (charged != bytes) {
    order_.settle(flow, charged, bytes, now_ns_);
  }
}

void fair_elevator::insert_locked(request& waiting, io_cq* pair) noexcept {
  auto& flow = static_cast<fair_pair&>(*pair);
  flow.push(waiting);
  join(flow);
}

void fair_elevator::insert_again_locked(request& waiting, io_cq* pair) noexcept {
  auto& flow = static_cast<fair_pair&>(*pair);
  flow.push_again(waiting);
  join(flow);
}

elevator_pick fair_elevator::next_locked(steady_time now) noexcept {
  now_ns_ = ns_of(now);
  while (fair_flow* due = order_.take_due(now_ns_)) {
    order_.wake(*due, static_cast<fair_pair*>(due)->terms(), now_ns_);
  }
  const fair_order::choice found = order_.next(now_ns_);
  if (found.flow == nullptr) {
    return {.next = nullptr, .ask_again = time_of(found.ask_again_ns)};
  }
  auto& flow = static_cast<fair_pair&>(*found.flow);
  request* next = flow.pop();
  SLUICE_CHECK(next != nullptr, "a flow is in the order with nothing waiting");
  set_note(*next, flow.limits_version());  // what it goes by: serve() takes new terms after the charge
  const auto rest = flow.empty() ? fair_order::more::no : fair_order::more::yes;
  order_.serve(flow, flow.terms(), piece_of(next->bytes_left()), rest, now_ns_);
  if (rest == fair_order::more::no) {
    leave(flow);
  }
  return {.next = next};
}

void fair_elevator::served_locked(request& over, io_cq* pair, std::uint64_t bytes, steady_time now) noexcept {
  now_ns_ = ns_of(now);
  settle(static_cast<fair_pair&>(*pair), over, bytes);
}

void fair_elevator::take_back_locked(request& untouched, io_cq* pair, steady_time now) noexcept {
  now_ns_ = ns_of(now);
  order_.take_back(static_cast<fair_pair&>(*pair), piece_of(untouched.bytes_left()), note_of(untouched), now_ns_);
}

template <class Take>
std::size_t fair_elevator::extract(Take take) noexcept {
  std::size_t count = 0;
  fair_pair* const last = ring_ == nullptr ? nullptr : ring_->prev_;
  for (fair_pair* each = ring_; each != nullptr;) {
    fair_pair* const next = each == last ? nullptr : each->next_;
    count += take(*each);
    if (each->empty()) {
      order_.sleep(*each);
      leave(*each);
    }
    each = next;
  }
  return count;
}

std::size_t fair_elevator::extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept {
  return extract([owner, &into](fair_pair& each) { return each.extract_owner(owner, into); });
}

std::size_t fair_elevator::extract_all_locked(request_fifo& into) noexcept {
  return extract([&into](fair_pair& each) { return each.extract_all(into); });
}

}  // namespace

std::unique_ptr<elevator> make_fair_elevator(const fair_options& options) {
  return std::make_unique<fair_elevator>(options);
}

}  // namespace sluice
