// handler_memory: room for one waiting Asio handler, set aside beforehand.
//
// Asio allocates for each wait. A wait that the server cannot do without (for clients, for finished requests, for a
// signal) must not fail because memory is short at that moment: it gets its room from here. Asio gives the room back
// before it calls the handler, so the handler can wait again.
//
//   descriptor.async_wait(…, boost::asio::bind_allocator(memory.allocator(), handler));
//
// Ownership:      a member of what waits; outlives its waits.
// Thread safety:  the reactor's thread.
// Errors:         none for one handler at a time of up to `bytes`; what does not fit comes from the heap (bad_alloc).
#pragma once

#include <cstddef>
#include <new>

#include <boost/asio/bind_allocator.hpp>

namespace sluice::nbd {

class handler_memory {
 public:
  static constexpr std::size_t bytes = 256;

  template <class Type>
  class allocator_for {
   public:
    using value_type = Type;

    explicit allocator_for(handler_memory& from) noexcept : from_(&from) {}
    template <class Other>
    // NOLINTNEXTLINE(google-explicit-constructor): allocators convert between their value types
    allocator_for(const allocator_for<Other>& other) noexcept : from_(other.from()) {}

    [[nodiscard]] Type* allocate(std::size_t count) { return static_cast<Type*>(from_->take(count * sizeof(Type))); }
    void deallocate(Type* room, std::size_t) noexcept { from_->give(room); }

    [[nodiscard]] handler_memory* from() const noexcept { return from_; }
    friend bool operator==(const allocator_for&, const allocator_for&) = default;

   private:
    handler_memory* from_;
  };

  handler_memory() = default;
  handler_memory(const handler_memory&) = delete;
  handler_memory& operator=(const handler_memory&) = delete;

  [[nodiscard]] allocator_for<std::byte> allocator() noexcept { return allocator_for<std::byte>(*this); }

 private:
  void* take(std::size_t wanted) {
    if (used_ || wanted > bytes) {
      return ::operator new(wanted);
    }
    used_ = true;
    return room_;
  }
  void give(void* room) noexcept {
    if (room == room_) {
      used_ = false;
    } else {
      ::operator delete(room);
    }
  }

  alignas(std::max_align_t) std::byte room_[bytes];
  bool used_ = false;
};

}  // namespace sluice::nbd
