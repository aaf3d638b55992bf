#include "sluice/ioc/elevator.h"

#include <new>

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

std::unique_ptr<io_cq> elevator::make_io_cq() noexcept {
  return std::unique_ptr<io_cq>(new (std::nothrow) io_cq);
}

std::unique_ptr<elevator> make_none_elevator() {
  return std::make_unique<none_elevator>();
}

}  // namespace sluice
