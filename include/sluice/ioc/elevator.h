// elevator: in which order a request queue lets waiting requests go. Policy only: the queue counts slots and launches.
//
// All functions with `_locked` are called with the queue's lock held and must not call out of the elevator.
//
// Ownership:      one queue owns one elevator.
// Thread safety:  the queue's lock guards all of it.
// Blocking:       never. No allocation but in make_io_cq.
// Limits:         the queue bounds how many requests wait.
// Invariants:     O1 (exit_io_cq_locked runs once per io_cq)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "sluice/ioc/io_cq.h"
#include "sluice/ioc/request.h"

namespace sluice {

// A FIFO of requests, linked through them.
class request_fifo {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  void push(request& last) noexcept;
  // Takes the first, or null.
  [[nodiscard]] request* pop() noexcept;
  // Moves those of one owner to the end of another list, in order. Returns how many.
  std::size_t extract_owner(std::uint64_t owner, request_fifo& into) noexcept;

 private:
  request* head_ = nullptr;
  request* tail_ = nullptr;
};

// Whether an elevator keeps an io_cq per context.
enum class io_cq_use : bool { unused, wanted };

class elevator {
 public:
  elevator(const elevator&) = delete;
  elevator& operator=(const elevator&) = delete;
  virtual ~elevator() = default;

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  // unused: a queue with free slots and nobody waiting lets a request go without asking the elevator or taking a lock.
  [[nodiscard]] io_cq_use use() const noexcept { return use_; }

  // A new pair, with whatever the elevator keeps in it. Returns null if there is no memory. May be made in vain.
  [[nodiscard]] virtual std::unique_ptr<io_cq> make_io_cq() noexcept;
  // The pair leaves the queue. Requests of it may still wait: they go on, and keep its memory.
  virtual void exit_io_cq_locked(io_cq&) noexcept {}

  // Takes a request that must wait. pair is null if unused.
  virtual void insert_locked(request& waiting, io_cq* pair) noexcept = 0;
  // Gives the request that goes next, or null.
  [[nodiscard]] virtual request* next_locked() noexcept = 0;
  [[nodiscard]] virtual bool empty_locked() const noexcept = 0;
  // Gives up all requests of one owner. Returns how many.
  virtual std::size_t extract_owner_locked(std::uint64_t owner, request_fifo& into) noexcept = 0;

 protected:
  explicit elevator(io_cq_use use) noexcept : use_(use) {}

 private:
  const io_cq_use use_;
};

// first come, first served; knows no contexts. Throws bad_alloc (set-up).
[[nodiscard]] std::unique_ptr<elevator> make_none_elevator();

}  // namespace sluice
