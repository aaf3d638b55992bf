// ref_tracker: who still holds a count on this object? Answered in builds that ask (SLUICE_REF_TRACKER=1).
//
// A leak of a counted object is a put that nobody did; the count says that there is one, not whose. With the tracker
// on, every ref<T> files itself with a tag and the stack that made it, and the list of live holders can be printed:
//
//   ref<session> held = ref<session>::retain(s, "reply in flight");
//   …
//   ref_tracker_expect_gone(*s);    // prints every holder and returns false if there is one
//
// An object that is destroyed while a ref still points at it (a put too many) prints its holders and aborts.
// Off, all of this is empty types and empty inline functions: no bytes, no code. Counts taken by a bare get() are not
// seen.
//
// Thread safety:  any thread.
// Blocking:       takes one of 16 internal mutexes; prints to stderr.
// Cost:           on: a backtrace and a small allocation per ref. Off: none (static_asserts in ref.h).
#pragma once

#include <cstddef>
#include <utility>

#ifndef SLUICE_REF_TRACKER
#define SLUICE_REF_TRACKER 0
#endif

namespace sluice {

inline constexpr bool ref_tracker_on = SLUICE_REF_TRACKER != 0;

#if SLUICE_REF_TRACKER

// Why a count is held. Requires: the text lives as long as the holder (a literal).
class ref_tag {
 public:
  constexpr ref_tag() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a literal is the tag
  constexpr ref_tag(const char* text) noexcept : text_(text) {}
  [[nodiscard]] constexpr const char* text() const noexcept { return text_; }

 private:
  const char* text_ = "";
};

namespace detail {

struct ref_holder;
[[nodiscard]] ref_holder* ref_tracker_add(const void* key, const char* type, ref_tag tag) noexcept;
void ref_tracker_remove(ref_holder* holder) noexcept;
[[nodiscard]] ref_tag ref_tracker_tag(const ref_holder* holder) noexcept;
void ref_tracker_destroyed(const void* key, const char* type) noexcept;
[[nodiscard]] std::size_t ref_tracker_count(const void* key) noexcept;
[[nodiscard]] bool ref_tracker_gone(const void* key) noexcept;

// The part of a ref<T> that files it.
class ref_token {
 public:
  ref_token() = default;
  ref_token(const void* key, const char* type, ref_tag tag) noexcept : holder_(ref_tracker_add(key, type, tag)) {}
  ref_token(ref_token&& other) noexcept : holder_(std::exchange(other.holder_, nullptr)) {}
  ref_token& operator=(ref_token&& other) noexcept {
    if (this != &other) {
      drop();
      holder_ = std::exchange(other.holder_, nullptr);
    }
    return *this;
  }
  ~ref_token() { drop(); }
  void drop() noexcept {
    if (holder_ != nullptr) {
      ref_tracker_remove(std::exchange(holder_, nullptr));
    }
  }
  [[nodiscard]] ref_tag tag() const noexcept { return holder_ == nullptr ? ref_tag{} : ref_tracker_tag(holder_); }

 private:
  ref_holder* holder_ = nullptr;
};

}  // namespace detail

#else

class ref_tag {
 public:
  constexpr ref_tag() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a literal is the tag
  constexpr ref_tag(const char* /*text*/) noexcept {}
};

namespace detail {

class ref_token {
 public:
  constexpr ref_token() = default;
  constexpr ref_token(const void* /*key*/, const char* /*type*/, ref_tag /*tag*/) noexcept {}
  static constexpr void drop() noexcept {}
  [[nodiscard]] static constexpr ref_tag tag() noexcept { return {}; }
};

inline void ref_tracker_destroyed(const void* /*key*/, const char* /*type*/) noexcept {}
[[nodiscard]] inline std::size_t ref_tracker_count(const void* /*key*/) noexcept {
  return 0;
}
[[nodiscard]] inline bool ref_tracker_gone(const void* /*key*/) noexcept {
  return true;
}

}  // namespace detail

#endif

// How many refs hold this object. 0 when the tracker is off.
template <class Object>
[[nodiscard]] std::size_t ref_tracker_holders(const Object& object) noexcept {
  return detail::ref_tracker_count(object.ref_key());
}

// Says that nobody should hold this object any more: prints each live holder (tag, stack) to stderr.
// Returns true if there is none; always true when the tracker is off. Requires: the memory is still there.
template <class Object>
[[nodiscard]] bool ref_tracker_expect_gone(const Object& object) noexcept {
  return detail::ref_tracker_gone(object.ref_key());
}

}  // namespace sluice
