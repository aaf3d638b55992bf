// cancel_probe: how an operation that runs for long asks whether it is still wanted.
//
// A blocking operation asks between its chunks and after every system call that a signal interrupted: an interrupt is
// how a canceller reaches a worker that sleeps in the kernel, and the probe tells it from a stray signal.
//
// Ownership:      a view; whoever made it outlives it.
// Thread safety:  by the thread that runs the operation.
// Blocking:       never.
// Cost:           16 bytes; an indirect call per question.
#pragma once

namespace sluice {

class cancel_probe {
 public:
  // Never cancelled: for callers outside a pool.
  constexpr cancel_probe() = default;
  // Asks `ask(who)`. Context is anything with `bool cancelled() const noexcept`.
  template <class Context>
  explicit cancel_probe(const Context& who) noexcept
      : who_(&who), ask_([](const void* self) noexcept { return static_cast<const Context*>(self)->cancelled(); }) {}

  [[nodiscard]] bool cancelled() const noexcept { return ask_ != nullptr && ask_(who_); }

 private:
  const void* who_ = nullptr;
  bool (*ask_)(const void*) noexcept = nullptr;
};

}  // namespace sluice
