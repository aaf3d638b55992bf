// wq_cancel_counts: the kinds of cancel on the race rig; cancels of many jobs at once, and the check that each was counted once (C6).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "race/wq_rig.h"

namespace test {

// C6: checks, at the return of a cancel of all jobs [0, count), none of which ends before it is asked, that each was counted
// exactly once: as cancelled if the canceller ran it, otherwise as running.
inline void check_each_counted_once(const wq_rig& rig, std::size_t count, sluice::cancel_counts counts) {
  std::size_t given_up = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const race_job& job = rig.jobs[i];
    if (job.runs == 1 && !job.on_worker) {
      ++given_up;
      race::check(job.releases == 1, "what was cancelled is over (C1)");
    }
  }
  race::check(counts.cancelled == given_up, "cancelled: those that the canceller gave up, and no others (C6)");
  race::check(counts.running == count - given_up, "running: all others, each once (C6)");
}

enum class cancel_kind : std::uint8_t { all, by_owner, chosen, by_handle };

// Cancels in that way what has this handle, or this owner.
inline void cancel_by(wq_rig& rig, cancel_kind how, sluice::work_handle name, std::uint64_t owner) {
  switch (how) {
    case cancel_kind::by_handle:
      static_cast<void>(rig.pool.cancel(name));
      break;
    case cancel_kind::by_owner:
      rig.pool.cancel_owner(owner);
      break;
    case cancel_kind::all:
      rig.pool.cancel_all();
      break;
    case cancel_kind::chosen:
      static_cast<void>(rig.pool.cancel_chosen(
          [](void* of, const sluice::work_view& view) { return view.owner == *static_cast<std::uint64_t*>(of); },
          &owner));
  }
}

inline constexpr std::uint64_t owner_of_all = 7;

// Jobs [0, count) have that owner. Those that the predicate sees are checked to be jobs, each seen once.
inline sluice::cancel_counts cancel_many(wq_rig& rig, cancel_kind how, std::size_t count) {
  struct looks {
    wq_rig& rig;
    std::size_t count;
    std::array<int, 6> seen{};
  } all{rig, count};
  switch (how) {
    case cancel_kind::all:
      return rig.pool.cancel_all();
    case cancel_kind::by_owner:
      return rig.pool.cancel_owner(owner_of_all);
    case cancel_kind::by_handle:  // means one work: cancel_by()
    case cancel_kind::chosen:
      break;
  }
  const auto choose = [](void* of, const sluice::work_view& view) {
    auto& at = *static_cast<looks*>(of);
    for (std::size_t i = 0; i < at.count; ++i) {
      at.seen[i] += view.address == &at.rig.jobs[i] ? 1 : 0;
    }
    return view.owner == owner_of_all;
  };
  const auto counts = rig.pool.cancel_chosen(choose, &all);
  race::check(counts.has_value(), "there is memory");
  for (std::size_t i = 0; i < count; ++i) {
    race::check(all.seen[i] == 1, "the predicate is asked about each work once (C6)");
  }
  return counts.value_or(sluice::cancel_counts{});
}

}  // namespace test
