// options: what to explore, how much of it, and under which memory model.
#pragma once

#include <cstdint>
#include <limits>

namespace race {

enum class mode : std::uint8_t {
  // Seeded schedules of several tempers: uniform, sticky, and with random priorities (PCT).
  random,
  // Every schedule, depth first. For two or three fibers of a few operations.
  exhaustive,
};

// What a fiber may observe besides the interleaving. Whatever the choice, unordered accesses are reported (race.h).
enum class memory : std::uint8_t {
  // Operations take effect at once, for everybody.
  sc,
  // A store that is not seq_cst may wait in its fiber's buffer, past later loads, until a read-modify-write, a seq_cst
  // store, a lock, a wait, a wake or the scheduler lets it out: "publish, then look" without seq_cst fails here.
  store_buffers,
  // Store buffers, and a load may return an older value as long as coherence, happens-before and the single order of
  // seq_cst operations allow it.
  weak,
};

inline constexpr std::uint32_t unlimited = std::numeric_limits<std::uint32_t>::max();

struct options {
  // The first schedule's seed is made of this; the same options explore the same schedules.
  std::uint64_t seed = 1;
  // How many schedules; in exhaustive mode the cap. Random mode runs 3 per cent under a sanitizer, and
  // SLUICE_RACE_SCHEDULES per cent of them if that is set; of more than 500 at least 500.
  std::uint64_t schedules = 10'000;
  // How often per schedule a fiber that could go on is put aside for another.
  std::uint32_t max_preemptions = unlimited;
  mode how = mode::random;
  memory model = memory::weak;
  // Per schedule: wakes without a reason and weak compare-exchanges that fail without one.
  std::uint32_t max_spurious = 2;
  // Per schedule: deadlines that pass while somebody else could run. One passes in any case if nobody else can.
  std::uint32_t max_timeouts = 4;
  // Per schedule: loads that return an older value.
  std::uint32_t max_stale = 8;
  // A schedule of more operations than this is reported as a livelock.
  std::uint32_t max_steps = 20'000;
};

}  // namespace race
