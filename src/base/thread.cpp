#include "sluice/base/thread.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "sluice/base/check.h"
#include "sluice/base/immortal.h"
#include "sluice/base/unique_fd.h"

namespace sluice {
namespace {

constexpr std::size_t name_bytes = 15;

struct start_state {
  std::string name;
  std::move_only_function<void()> body;
};

void* run_thread(void* argument) {
  const std::unique_ptr<start_state> state(static_cast<start_state*>(argument));
  ::pthread_setname_np(::pthread_self(), state->name.c_str());
  state->body();
  return nullptr;
}

sigset_t asynchronous_signals() noexcept {
  sigset_t set;
  ::sigfillset(&set);
  for (const int synchronous : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) {
    ::sigdelset(&set, synchronous);
  }
  return set;
}

class system_thread_seam final : public thread_seam {
 public:
  result<named_thread> start(std::string_view name, std::move_only_function<void()> body, std::size_t stack) override {
    return named_thread::start(name, std::move(body), stack);
  }
};

}  // namespace

named_thread::named_thread(named_thread&& other) noexcept
    : handle_(other.handle_), started_(std::exchange(other.started_, false)) {}

named_thread& named_thread::operator=(named_thread&& other) noexcept {
  if (this != &other) {
    join();
    handle_ = other.handle_;
    started_ = std::exchange(other.started_, false);
  }
  return *this;
}

result<named_thread> named_thread::start(std::string_view name, std::move_only_function<void()> body,
                                         std::size_t stack) {
  SLUICE_CHECK_OP(name.size(), <=, name_bytes);
  auto state = std::make_unique<start_state>(std::string(name), std::move(body));
  named_thread thread;
  // The mask is inherited, so it is set around the creation: the new thread never runs a single instruction without it.
  const sigset_t blocked = asynchronous_signals();
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  pthread_attr_t attributes;
  int err = ::pthread_attr_init(&attributes);
  if (err == 0 && stack != 0) {
    err = ::pthread_attr_setstacksize(&attributes, stack);
  }
  if (err == 0) {
    err = ::pthread_create(&thread.handle_, &attributes, run_thread, state.get());
  }
  ::pthread_attr_destroy(&attributes);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (err != 0) {
    return fail(err);
  }
  static_cast<void>(state.release());  // run_thread owns it now
  thread.started_ = true;
  return thread;
}

void named_thread::join() noexcept {
  if (!started_) {
    return;
  }
  SLUICE_CHECK(::pthread_equal(handle_, ::pthread_self()) == 0, "a thread cannot join itself");
  const int err = ::pthread_join(handle_, nullptr);
  SLUICE_CHECK_OP(err, ==, 0);
  started_ = false;
}

bool named_thread::try_join() noexcept {
  if (!started_) {
    return true;
  }
  const int err = ::pthread_tryjoin_np(handle_, nullptr);
  SLUICE_CHECK(err == 0 || err == EBUSY, "a thread is joined once");
  started_ = err != 0;
  return !started_;
}

bool thread_seam::sleeps(pid_t thread) noexcept {
  std::array<char, 64> path;
  std::snprintf(path.data(), path.size(), "/proc/self/task/%d/stat", static_cast<int>(thread));
  const unique_fd file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  std::array<char, 128> text;
  const ssize_t n = file ? ::read(file.get(), text.data(), text.size()) : -1;
  if (n <= 0) {
    return true;
  }
  // "pid (name) S …": the name may hold anything, so the state follows the last parenthesis (proc(5)).
  const std::string_view all(text.data(), static_cast<std::size_t>(n));
  const std::size_t end = all.rfind(") ");
  return end == std::string_view::npos || end + 2 >= all.size() || all[end + 2] != 'R';
}

thread_seam& thread_seam::real() noexcept {
  static immortal<system_thread_seam> instance;
  return *instance;
}

}  // namespace sluice
