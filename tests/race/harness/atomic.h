// atomic: std::atomic<T> and a lock on the harness's scheduler. Every operation may let another fiber go first.
//
// Every operation takes the place it was called from as a last, defaulted argument, for the trace. Values are at most 8
// bytes. A size is not the real one's: code under test must not depend on sizeof.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "sluice/base/annotations.h"

#include "race/harness/memory.h"

namespace race {

template <class T>
class atomic {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  using place = std::source_location;
  using order = std::memory_order;

 public:
  using value_type = T;

  atomic() noexcept : atomic(T{}) {}
  atomic(T initial) noexcept : cell_(encode(initial)) {}  // NOLINT: implicit as in std::atomic
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;

  [[nodiscard]] T load(order how = order::seq_cst, place at = place::current()) const noexcept {
    return decode(cell_.load(how, at));
  }
  void store(T value, order how = order::seq_cst, place at = place::current()) noexcept {
    cell_.store(encode(value), how, at);
  }
  T exchange(T value, order how = order::seq_cst, place at = place::current()) noexcept {
    return modify([&](T) { return value; }, how, at);
  }

  bool compare_exchange_strong(T& expected, T desired, order success, order failure,
                               place at = place::current()) noexcept {
    return compare_exchange(expected, desired, success, failure, detail::cell::strength::strong, at);
  }
  bool compare_exchange_strong(T& expected, T desired, order how = order::seq_cst,
                               place at = place::current()) noexcept {
    return compare_exchange(expected, desired, how, failure_of(how), detail::cell::strength::strong, at);
  }
  bool compare_exchange_weak(T& expected, T desired, order success, order failure,
                             place at = place::current()) noexcept {
    return compare_exchange(expected, desired, success, failure, detail::cell::strength::weak, at);
  }
  bool compare_exchange_weak(T& expected, T desired, order how = order::seq_cst, place at = place::current()) noexcept {
    return compare_exchange(expected, desired, how, failure_of(how), detail::cell::strength::weak, at);
  }

  T fetch_add(T operand, order how = order::seq_cst, place at = place::current()) noexcept
    requires(std::integral<T> && !std::same_as<T, bool>)
  {
    // Wraps like the machine's, also for signed values.
    return modify([&](T old) { return wrap(unsigned_of(old) + unsigned_of(operand)); }, how, at);
  }
  T fetch_sub(T operand, order how = order::seq_cst, place at = place::current()) noexcept
    requires(std::integral<T> && !std::same_as<T, bool>)
  {
    return modify([&](T old) { return wrap(unsigned_of(old) - unsigned_of(operand)); }, how, at);
  }
  T fetch_add(std::ptrdiff_t operand, order how = order::seq_cst, place at = place::current()) noexcept
    requires std::is_pointer_v<T>
  {
    return modify([&](T old) { return old + operand; }, how, at);
  }
  T fetch_sub(std::ptrdiff_t operand, order how = order::seq_cst, place at = place::current()) noexcept
    requires std::is_pointer_v<T>
  {
    return modify([&](T old) { return old - operand; }, how, at);
  }
  T fetch_and(T operand, order how = order::seq_cst, place at = place::current()) noexcept
    requires(std::integral<T> && !std::same_as<T, bool>)
  {
    return modify([&](T old) { return wrap(unsigned_of(old) & unsigned_of(operand)); }, how, at);
  }
  T fetch_or(T operand, order how = order::seq_cst, place at = place::current()) noexcept
    requires(std::integral<T> && !std::same_as<T, bool>)
  {
    return modify([&](T old) { return wrap(unsigned_of(old) | unsigned_of(operand)); }, how, at);
  }
  T fetch_xor(T operand, order how = order::seq_cst, place at = place::current()) noexcept
    requires(std::integral<T> && !std::same_as<T, bool>)
  {
    return modify([&](T old) { return wrap(unsigned_of(old) ^ unsigned_of(operand)); }, how, at);
  }

 private:
  friend struct sync;

  static constexpr bool is_always_lock_free = true;

  static std::uint64_t encode(T value) noexcept {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
  }
  static T decode(std::uint64_t bits) noexcept {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
  }
  static std::uint64_t unsigned_of(T value) noexcept { return static_cast<std::uint64_t>(value); }
  static T wrap(std::uint64_t value) noexcept { return static_cast<T>(value); }
  static order failure_of(order how) noexcept {
    return how == order::acq_rel ? order::acquire : how == order::release ? order::relaxed : how;
  }

  template <class Change>
  T modify(Change change, order how, place at) noexcept {
    const T old = decode(cell_.begin_rmw(at));
    cell_.end_rmw(encode(change(old)), how, at);
    return old;
  }

  bool compare_exchange(T& expected, T desired, order success, order failure, detail::cell::strength how,
                        place at) noexcept {
    std::uint64_t bits = encode(expected);
    const bool done = cell_.compare_exchange(bits, encode(desired), success, failure, how, at);
    if (!done) {
      expected = decode(bits);
    }
    return done;
  }

  mutable detail::cell cell_;
};

// A lock: mutual exclusion and the ordering it brings. Not recursive. A cycle of waits ends the schedule as a deadlock.
class SLUICE_CAPABILITY("mutex") mutex {
  using place = std::source_location;

 public:
  mutex() noexcept { detail::begin_lock(state_); }
  ~mutex() { detail::end_lock(state_); }
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  void lock(place at = place::current()) SLUICE_ACQUIRE() { detail::lock_here(state_, at); }
  void unlock(place at = place::current()) SLUICE_RELEASE() { detail::unlock_here(state_, at); }
  [[nodiscard]] bool try_lock(place at = place::current()) SLUICE_TRY_ACQUIRE(true) {
    return detail::try_lock_here(state_, at);
  }

 private:
  detail::lock_state state_;
};

// A variable without atomicity. Accesses that happens-before does not order are reported as a data race, in whichever
// order the schedule ran them; they are no points of their own where another fiber may go first.
template <class T>
class plain {
  using place = std::source_location;

 public:
  plain() = default;
  explicit plain(T initial) : value_(std::move(initial)) {}
  plain(const plain&) = delete;
  plain& operator=(const plain&) = delete;

  [[nodiscard]] T read(place at = place::current()) const {
    state_.read(at);
    return value_;
  }
  void write(T value, place at = place::current()) {
    state_.write(at);
    value_ = std::move(value);
  }
  // A write that starts from the old value. change is called with a T&.
  template <class Change>
  void update(Change change, place at = place::current()) {
    state_.read(at);
    state_.write(at);
    change(value_);
  }

 private:
  mutable detail::plain_state state_;
  T value_{};
};

}  // namespace race
