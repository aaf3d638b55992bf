// immortal: a process-wide object that is made at its first use and never destroyed, so that threads that end late may use it.
//
//   registry& the_registry() noexcept {
//     static immortal<registry> instance;
//     return *instance;
//   }
//
// Ownership:      the object lies in the immortal's own memory: its first use needs none from the heap, and so cannot fail
//                 for want of it, unless the object's constructor allocates.
// Thread safety:  as the object's; a local static is made once.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace sluice {

template <class Type>
class immortal {
 public:
  template <class... Args>
  explicit immortal(Args&&... args) noexcept(noexcept(Type(std::forward<Args>(args)...)))
      : object_(::new(static_cast<void*>(place_)) Type(std::forward<Args>(args)...)) {}
  immortal(const immortal&) = delete;
  immortal& operator=(const immortal&) = delete;

  [[nodiscard]] Type& operator*() noexcept { return *object_; }

 private:
  alignas(Type) std::byte place_[sizeof(Type)];
  Type* object_;
};

}  // namespace sluice
