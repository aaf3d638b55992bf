#include "race/harness/engine.h"

#include <bit>
#include <exception>
#include <utility>

#include "sluice/base/check.h"

#include "race/harness/quarantine.h"
#include "race/harness/race.h"

namespace race::detail {
namespace {

// What the setting-up context may do beyond options::max_steps before it counts as stuck; it cannot be abandoned.
constexpr std::uint32_t setting_up_steps = 1'000'000;

thread_local constinit engine* active_engine = nullptr;

// Abandoned fibers, so that the leak checker reaches what their frames hold.
constinit strand* pinned = nullptr;

// Never repeats within a process: tells an object of this schedule from one that an earlier schedule touched last.
constinit std::uint64_t last_run_id = 0;

std::string place(std::source_location at) {
  return joined({base_name(at.file_name()), ":", std::to_string(at.line())});
}

}  // namespace

engine* engine::active() noexcept {
  return active_engine;
}

engine::engine(const options& how) : options_(how), chooser_(how) {
  strands_[0] = std::make_unique<strand>();
}

engine::~engine() = default;

void engine::run_schedule(const std::function<void(run&)>& scenario) {
  begin();
  {
    run setup(*this);
    scenario(setup);
  }
  start_fibers();
  reschedule();
  if (!abandoned_) {
    for (unsigned i = 1; i < fibers_; ++i) {
      strands_[0]->now.join(strands_[i]->now);
    }
    if (after_) {
      after_();
    }
    // The bodies hold the scenario's objects: their destructors are part of the schedule.
    for (unsigned i = 1; i < fibers_; ++i) {
      strands_[i]->body = nullptr;
    }
  }
  after_ = nullptr;
  if (chooser_.diverged()) {
    fail("the scenario is not a function of the schedule: the same decisions led elsewhere", {});
  }
  end();
}

void engine::begin() {
  SLUICE_CHECK(active_engine == nullptr, "race::explore does not nest");
  active_engine = this;
  run_id_ = ++last_run_id;
  trace_.clear();
  objects_ = 0;
  fibers_ = 1;
  current_ = 0;
  steps_ = 0;
  stale_left_ = options_.max_stale;
  spurious_left_ = options_.max_spurious;
  timeouts_left_ = options_.max_timeouts;
  abandoned_ = false;
  failed_ = false;
  message_.clear();
  strands_[0]->now = {};
  strands_[0]->now.at[0] = 1;
  quarantine_begin();
}

void engine::end() {
  if (abandoned_) {
    pin_fibers();
    // What the abandoned fibers hold stays, so what they freed stays as well.
    quarantine_keep();
  } else if (quarantine_release()) {
    fail("memory was freed twice", {});
  }
  active_engine = nullptr;
}

void engine::add_thread(std::function<void()> body) {
  SLUICE_CHECK(current_ == 0 && fibers_ < max_fibers, "at most 7 fibers, all added by the scenario itself");
  std::unique_ptr<strand>& slot = strands_[fibers_++];
  if (!slot) {
    slot = std::make_unique<strand>(&engine::strand_main);
  }
  slot->body = std::move(body);
}

void engine::start_fibers() {
  const vector_clock setup = strands_[0]->now;
  ++strands_[0]->now.at[0];
  for (unsigned i = 1; i < fibers_; ++i) {
    strand& fresh = *strands_[i];
    fresh.now = setup;
    fresh.now.at[i] = 1;
    fresh.state = strand::status::ready;
    fresh.wants = nullptr;
    fresh.sleeps_on = nullptr;
    fresh.waits_for = 0;
    fresh.spinning = false;
    fresh.buffer.clear();
  }
  starting_ = true;
  for (unsigned i = 1; i < fibers_; ++i) {
    switch_to(i);
  }
  starting_ = false;
}

void engine::strand_main(void* argument) {
  strand& me = *static_cast<strand*>(argument);
  for (;;) {
    try {
      me.body();
    } catch (const std::exception& error) {
      active_engine->fail(joined({"an exception left a fiber: ", error.what()}), {});
    } catch (...) {
      active_engine->fail("an exception left a fiber", {});
    }
    active_engine->ended();
  }
}

void engine::ended() {
  note(op::finish, 0, 0, 0, std::memory_order_relaxed, {});
  self().state = strand::status::ended;
  if (starting_) {
    switch_to(0);
  } else {
    reschedule();
  }
}

void engine::switch_to(unsigned index) {
  const unsigned from = std::exchange(current_, index);
  fiber::switch_between(strands_[from]->stack, strands_[index]->stack);
}

void engine::point(std::source_location at) {
  self().at = at;
  if (current_ == 0) {
    SLUICE_CHECK(++steps_ <= options_.max_steps + setting_up_steps, "the scenario, or run.after(), does not end");
    return;
  }
  if (starting_) {
    // Who resumes it is the scheduler's first choice.
    switch_to(0);
    return;
  }
  if (++steps_ > options_.max_steps) {
    fail(joined({"no end after ", std::to_string(options_.max_steps), " operations: livelock?", describe_stuck()}), at);
    abandon();
  }
  reschedule();
}

void engine::relax(std::source_location at) {
  if (current_ == 0) {
    point(at);
    return;
  }
  strand& me = self();
  agents others = enabled() & ~(agents{1} << current_);
  for (unsigned i = 1; i < fibers_; ++i) {
    if (strands_[i]->waits_for != 0) {
      others &= ~(agents{1} << i);
    }
  }
  me.waits_for = others;
  me.spinning = true;
  chooser_.yielded(current_);
  note(op::relax, 0, 0, 0, std::memory_order_relaxed, at);
  point(at);
}

agents engine::enabled() const noexcept {
  agents set = 0;
  for (unsigned i = 1; i < fibers_; ++i) {
    const strand& one = *strands_[i];
    if (one.state == strand::status::ready && (one.wants == nullptr || one.wants->owner == max_fibers)) {
      set |= agents{1} << i;
    }
    if (!one.buffer.empty()) {
      set |= agents{1} << (buffer_bit + i);
    }
  }
  return set;
}

agents engine::sleepers() const noexcept {
  agents set = 0;
  for (unsigned i = 1; i < fibers_; ++i) {
    const strand& one = *strands_[i];
    if (one.state == strand::status::asleep) {
      set |= agents{1} << (one.has_deadline ? timer_bit + i : spurious_bit + i);
    }
  }
  return set;
}

bool engine::all_ended() const noexcept {
  for (unsigned i = 1; i < fibers_; ++i) {
    if (strands_[i]->state != strand::status::ended) {
      return false;
    }
  }
  return true;
}

void engine::reschedule() {
  constexpr agents timers = ((agents{1} << max_fibers) - 1) << timer_bit;
  for (;;) {
    const agents ready = enabled();
    const agents asleep = sleepers();
    agents choice = 0;
    bool only_spinners = true;
    for (agents rest = ready; rest != 0; rest &= rest - 1) {
      const auto i = static_cast<unsigned>(std::countr_zero(rest));
      const bool is_fiber = i < max_fibers;
      only_spinners = only_spinners && is_fiber && strands_[i]->spinning;
      if (!is_fiber || (strands_[i]->waits_for & ready) == 0) {
        choice |= agents{1} << i;
      }
    }
    choice = choice == 0 ? ready : choice;
    if (only_spinners) {
      // Nobody else can help those who spin (or nobody runs at all): a deadline passes at last.
      choice |= asleep & timers;
    } else if (timeouts_left_ > 0) {
      choice |= asleep & timers;
    }
    if (ready != 0 && spurious_left_ > 0) {
      choice |= asleep & ~timers;
    }
    if (choice == 0) {
      if (!all_ended()) {
        fail(joined({"deadlock or lost wake-up: nobody can run", describe_stuck()}), {});
        abandon();
      }
      if (current_ != 0) {
        switch_to(0);
      }
      return;
    }
    const unsigned chosen = chooser_.pick(choice, current_);
    for (unsigned i = 1; i < fibers_; ++i) {
      strands_[i]->waits_for &= ~(agents{1} << chosen);
    }
    if (chosen >= spurious_bit) {
      --spurious_left_;
      rouse(chosen - spurious_bit, op::spurious);
    } else if (chosen >= timer_bit) {
      timeouts_left_ -= timeouts_left_ > 0 ? 1 : 0;
      rouse(chosen - timer_bit, op::timeout);
    } else if (chosen >= buffer_bit) {
      commit_one(*strands_[chosen - buffer_bit]);
    } else {
      strands_[chosen]->waits_for = 0;
      strands_[chosen]->spinning = false;
      if (chosen != current_) {
        switch_to(chosen);
      }
      return;
    }
  }
}

void engine::rouse(unsigned index, op why) {
  strand& sleeper = *strands_[index];
  sleeper.state = strand::status::ready;
  sleeper.timed_out = why == op::timeout;
  sleeper.sleeps_on = nullptr;
  trace_.add({.what = why,
              .fiber = static_cast<std::uint8_t>(index),
              .object = sleeper.sleeps_on_id,
              .before = 0,
              .after = 0,
              .at = sleeper.at});
}

bool engine::sleep(const cell& word, std::uint32_t id, bool has_deadline) {
  strand& me = self();
  if (current_ == 0) {
    // Nobody is left to wake it, and it cannot be abandoned.
    SLUICE_CHECK(has_deadline, "the scenario, or run.after(), would sleep for ever");
    note(op::timeout, id, 0, 0, std::memory_order_relaxed, me.at);
    return false;
  }
  me.state = strand::status::asleep;
  me.sleeps_on = &word;
  me.sleeps_on_id = id;
  me.has_deadline = has_deadline;
  me.timed_out = false;
  reschedule();
  return !me.timed_out;
}

void engine::wake(const void* word, int count) {
  for (; count > 0; --count) {
    std::array<unsigned, max_fibers> waiting{};
    std::uint32_t found = 0;
    for (unsigned i = 1; i < fibers_; ++i) {
      if (strands_[i]->state == strand::status::asleep && strands_[i]->sleeps_on == word) {
        waiting[found++] = i;
      }
    }
    if (found == 0) {
      return;
    }
    // Which of several sleepers the kernel wakes is its choice. All of them: no choice.
    const bool all = count >= static_cast<int>(found);
    rouse(waiting[all ? 0 : chooser_.decide(found)], op::woken);
  }
}

void engine::refresh(lock_state& which) {
  if (which.run != run_id_) {
    which.run = run_id_;
    which.id = new_object_id();
    which.owner = max_fibers;
    which.released = {};
  }
}

void engine::lock(lock_state& which, std::source_location at) {
  refresh(which);
  strand& me = self();
  me.wants = &which;
  point(at);
  me.wants = nullptr;
  commit_all(me);
  if (current_ == 0 && which.owner != max_fibers) {
    fail("the setting-up context would wait for a lock for ever", at);
  }
  which.owner = current_;
  me.now.join(which.released);
  note(op::lock, which.id, 0, 0, std::memory_order_acquire, at);
}

bool engine::try_lock(lock_state& which, std::source_location at) {
  refresh(which);
  point(at);
  commit_all(self());
  if (which.owner != max_fibers) {
    note(op::try_lock_failed, which.id, 0, 0, std::memory_order_relaxed, at);
    return false;
  }
  which.owner = current_;
  self().now.join(which.released);
  note(op::lock, which.id, 0, 0, std::memory_order_acquire, at);
  return true;
}

void engine::unlock(lock_state& which, std::source_location at) {
  point(at);
  commit_all(self());
  note(op::unlock, which.id, 0, 0, std::memory_order_release, at);
  if (which.owner != current_) {
    fail("unlock of a lock that the fiber does not hold", at);
  }
  which.owner = max_fibers;
  which.released = self().now;
  ++self().now.at[current_];
}

void engine::note(op what, std::uint32_t object, std::uint64_t before, std::uint64_t after, std::memory_order order,
                  std::source_location at) noexcept {
  trace_.add({.what = what,
              .fiber = static_cast<std::uint8_t>(current_),
              .order = order,
              .object = object,
              .before = before,
              .after = after,
              .at = at});
}

void engine::fail(std::string message, std::source_location at) {
  if (failed_) {
    return;
  }
  failed_ = true;
  message_ = std::move(message);
  if (at.line() != 0) {
    message_.append(joined({"\n  at ", place(at), ", fiber ", std::to_string(current_)}));
  }
  note(op::failure, 0, 0, 0, std::memory_order_relaxed, at);
}

std::string engine::describe_stuck() const {
  std::string out;
  for (unsigned i = 1; i < fibers_; ++i) {
    const strand& one = *strands_[i];
    if (one.state == strand::status::ended) {
      continue;
    }
    out.append(joined({"\n  fiber ", std::to_string(i)}));
    if (one.state == strand::status::asleep) {
      out.append(joined({" sleeps on ", object_name('a', one.sleeps_on_id)}));
    } else if (one.wants != nullptr && one.wants->owner != max_fibers) {
      out.append(joined(
          {" waits for ", object_name('m', one.wants->id), ", held by fiber ", std::to_string(one.wants->owner)}));
    } else {
      out.append(" runs");
    }
    out.append(joined({" at ", place(one.at)}));
  }
  return out;
}

void engine::abandon() {
  abandoned_ = true;
  switch_to(0);
  SLUICE_CHECK(false, "an abandoned fiber was resumed");
  std::unreachable();
}

void engine::pin_fibers() {
  for (unsigned i = 1; i < fibers_; ++i) {
    strand* kept = strands_[i].release();
    kept->stack.pin();
    kept->next_pinned = pinned;
    pinned = kept;
  }
}

}  // namespace race::detail
