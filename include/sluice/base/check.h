// check: programmer errors end the process at once, with the place and the values, in every build.
//
// SLUICE_CHECK(cond)              aborts unless cond
// SLUICE_CHECK(cond, "advice")    the same, with one sentence that says what the caller did wrong
// SLUICE_CHECK_OP(a, ==, b)       the same, and prints both values (integers, enums, pointers)
// SLUICE_DCHECK(cond, …)          only in builds without NDEBUG; the condition still compiles in the others
//
// An operating error (a full disk, a missing file) is never a check: it is a result<T> (error.h).
//
// Thread safety:  any thread. Async-signal safe: the message is formatted on the stack and written with one write(2).
// Cost:           one predicted branch.
#pragma once

#include <cstdint>
#include <type_traits>

namespace sluice::detail {

[[noreturn, gnu::cold]] void check_failed(const char* file, int line, const char* expression,
                                          const char* advice = nullptr) noexcept;
[[noreturn, gnu::cold]] void check_op_failed(const char* file, int line, const char* expression, std::int64_t left,
                                             std::int64_t right) noexcept;

template <class Value>
[[nodiscard]] std::int64_t check_value(const Value& value) noexcept {
  if constexpr (std::is_pointer_v<Value>) {
    return reinterpret_cast<std::intptr_t>(value);
  } else {
    return static_cast<std::int64_t>(value);
  }
}

}  // namespace sluice::detail

#define SLUICE_CHECK(cond, ...)                    \
  (__builtin_expect(static_cast<bool>(cond), true) \
       ? static_cast<void>(0)                      \
       : ::sluice::detail::check_failed(__FILE__, __LINE__, #cond __VA_OPT__(, ) __VA_ARGS__))

#define SLUICE_CHECK_OP(a, op, b)                                                     \
  do {                                                                                \
    const auto& sluice_left = (a);                                                    \
    const auto& sluice_right = (b);                                                   \
    if (!__builtin_expect(static_cast<bool>(sluice_left op sluice_right), true)) {    \
      ::sluice::detail::check_op_failed(__FILE__, __LINE__, #a " " #op " " #b,        \
                                        ::sluice::detail::check_value(sluice_left),   \
                                        ::sluice::detail::check_value(sluice_right)); \
    }                                                                                 \
  } while (false)

#ifdef NDEBUG
#define SLUICE_DCHECK(cond, ...) static_cast<void>(sizeof(static_cast<bool>(cond)))
#else
#define SLUICE_DCHECK(cond, ...) SLUICE_CHECK(cond __VA_OPT__(, ) __VA_ARGS__)
#endif
