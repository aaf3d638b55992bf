#include "sluice/device/nowait.h"

#include <algorithm>
#include <new>

#include "sluice/base/immortal.h"

namespace sluice {
namespace {

// The word of a window.
constexpr std::uint64_t one_short = std::uint64_t{1} << 32U;
constexpr std::uint64_t low_half = one_short - 1;

}  // namespace

const char* to_string(nowait_state state) noexcept {
  switch (state) {
    case nowait_state::unknown:
      return "unknown";
    case nowait_state::works:
      return "works";
    case nowait_state::refused:
      return "refused";
    case nowait_state::does_not_pay:
      return "does not pay";
    case nowait_state::lies:
      return "lies";
  }
  return "?";
}

nowait_rest::answer nowait_rest::ask(clock_seam& clock) noexcept {
  std::int64_t until = until_.load(std::memory_order_relaxed);
  if (until == none) [[likely]] {
    return answer::none;
  }
  if (clock.now().time_since_epoch().count() < until) {
    return answer::goes_on;
  }
  // Of those that find it over one resumes; a rest that another thread begins at this moment stays.
  return until_.compare_exchange_strong(until, none, std::memory_order_relaxed) ? answer::resumed : answer::none;
}

void nowait_rest::begin(steady_time until) noexcept {
  until_.store(until.time_since_epoch().count(), std::memory_order_relaxed);
}

nowait_trial nowait_lane::begin(clock_seam& clock, bool sample) noexcept {
  switch (rest_.ask(clock)) {
    case nowait_rest::answer::goes_on:
      return {};
    case nowait_rest::answer::resumed:
      late_limit_.store(1, std::memory_order_relaxed);
      recent_late_.store(0, std::memory_order_relaxed);
      watch_.store(watched, std::memory_order_relaxed);
      break;
    case nowait_rest::answer::none:
      break;
  }
  nowait_trial now;
  now.go = true;
  now.timed = sample || watch_.load(std::memory_order_relaxed) > 0;
  if (now.timed) {
    now.sleeps = clock.thread_sleeps();
    now.began = clock.now();
  }
  return now;
}

void nowait_lane::end(const nowait_trial& now, clock_seam& clock) noexcept {
  if (!now.timed) {
    return;
  }
  if (clock.now() - now.began > late_after && clock.thread_sleeps() != now.sleeps) {
    note_late(clock);
    return;
  }
  if (watch_.load(std::memory_order_relaxed) <= 0 || watch_.fetch_sub(1, std::memory_order_relaxed) != 1) {
    return;
  }
  // A watch is over.
  if (recent_late_.exchange(0, std::memory_order_relaxed) == 0) {
    lies_in_a_row_.store(0, std::memory_order_relaxed);
  }
  late_limit_.store(late_limit, std::memory_order_relaxed);
}

void nowait_lane::note_late(clock_seam& clock) noexcept {
  late_.fetch_add(1, std::memory_order_relaxed);
  watch_.store(watched, std::memory_order_relaxed);
  const std::uint32_t late = recent_late_.fetch_add(1, std::memory_order_relaxed) + 1;
  // Equal: of those that are late at once one decides.
  if (late != late_limit_.load(std::memory_order_relaxed)) {
    return;
  }
  constexpr std::uint32_t most_doublings = 6;
  static_assert(lie_rest * (1U << most_doublings) == most_rest);
  const std::uint32_t before = lies_in_a_row_.fetch_add(1, std::memory_order_relaxed);
  rest_.begin(deadline_after(clock.now(), lie_rest * (1U << std::min(before, most_doublings))));
}

nowait_trial nowait_file::begin(nowait_lane& lane, clock_seam& clock) noexcept {
  const nowait_rest::answer resting = rest_.ask(clock);
  if (resting == nowait_rest::answer::resumed) {
    state_.store(nowait_state::unknown, std::memory_order_relaxed);
  }
  nowait_trial now;
  if (resting != nowait_rest::answer::goes_on) {
    const bool sample = (window_.load(std::memory_order_relaxed) & low_half) % sampled == 0;
    now = lane.begin(clock, sample);
  }
  if (!now.go) {
    skipped_.fetch_add(1, std::memory_order_relaxed);
  }
  return now;
}

void nowait_file::end(nowait_lane& lane, const nowait_trial& now, nowait_outcome outcome, clock_seam& clock) noexcept {
  count(outcome);
  judge_refusal(outcome, clock);
  judge_window(outcome, clock);
  lane.end(now, clock);
}

void nowait_file::count(nowait_outcome outcome) noexcept {
  (outcome == nowait_outcome::all ? hits_ : punts_).fetch_add(1, std::memory_order_relaxed);
}

void nowait_file::judge_refusal(nowait_outcome outcome, clock_seam& clock) noexcept {
  if (outcome != nowait_outcome::refused) {
    if (refusals_.load(std::memory_order_relaxed) != 0) {
      refusals_.store(0, std::memory_order_relaxed);
    }
    nowait_state before = nowait_state::unknown;
    if (state_.load(std::memory_order_relaxed) == before) {
      state_.compare_exchange_strong(before, nowait_state::works, std::memory_order_relaxed);
    }
    return;
  }
  // Equal: of those that are refused at once one decides.
  if (refusals_.fetch_add(1, std::memory_order_relaxed) + 1 == refusal_limit) {
    refusals_.store(0, std::memory_order_relaxed);
    rest(nowait_state::refused, deadline_after(clock.now(), refused_rest));
  }
}

void nowait_file::judge_window(nowait_outcome outcome, clock_seam& clock) noexcept {
  const std::uint64_t one = outcome == nowait_outcome::all ? 1 : 1 + one_short;
  std::uint64_t seen = window_.load(std::memory_order_relaxed);
  std::uint64_t now = 0;
  do {
    now = seen + one;
  } while (!window_.compare_exchange_weak(seen, (now & low_half) == window ? 0 : now, std::memory_order_relaxed));
  if ((now & low_half) == window && now / one_short > window - few_hits) {
    rest(nowait_state::does_not_pay, deadline_after(clock.now(), unpaid_rest));
  }
}

void nowait_file::rest(nowait_state why, steady_time until) noexcept {
  state_.store(why, std::memory_order_relaxed);
  rest_.begin(until);
}

nowait_figures nowait_file::figures(const nowait_lane& lane) const noexcept {
  return {.state = lane.lies() ? nowait_state::lies : state_.load(std::memory_order_relaxed),
          .hits = hits_.load(std::memory_order_relaxed),
          .punts = punts_.load(std::memory_order_relaxed),
          .skipped = skipped_.load(std::memory_order_relaxed)};
}

nowait_table& nowait_table::process() noexcept {
  static immortal<nowait_table> table;
  return *table;
}

ref<nowait_record> nowait_table::of(std::uint64_t device) noexcept {
  const mutex_lock hold(lock_);
  ref<nowait_record>* place = nullptr;
  for (ref<nowait_record>& each : records_) {
    if (each && each->device() == device) {
      return each;
    }
    // A count of one is ours, and only we give out more.
    const bool better = !each || (each->use_count() == 1 && (place == nullptr));
    if (better && (place == nullptr || *place)) {
      place = &each;
    }
  }
  auto* made = new (std::nothrow) nowait_record(device);
  if (made == nullptr) {
    return {};
  }
  ref<nowait_record> fresh = ref<nowait_record>::adopt(made);
  if (place != nullptr) {
    *place = fresh;
  }
  return fresh;
}

std::size_t nowait_table::list(std::span<nowait_report> into) const noexcept {
  const mutex_lock hold(lock_);
  std::size_t count = 0;
  for (const ref<nowait_record>& each : records_) {
    if (each) {
      if (count < into.size()) {
        into[count] = {.device = each->device(),
                       .reads_lie = each->read.lies(),
                       .writes_lie = each->write.lies(),
                       .late_reads = each->read.late(),
                       .late_writes = each->write.late()};
      }
      ++count;
    }
  }
  return count;
}

}  // namespace sluice
