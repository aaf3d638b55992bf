// rcu: readers that take no lock, and memory that waits for them. The names and signatures of C++26 [saferecl.rcu].
//
//   reader                                          writer
//   const std::scoped_lock section(rcu_default_domain());
//   const table* t = current.load(acquire);         table* old = current.exchange(fresh, acq_rel);   // unlink first
//   … use *t, only until the section closes …       old->retire();                                   // then retire
//
// A read section is the scope between lock() and unlock(). retire() and rcu_retire() run a deleter after every section
// that was open when they were called has closed (R7), on one thread of ours ("sluice-rcu"), never in the caller.
// An object that is found this way and kept beyond the section needs a count: get_unless_zero inside the section (R6).
//
// Where the draft leaves freedom, we choose: retire never runs a deleter in its caller, so it may be called under any
// lock and in a read section; deleters run one at a time in the order of their retires; rcu_barrier waits for deleters
// that have truly returned, and is not a poll.
//
//                    in a read section   in a deleter     under a lock
//   lock, unlock     nests               yes              yes
//   retire           yes                 yes              yes
//   rcu_synchronize  dies, with advice   yes, slow        only one that no reader and no deleter takes
//   rcu_barrier      dies, with advice   dies             only one that no reader and no deleter takes
//
// Ownership:      a retired object is the domain's. Retiring it twice is a programmer error and dies naming it.
// Thread safety:  any thread; it registers itself at its first lock(). A thread that ends inside a read section dies,
//                 with a message, as does a process that exits inside one.
// Blocking:       lock, unlock, retire never (the first retire starts a thread). Do not block in a read section.
// Ordering:       the end of a section that was open at retire() happens before the deleter, one that was open at
//                 rcu_synchronize() before its return, a deleter before the return of the rcu_barrier() that waited.
// Errors:         rcu_retire may throw bad_alloc, before anything is scheduled. If the reclaimer thread cannot be made,
//                 objects wait until it can, or until rcu_barrier or the end of the process runs them.
// Limits:         one domain for all; as many pending objects as there is memory: watch rcu_get_statistics().
//                 In the child of a fork that did not exec, retired objects leak and waiting dies.
// Cost:           a read section writes nothing shared; retire is one push on a shared list; a rcu_obj_base is 24 bytes
//                 and the deleter (none if empty). Figures: `sluice-bench ref`.
// Invariants:     R6 R7
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "sluice/base/annotations.h"
#include "sluice/base/thread.h"
#include "sluice/ref/fault.h"

namespace sluice {

class rcu_domain;

namespace detail {

// One scheduled deletion: run(object). Chained while it waits.
struct rcu_node {
  rcu_node* next = nullptr;
  void (*run)(void* object) noexcept = nullptr;
  void* object = nullptr;
};

// What a domain does; the machine's is built in, a race test brings a deterministic one (rcu_model.h).
class rcu_backend {
 public:
  rcu_backend() = default;
  rcu_backend(const rcu_backend&) = delete;
  rcu_backend& operator=(const rcu_backend&) = delete;
  virtual void lock() noexcept = 0;
  virtual void unlock() noexcept = 0;
  virtual void retire(rcu_node& node) noexcept = 0;
  virtual void synchronize() noexcept = 0;
  virtual void barrier() noexcept = 0;

 protected:
  ~rcu_backend() = default;
};

void rcu_schedule(rcu_domain& dom, rcu_node& node) noexcept;
[[noreturn, gnu::cold]] void rcu_retired_twice(const void* object, const char* type) noexcept;

}  // namespace detail

// Opens and closes read sections; a Cpp17Lockable for std::scoped_lock. Sections nest.
class rcu_domain {
 public:
  rcu_domain(const rcu_domain&) = delete;
  rcu_domain& operator=(const rcu_domain&) = delete;

  // Opens a section. The thread registers at its first one.
  void lock() noexcept;
  // The same. Returns true.
  bool try_lock() noexcept {
    lock();
    return true;
  }
  // Closes the section opened last. Requires: there is one (dies otherwise).
  void unlock() noexcept;

 protected:
  explicit rcu_domain(detail::rcu_backend& backend) noexcept : backend_(&backend) {}
  ~rcu_domain() = default;

 private:
  constexpr rcu_domain() noexcept = default;
  friend rcu_domain& rcu_default_domain() noexcept;
  friend void rcu_synchronize(rcu_domain& dom) noexcept;
  friend void rcu_barrier(rcu_domain& dom) noexcept;
  friend void detail::rcu_schedule(rcu_domain& dom, detail::rcu_node& node) noexcept;

  detail::rcu_backend* backend_ = nullptr;  // null: the machine's
};

// The domain of the process. Always the same one.
[[nodiscard]] rcu_domain& rcu_default_domain() noexcept;

// Waits until every section that was open when it was called has closed. Blocks. Requires: not inside a section.
void rcu_synchronize(rcu_domain& dom = rcu_default_domain()) noexcept;

// Waits until the deleter of every object retired before has returned. Blocks. Requires: not inside a section, not in a
// deleter. It also waits for a grace period if objects are pending, which the draft does not promise.
void rcu_barrier(rcu_domain& dom = rcu_default_domain()) noexcept;

// The base of an object that is retired without an allocation. T is the class itself, D what ends it.
// Trivially copyable if D is. A copy is a new object: it is not retired, whatever the original was. Copying an object
// that another thread retires at that moment is a data race; copy its payload instead.
template <class T, class D = std::default_delete<T>>
class rcu_obj_base {
 public:
  // Schedules d(this) for after the grace period. Requires: unlinked already, so that no new reader can find it; once.
  void retire(D d = D(), rcu_domain& dom = rcu_default_domain()) noexcept {
    static_assert(std::is_base_of_v<rcu_obj_base, T>, "T is the class that derives from rcu_obj_base<T, D>");
    // The node remembers the address it was retired at: that marks it, and a copy (another address) is not marked.
    // relaxed: of two retires that race on one object the exchange picks the guilty one; nothing else is read.
    std::atomic_ref<void*> mark(rcu_node_.object);
    if (mark.exchange(this, std::memory_order_relaxed) == this) [[unlikely]] {
      detail::rcu_retired_twice(static_cast<T*>(this), detail::type_name<T>());
    }
    rcu_deleter_ = std::move(d);
    rcu_node_.run = [](void* object) noexcept {
      auto* base = static_cast<rcu_obj_base*>(object);
      D deleter = std::move(base->rcu_deleter_);  // the object it lives in is about to go
      deleter(static_cast<T*>(base));
    };
    detail::rcu_schedule(dom, rcu_node_);
  }

 protected:
  rcu_obj_base() = default;
  rcu_obj_base(const rcu_obj_base&) = default;
  rcu_obj_base(rcu_obj_base&&) = default;
  rcu_obj_base& operator=(const rcu_obj_base&) = default;
  rcu_obj_base& operator=(rcu_obj_base&&) = default;
  ~rcu_obj_base() = default;

 private:
  // Long names: a derived class sees them in its lookups.
  detail::rcu_node rcu_node_;
  [[no_unique_address]] D rcu_deleter_;
};

// The same for any object, with an allocation for the bookkeeping. Throws bad_alloc or what moving d throws; nothing is
// scheduled then, and the caller still owns *p.
template <class T, class D = std::default_delete<T>>
void rcu_retire(T* p, D d = D(), rcu_domain& dom = rcu_default_domain()) {
  static_assert(std::is_move_constructible_v<D> && std::is_invocable_v<D&, T*>);
  struct scheduled {
    detail::rcu_node node;
    T* object;
    D deleter;
    scheduled(T* ptr, D&& with) : object(ptr), deleter(std::move(with)) {}
  };
  auto* entry = new scheduled(p, std::move(d));
  entry->node.object = entry;
  entry->node.run = [](void* self) noexcept {
    const std::unique_ptr<scheduled> owned(static_cast<scheduled*>(self));
    owned->deleter(owned->object);
  };
  detail::rcu_schedule(dom, entry->node);
}

// The release policy of a kref that readers find under RCU: the last put retires the object.
//   class entry : public kref<entry, rcu_release>, public rcu_obj_base<entry> { … };
// Requires: the object is unlinked when the last count goes, or every lookup uses get_unless_zero().
struct rcu_release {
  template <class Object>
  void operator()(Object* object) const noexcept {
    object->retire();
  }
};

struct rcu_statistics {
  std::uint64_t retired = 0;               // ever
  std::uint64_t deleted = 0;               // deleters that have returned
  std::uint64_t grace_periods = 0;         // that the reclaimer has waited for
  std::chrono::nanoseconds oldest_age{0};  // how long the oldest pending object waits; 0 if none does

  [[nodiscard]] std::uint64_t pending() const noexcept { return retired - deleted; }
};

// The default domain's figures, each exact, not taken at one instant. deleted never exceeds retired.
[[nodiscard]] rcu_statistics rcu_get_statistics() noexcept;

// Where the default domain gets its thread from; for tests. Requires: outlives the process's last retire.
void rcu_use_threads(thread_seam& seam) noexcept;

}  // namespace sluice
