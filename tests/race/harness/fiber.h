// fiber: a stack of its own on the same OS thread, entered and left by hand.
//
// Ownership:      owns its mapped stack, with a guard page below it. pin() gives the stack up forever: for a fiber that is
//                 abandoned in the middle of its work, whose frames cannot be unwound (they may be noexcept).
// Thread safety:  none: one OS thread.
// Sanitizers:     every switch is announced to AddressSanitizer and ThreadSanitizer. For the latter a switch orders: it
//                 sees one thread of execution, and the harness's own clocks look for races instead.
// Cost:           a switch is a few instructions (Boost.Context). swapcontext(3) makes a system call each time: a third of
//                 the time of all race tests.
#pragma once

#include <cstddef>

#include <boost/context/detail/fcontext.hpp>

namespace race::detail {

class fiber {
 public:
  using entry = void (*)(void* argument);

  // The caller's own stack: something to come back to.
  fiber();
  // A new stack; the first switch to it calls body(argument), which never returns.
  fiber(entry body, void* argument);
  ~fiber();
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  // Leaves `from`, which must be the one that runs; returns when somebody switches back to it.
  static void switch_between(fiber& from, fiber& to) noexcept;

  // The stack stays mapped, and known to the leak checker, until the process ends.
  void pin() noexcept;

 private:
  static void trampoline(boost::context::detail::transfer_t from);
  // The calling fiber was just resumed: notes where the fiber that left is to be resumed.
  static void arrived(boost::context::detail::transfer_t from) noexcept;

  boost::context::detail::fcontext_t context_ = nullptr;  // where to resume, while the fiber does not run
  entry body_ = nullptr;
  void* argument_ = nullptr;
  void* mapping_ = nullptr;
  const void* stack_bottom_ = nullptr;
  std::size_t stack_bytes_ = 0;
  // Of the sanitizers; unused in other builds.
  [[maybe_unused]] void* fake_stack_ = nullptr;
  [[maybe_unused]] void* tsan_fiber_ = nullptr;
};

}  // namespace race::detail
