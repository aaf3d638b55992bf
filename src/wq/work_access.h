// work_access: the wq floor's way to the private half of a work.
#pragma once

#include <utility>

#include "sluice/wq/work.h"

namespace sluice::detail {

enum class work_state : std::uint8_t { idle = 0, accepted = 1 };

struct work_access {
  [[nodiscard]] static work_state state(const work& w) noexcept { return static_cast<work_state>(w.state_ & 1U); }
  static void set_state(work& w, work_state state) noexcept { w.state_ = std::to_underlying(state); }
  // Accepted, and which of its account's lanes it belongs to.
  static void accept(work& w, unsigned lane) noexcept {
    w.state_ = static_cast<std::uint8_t>(std::to_underlying(work_state::accepted) | lane << 1U);
  }
  // Requires: accepted.
  [[nodiscard]] static unsigned lane(const work& w) noexcept { return w.state_ >> 1U; }
  [[nodiscard]] static work*& next(work& w) noexcept { return w.next_; }
  [[nodiscard]] static work*& prev(work& w) noexcept { return w.prev_; }
  [[nodiscard]] static work*& link(work& w) noexcept { return w.link_; }
  [[nodiscard]] static std::uint32_t& slot(work& w) noexcept { return w.slot_; }
  [[nodiscard]] static std::uint16_t& home(work& w) noexcept { return w.home_; }
  [[nodiscard]] static bool timed(const work& w) noexcept { return w.timed_ != 0; }
  static void set_timed(work& w, bool timed) noexcept { w.timed_ = timed ? 1 : 0; }
  // Requires: timed and not linked.
  [[nodiscard]] static steady_time deadline(const work& w) noexcept {
    return steady_time(steady_time::duration(w.deadline_));
  }
  static void put_deadline(work& w, steady_time deadline) noexcept {
    w.deadline_ = deadline.time_since_epoch().count();
  }

  // A keyed work that waits names its key's entry; one that does not names its domain and key.
  [[nodiscard]] static void* entry(const work& w) noexcept { return w.entry_; }
  static void set_entry(work& w, void* entry) noexcept { w.entry_ = entry; }
  // Without a key, the first of a batch that waits names the last (batch_list.h).
  [[nodiscard]] static work& end(const work& w) noexcept { return *static_cast<work*>(w.entry_); }
  static void set_end(work& w, work& end) noexcept { w.entry_ = &end; }
  static void forget_end(work& w) noexcept { w.domain_ = nullptr; }
  static void set_key(work& w, hash_domain* domain, std::uint64_t key) noexcept {
    w.domain_ = domain;
    w.key_ = key;
  }

  static void drop_identity(work& w) noexcept { w.identity_.reset(); }
  static void run(work& w, work_context& ctx) noexcept { w.ops_->run(w, ctx); }
  static void release(work& w) noexcept { w.ops_->release(w); }
  [[nodiscard]] static work_context context(void* runner) noexcept { return work_context(runner); }
};

}  // namespace sluice::detail
