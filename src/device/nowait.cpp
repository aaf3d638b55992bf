#include "sluice/device/nowait.h"

#include <algorithm>
#include <new>

#include "sluice/base/immortal.h"

namespace sluice {

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

nowait_lane::trial nowait_lane::begin(clock_seam& clock) noexcept {
  // acquire: pairs with shut(): with the state comes the number at which it ends.
  const nowait_state state = state_.load(std::memory_order_acquire);
  if (state == nowait_state::refused) {
    return {};
  }
  if (state == nowait_state::does_not_pay || state == nowait_state::lies) {
    const std::uint64_t nth = skipped_.fetch_add(1, std::memory_order_relaxed) + 1;
    if (nth != resume_at_.load(std::memory_order_relaxed)) {
      return {};
    }
    reopen(state);  // by exactly one: each number is one caller's
  }
  trial now;
  now.go = true;
  now.timed = watch_.load(std::memory_order_relaxed) > 0 || calls_.load(std::memory_order_relaxed) % sampled == 0;
  if (now.timed) {
    now.began = clock.now();
  }
  return now;
}

void nowait_lane::end(const trial& now, nowait_outcome outcome, clock_seam& clock) noexcept {
  const std::uint64_t nth = calls_.fetch_add(1, std::memory_order_relaxed) + 1;
  const std::uint64_t punts = outcome == nowait_outcome::all ? punts_.load(std::memory_order_relaxed)
                                                             : punts_.fetch_add(1, std::memory_order_relaxed) + 1;
  nowait_state state = state_.load(std::memory_order_relaxed);
  if (state == nowait_state::unknown) {
    // Where it once worked a refusal is about one file, and the window will tell whether these are many.
    const bool never_worked = punts >= nth;
    if (outcome == nowait_outcome::refused && never_worked) {
      state_.compare_exchange_strong(state, nowait_state::refused, std::memory_order_relaxed);
      return;
    }
    if (outcome != nowait_outcome::refused) {
      state_.compare_exchange_strong(state, nowait_state::works, std::memory_order_relaxed);
    }
  }
  if (now.timed) {
    judge_time(clock.now() - now.began);
  }
  if (nth % window == 0) {
    judge_window(punts);
  }
}

void nowait_lane::judge_time(std::chrono::nanoseconds took) noexcept {
  if (took > late_after) {
    late_.fetch_add(1, std::memory_order_relaxed);
    watch_.store(watched, std::memory_order_relaxed);
    const std::uint32_t late = recent_late_.fetch_add(1, std::memory_order_relaxed) + 1;
    // Equal: of those that are late at once one decides.
    if (late == late_limit_.load(std::memory_order_relaxed)) {
      const std::uint32_t before = times_lied_.fetch_add(1, std::memory_order_relaxed);
      shut(nowait_state::lies, lie_rest << std::min(before, 8U));
    }
  } else if (watch_.load(std::memory_order_relaxed) > 0 && watch_.fetch_sub(1, std::memory_order_relaxed) == 1) {
    recent_late_.store(0, std::memory_order_relaxed);
    late_limit_.store(late_limit, std::memory_order_relaxed);
  }
}

void nowait_lane::judge_window(std::uint64_t punts) noexcept {
  const std::uint64_t before = window_punts_.exchange(punts, std::memory_order_relaxed);
  if (punts - before > window - few_hits && state_.load(std::memory_order_relaxed) != nowait_state::lies) {
    shut(nowait_state::does_not_pay, rest);
  }
}

void nowait_lane::shut(nowait_state why, std::uint64_t for_attempts) noexcept {
  resume_at_.store(skipped_.load(std::memory_order_relaxed) + for_attempts, std::memory_order_relaxed);
  state_.store(why, std::memory_order_release);  // pairs with begin()
}

void nowait_lane::reopen(nowait_state from) noexcept {
  window_punts_.store(punts_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  recent_late_.store(0, std::memory_order_relaxed);
  late_limit_.store(from == nowait_state::lies ? 1 : late_limit, std::memory_order_relaxed);
  watch_.store(watched, std::memory_order_relaxed);
  state_.store(nowait_state::unknown, std::memory_order_release);  // after what it starts with
}

nowait_figures nowait_lane::figures() const noexcept {
  const std::uint64_t punts = punts_.load(std::memory_order_relaxed);
  const std::uint64_t calls = calls_.load(std::memory_order_relaxed);
  return {.state = state(),
          .hits = calls - std::min(punts, calls),
          .punts = punts,
          .late = late_.load(std::memory_order_relaxed),
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
        into[count] = {.device = each->device(), .read = each->read.figures(), .write = each->write.figures()};
      }
      ++count;
    }
  }
  return count;
}

}  // namespace sluice
