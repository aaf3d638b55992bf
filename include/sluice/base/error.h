// error: how an operating error travels: a std::expected with a std::error_code.
//
// Codes are errno values in std::system_category(), so `ec == std::errc::no_space_on_device` works and value() is the
// errno that a protocol or a caller of C code wants. Programmer errors are not results: see check.h.
#pragma once

#include <cerrno>
#include <expected>
#include <system_error>

namespace sluice {

// A value or an errno. Always looked at: every function that returns one is [[nodiscard]].
template <class Value>
using result = std::expected<Value, std::error_code>;

// The error of an errno value, positive as errno has it.
[[nodiscard]] inline std::error_code error_of(int err) noexcept {
  return {err, std::system_category()};
}

// The failing half of a result<T>, to return.
[[nodiscard]] inline std::unexpected<std::error_code> fail(int err) noexcept {
  return std::unexpected(error_of(err));
}

// The same from errno. Call it before anything else may change errno.
[[nodiscard]] inline std::unexpected<std::error_code> fail_errno() noexcept {
  return fail(errno);
}

}  // namespace sluice
