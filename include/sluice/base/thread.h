// thread: a named thread that is always joined, and the seam through which it is created.
//
// Ownership:      whoever holds the named_thread joins it; destroying a running one joins too (a detached thread cannot
// be
//                 made).
// Errors:         creation reports EAGAIN, ENOMEM, EPERM as pthread_create(3) does; the function object is destroyed,
// never run. Signals:        the thread starts with every signal blocked but the synchronous ones (SEGV, BUS, FPE, ILL,
// TRAP, ABRT),
//                 so that an application's handlers never run on a thread of ours.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <functional>
#include <string_view>

#include "sluice/base/error.h"

namespace sluice {

class named_thread {
 public:
  named_thread() = default;
  named_thread(named_thread&& other) noexcept;
  named_thread& operator=(named_thread&& other) noexcept;
  ~named_thread() { join(); }

  // Starts a thread. stack: its bytes; 0 stands for the system's usual size. Requires: name has at most 15 bytes (the
  // kernel's limit); the body does not throw.
  [[nodiscard]] static result<named_thread> start(std::string_view name, std::move_only_function<void()> body,
                                                  std::size_t stack);

  // Waits for the end of the thread; nothing if there is none. Blocks. Requires: not called by that thread itself.
  void join() noexcept;
  // The same without waiting. Returns false if the thread still runs, its thread_local destructors included.
  [[nodiscard]] bool try_join() noexcept;

  [[nodiscard]] bool joinable() const noexcept { return started_; }
  // Requires: joinable().
  [[nodiscard]] pthread_t handle() const noexcept { return handle_; }

 private:
  pthread_t handle_{};
  bool started_ = false;
};

// Where a unit under test gets its threads from; a test's seam makes creation fail on purpose.
class thread_seam {
 public:
  thread_seam() = default;
  thread_seam(const thread_seam&) = delete;
  thread_seam& operator=(const thread_seam&) = delete;
  virtual ~thread_seam() = default;

  [[nodiscard]] virtual result<named_thread> start(std::string_view name, std::move_only_function<void()> body,
                                                   std::size_t stack) = 0;

  // Whether a thread of this process, by its number (gettid(2)), waits in the kernel: for a device, a lock, a time.
  // false: it runs, or waits for a CPU. true if /proc does not say.
  [[nodiscard]] virtual bool sleeps(pid_t thread) noexcept;

  // The operating system's threads. Lives for the whole process.
  [[nodiscard]] static thread_seam& real() noexcept;
};

}  // namespace sluice
