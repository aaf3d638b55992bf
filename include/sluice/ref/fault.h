// fault: what a reference count says when it is misused, and who hears it.
//
// A count that is misused never frees: it saturates (the object leaks) and reports. The default handler writes each
// kind of fault once per process to stderr, with the object's type and address and a stack trace, and goes on. A
// program that would rather die, and every test, installs another handler.
//
// Thread safety:  any thread. A handler may be called by several threads at once.
// Blocking:       the handler decides; the default one writes to stderr.
// Errors:         none. A handler must not throw.
// Invariants:     R2
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice {

// The kernel's five (include/linux/refcount.h).
enum class refcount_fault : std::uint8_t {
  add_overflow,           // a get or add beyond 2^31, or on a saturated count
  add_not_zero_overflow,  // the same in get_unless_zero or add_not_zero
  add_from_zero,          // a get on a count that was 0: use after free
  sub_underflow,          // more puts than gets
  dec_to_zero,            // a plain dec took the last count: nobody will release the object
};
inline constexpr std::size_t refcount_fault_kinds = 5;

// The kind in words.
[[nodiscard]] const char* to_string(refcount_fault fault) noexcept;

// Whose count it is. Names the object in a report; looked at only when there is something to report.
struct refcount_owner {
  const void* object = nullptr;
  const char* type = nullptr;
};

struct refcount_fault_report {
  refcount_fault fault;
  refcount_owner owner;
  // What the count was before the faulty operation; about that, if others worked on it at the same time.
  std::int64_t found;
};

using refcount_fault_handler = void (*)(const refcount_fault_report& report) noexcept;

// Installs a handler, or the default one for nullptr. Returns the handler that was there. Every fault reaches the
// handler; "once per kind" is the default handler's own rule.
refcount_fault_handler set_refcount_fault_handler(refcount_fault_handler handler) noexcept;

// The default handler: each kind once per process, with a stack trace.
void report_refcount_fault_once(const refcount_fault_report& report) noexcept;

// A handler that writes the report and aborts.
[[noreturn]] void abort_on_refcount_fault(const refcount_fault_report& report) noexcept;

namespace detail {

// Calls the handler. Out of line and cold, so that a get stays one instruction and a predicted branch.
[[gnu::cold, gnu::noinline]] void refcount_faulted(refcount_fault fault, refcount_owner owner,
                                                   std::int64_t found) noexcept;

template <class Type>
[[nodiscard]] consteval auto type_name_chars() {
  // The compiler's own spelling: "... [with Type = sluice::file; ...]" (GCC) or "... [Type = sluice::file]" (clang).
  constexpr std::string_view all = __PRETTY_FUNCTION__;
  constexpr std::string_view key = "Type = ";
  constexpr std::size_t begin = all.find(key) + key.size();
  constexpr std::size_t end = all.find_first_of(";]", begin);
  std::array<char, end - begin + 1> name{};
  for (std::size_t i = 0; i < end - begin; ++i) {
    name[i] = all[begin + i];
  }
  return name;
}

template <class Type>
inline constexpr auto type_name_storage = type_name_chars<Type>();

// A type's name as the compiler spells it, for messages.
template <class Type>
[[nodiscard]] constexpr const char* type_name() noexcept {
  return type_name_storage<Type>.data();
}

}  // namespace detail
}  // namespace sluice
