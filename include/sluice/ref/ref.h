// ref: one count on an object, as a value.
//
//   ref<session> s = make_ref<session>(socket);        // the first count
//   std::thread t([held = s] { held->serve(); });      // rule 1: a copy is a get, made before the hand-off
//   if (ref<session> found = ref<session>::try_get(p)) // rule 3: in a read section; empty if the last count is gone
//
// Any class with get(), put() and get_unless_zero() will do; kref<T> gives them.
//
// Ownership:      a non-empty ref owns one count; adopt() takes one over, release() gives it away.
// Thread safety:  as a pointer: distinct refs to one object from any thread, one ref by one thread at a time.
// Blocking:       the last one to go runs the object's release.
// Cost:           the size of a pointer; copy = get, destruction = put, move = free. (SLUICE_REF_TRACKER adds a
// pointer.) Invariants:     R1
#pragma once

#include <compare>
#include <concepts>
#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

#include "sluice/ref/fault.h"
#include "sluice/ref/ref_tracker.h"

namespace sluice {

template <class Type>
class ref {
 public:
  using element_type = Type;

  // Empty.
  constexpr ref() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): nullptr is the empty ref
  constexpr ref(std::nullptr_t) noexcept {}

  ref(const ref& other) noexcept : ref(retain(other.pointer_, other.token_.tag())) {}
  ref(ref&& other) noexcept : pointer_(std::exchange(other.pointer_, nullptr)), token_(std::move(other.token_)) {}

  // From a ref to a derived object: the same count.
  template <class Other>
    requires(!std::same_as<Other, Type> && std::convertible_to<Other*, Type*>)
  // NOLINTNEXTLINE(google-explicit-constructor): as Other* converts to Type*
  ref(const ref<Other>& other) noexcept : ref(retain(other.pointer_, other.token_.tag())) {}
  template <class Other>
    requires(!std::same_as<Other, Type> && std::convertible_to<Other*, Type*>)
  // NOLINTNEXTLINE(google-explicit-constructor): as Other* converts to Type*
  ref(ref<Other>&& other) noexcept
      : pointer_(std::exchange(other.pointer_, nullptr)), token_(std::move(other.token_)) {}

  // By value: one definition for copy and move, and safe against `r = r->next`, where the old object owns the new one.
  ref& operator=(ref other) noexcept {
    swap(other);
    return *this;
  }

  ~ref() { reset(); }

  // Takes over a count that the caller owns (the first one of a new object, one that release() gave away).
  [[nodiscard]] static ref adopt(Type* object, ref_tag tag = {}) noexcept { return ref(object, tag); }

  // Adds a count. Requires: the caller owns one, or a lock keeps one there.
  [[nodiscard]] static ref retain(Type* object, ref_tag tag = {}) noexcept {
    if (object != nullptr) {
      object->get();
    }
    return ref(object, tag);
  }

  // Adds a count unless the last is gone; empty then. Requires: the memory is kept (a lock or a read section).
  [[nodiscard]] static ref try_get(Type* object, ref_tag tag = {}) noexcept {
    return object != nullptr && object->get_unless_zero() ? ref(object, tag) : ref();
  }

  // Gives the count away, to be adopted or put elsewhere. Empty afterwards.
  [[nodiscard]] Type* release() noexcept {
    token_.drop();
    return std::exchange(pointer_, nullptr);
  }

  // Puts the count. Empty afterwards.
  void reset() noexcept {
    // Emptied first: the release may come back to this very ref.
    if (Type* object = release()) {
      object->put();
    }
  }

  void swap(ref& other) noexcept {
    std::swap(pointer_, other.pointer_);
    std::swap(token_, other.token_);
  }
  friend void swap(ref& a, ref& b) noexcept { a.swap(b); }

  [[nodiscard]] Type* get() const noexcept { return pointer_; }
  [[nodiscard]] Type& operator*() const noexcept { return *pointer_; }
  [[nodiscard]] Type* operator->() const noexcept { return pointer_; }
  [[nodiscard]] explicit operator bool() const noexcept { return pointer_ != nullptr; }

  // By address.
  friend bool operator==(const ref& a, const ref& b) noexcept { return a.pointer_ == b.pointer_; }
  friend bool operator==(const ref& a, std::nullptr_t) noexcept { return a.pointer_ == nullptr; }
  friend std::strong_ordering operator<=>(const ref& a, const ref& b) noexcept {
    return std::compare_three_way{}(a.pointer_, b.pointer_);
  }

 private:
  template <class Other>
  friend class ref;

  ref(Type* object, ref_tag tag) noexcept : pointer_(object) {
    if constexpr (ref_tracker_on) {
      if (object != nullptr) {
        if constexpr (requires { object->ref_key(); }) {
          token_ = detail::ref_token(object->ref_key(), detail::type_name<Type>(), tag);
        } else {
          token_ = detail::ref_token(object, detail::type_name<Type>(), tag);
        }
      }
    } else {
      static_cast<void>(tag);
    }
  }

  Type* pointer_ = nullptr;
  [[no_unique_address]] detail::ref_token token_;
};

static_assert(ref_tracker_on || sizeof(ref<int>) == sizeof(int*), "a ref is a pointer");

// A new object and its first count. Throws what the constructor throws.
template <class Type, class... Args>
[[nodiscard]] ref<Type> make_ref(Args&&... args) {
  return ref<Type>::adopt(new Type(std::forward<Args>(args)...));
}

}  // namespace sluice

template <class Type>
struct std::hash<sluice::ref<Type>> {
  [[nodiscard]] std::size_t operator()(const sluice::ref<Type>& value) const noexcept {
    return std::hash<Type*>{}(value.get());
  }
};
