#include "sluice/ioc/elevator.h"

#include <new>
#include <utility>

#include "sluice/base/check.h"

namespace sluice {
namespace {

class none_elevator final : public elevator {
 public:
  none_elevator() : elevator(io_cq_use::unused) {}

  [[nodiscard]] std::string_view name() const noexcept override { return "none"; }
  void insert_locked(request& waiting, io_cq* /*pair*/) noexcept override { waiting_.push(waiting); }
  void insert_again_locked(request& waiting, io_cq* /*pair*/) noexcept override { waiting_.push(waiting); }
  [[nodiscard]] elevator_pick next_locked(steady_time /*now*/) noexcept override { return {.next = waiting_.pop()}; }
  [[nodiscard]] bool empty_locked() const noexcept override { return waiting_.empty(); }
  std::size_t extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept override {
    return waiting_.extract_owner(owner, into);
  }
  std::size_t extract_all_locked(request_fifo& into) noexcept override { return waiting_.extract_all(into); }

 private:
  request_fifo waiting_;
};

}  // namespace

void request_fifo::push(request& last) noexcept {
  SLUICE_DCHECK(last.waits_behind_ == nullptr && &last != tail_, "the request is in a list already");
  if (tail_ == nullptr) {
    head_ = &last;
  } else {
    tail_->waits_behind_ = &last;
  }
  tail_ = &last;
}

request* request_fifo::pop() noexcept {
  request* first = head_;
  if (first != nullptr) {
    head_ = std::exchange(first->waits_behind_, nullptr);
    if (head_ == nullptr) {
      tail_ = nullptr;
    }
  }
  return first;
}

std::size_t request_fifo::extract_owner(std::uint64_t owner, request_fifo& into) noexcept {
  request_fifo kept;
  std::size_t count = 0;
  while (request* each = pop()) {
    if (each->owner() == owner) {
      into.push(*each);
      ++count;
    } else {
      kept.push(*each);
    }
  }
  *this = kept;
  return count;
}

std::size_t request_fifo::extract_all(request_fifo& into) noexcept {
  std::size_t count = 0;
  while (request* each = pop()) {
    into.push(*each);
    ++count;
  }
  return count;
}

std::unique_ptr<io_cq> elevator::make_io_cq() noexcept {
  return std::unique_ptr<io_cq>(new (std::nothrow) io_cq);
}

std::unique_ptr<elevator> make_none_elevator() {
  return std::make_unique<none_elevator>();
}

}  // namespace sluice
