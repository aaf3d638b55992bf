// work_access: how the pool reads and writes the private half of a work.
//
// A work has 64 bytes, so three of its words hold one thing while the program owns it and another while the pool does. What
// each place keeps there:
//
// | place of the work              | next_ / deadline_     | domain_ / entry_               | key_ / prev_  |
// |--------------------------------|-----------------------|--------------------------------|---------------|
// | idle; a chain's later member   | deadline, if timed    | domain, or null                | key           |
// | an inbox; a forward_fifo       | next                  | domain, or null                | key           |
// | an account's queue (no key)    | next                  | last of its batch, or null     | previous      |
// | waiting for its key            | next                  | the key's entry                | previous      |
// | a worker's batch               | next                  | the key's entry, or null       | previous      |
// | current, ending, in its release| (free)                | domain, or null                | key           |
//
// restore_key() turns each of the middle rows into the last one. A thread that takes a work out of one of those places calls it
// before anything else reads the work. accept_head() turns the first row into an inbox's.
//
// Thread safety:  none; the lock of the place that the work is in protects it.
// Invariants:     W3
#pragma once

#include <utility>

#include "sluice/wq/work.h"

namespace sluice::detail {

enum class work_state : std::uint8_t { idle = 0, accepted = 1 };

struct work_access {
  [[nodiscard]] static work_state state(const work& w) noexcept { return static_cast<work_state>(w.state_ & 1U); }
  static void set_state(work& w, work_state state) noexcept { w.state_ = std::to_underlying(state); }
  // Accepted, not cut, and which of its account's lanes it belongs to.
  static void accept(work& w, unsigned lane) noexcept {
    w.state_ = static_cast<std::uint8_t>(std::to_underlying(work_state::accepted) | lane << 1U);
  }
  // Requires: accepted.
  [[nodiscard]] static unsigned lane(const work& w) noexcept { return w.state_ >> 1U & 7U; }
  [[nodiscard]] static work*& next(work& w) noexcept { return w.next_; }
  [[nodiscard]] static work*& prev(work& w) noexcept { return w.prev_; }
  // The next member of its chain.
  [[nodiscard]] static work*& link(work& w) noexcept { return w.link_; }
  [[nodiscard]] static std::uint32_t& slot(work& w) noexcept { return w.slot_; }
  [[nodiscard]] static std::uint16_t& home(work& w) noexcept { return w.home_; }

  [[nodiscard]] static bool timed(const work& w) noexcept { return w.timed_ != 0; }
  static void set_timed(work& w, bool timed) noexcept { w.timed_ = timed ? 1 : 0; }
  // Requires: timed, and in the table's first row.
  [[nodiscard]] static steady_time deadline(const work& w) noexcept {
    return steady_time(steady_time::duration(w.deadline_));
  }
  static void put_deadline(work& w, steady_time deadline) noexcept {
    w.deadline_ = deadline.time_since_epoch().count();
  }
  // By which cancel the chain was cut from this member on, so that it is given up when its turn comes; 0: by none. At most 15. Read
  // and written under the lock of the place that the chain is in.
  [[nodiscard]] static unsigned cut(const work& w) noexcept { return w.state_ >> 4U; }
  static void set_cut(work& w, unsigned by) noexcept {
    w.state_ = static_cast<std::uint8_t>((w.state_ & 0x0FU) | by << 4U);
  }
  static constexpr unsigned cut_by_handle = 15;
  // A chain's later member, written as `timed` is under that lock once the chain is accepted: an entry for its key is set aside in the key table.
  [[nodiscard]] static bool entry_promised(const work& w) noexcept { return w.entry_promised_ != 0; }
  static void set_entry_promised(work& w, bool promised) noexcept { w.entry_promised_ = promised ? 1 : 0; }

  // Of a keyed work that waits.
  [[nodiscard]] static void* entry(const work& w) noexcept { return w.entry_; }
  static void set_entry(work& w, void* entry) noexcept { w.entry_ = entry; }
  // Of a work without a key, the first of a batch that waits (batch_fifo.h).
  [[nodiscard]] static work& batch_end(const work& w) noexcept { return *static_cast<work*>(w.entry_); }
  static void set_batch_end(work& w, work& end) noexcept { w.entry_ = &end; }
  // A null domain: the work has no key.
  static void restore_key(work& w, hash_domain* domain, std::uint64_t key) noexcept {
    w.domain_ = domain;
    if (domain != nullptr) {
      w.key_ = key;
    }
  }

  static void drop_identity(work& w) noexcept { w.identity_.reset(); }
  static void run(work& w, work_context& ctx) noexcept { w.ops_->run(w, ctx); }
  static void release(work& w) noexcept { w.ops_->release(w); }
  [[nodiscard]] static work_context context(void* token) noexcept { return work_context(token); }
};

}  // namespace sluice::detail
