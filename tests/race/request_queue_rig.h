// request_queue_rig: the request queue on the deterministic scheduler: the very code that programs run
// (src/ioc/queue/), over race::sync, with a pool, a timer, an elevator, contexts and requests that a scenario
// controls.
//
//   explore({.depth = 1}, order::unpaired, [](race::run& run, const std::shared_ptr<rig>& world) {
//     rig::worker(run, world);                              // a fiber that is a worker of the pool
//     rig::party(run, world, [](rig& w) { w.submit(0); });  // a fiber that submits
//     run.after([=] { world->check_end(); });
//   });
//
// Workers and the timer's fiber end once every party has ended and every request is over: a request that is stranded
// leaves them waiting, which is reported as a deadlock.
//
// What is checked without being asked for: the depth and the share of the workers; that nothing is tried and no
// quantum begins while the queue is held still; that the elevator is called under the lock, with the protocol of
// elevator.h; that whoever touches a request's memory, or a pair's, is ordered; that a pair exits once.
//
// Bare variables are the test's own: fibers are one OS thread, and what they hold is exact at every instant.
#pragma once

#include <array>
#include <cerrno>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/ref/fault.h"

#include "ioc/queue/queue.h"
#include "race/harness/engine.h"
#include "race/harness/race.h"
#include "wq/item/run_token.h"
#include "wq/item/work_access.h"

namespace request_queue_race {

using namespace sluice;

struct rig;
struct raced_context;
struct raced_pair;
struct raced_queue;
struct raced_request;

// A lock that counts how often it is taken, by all of its kind.
class SLUICE_CAPABILITY("mutex") counted_lock {
 public:
  void lock() SLUICE_ACQUIRE() SLUICE_NO_THREAD_SAFETY_ANALYSIS {
    inner_.lock();
    ++taken;
  }
  void unlock() SLUICE_RELEASE() SLUICE_NO_THREAD_SAFETY_ANALYSIS { inner_.unlock(); }

  static inline unsigned taken = 0;

 private:
  race::mutex inner_;
};

struct raced_sync : race::sync {
  using mutex = counted_lock;
};

// A condition variable for a lock: a count of the notifications, which sleepers compare.
template <class Mutex>
class raced_cond {
 public:
  bool wait_until(Mutex& lock, steady_time deadline) SLUICE_NO_THREAD_SAFETY_ANALYSIS {
    const std::uint32_t seen = turn_.load(std::memory_order_relaxed);  // notifications come under the lock
    lock.unlock();
    const bool in_time = race::sync::wait(turn_, seen, deadline);
    lock.lock();
    return in_time;
  }
  void notify_all() noexcept {
    turn_.fetch_add(1, std::memory_order_release);
    race::sync::wake(turn_, wake_all);
  }

 private:
  race::atomic<std::uint32_t> turn_{0};
};

// Any deadline that is not no_deadline passes when the scheduler says so.
inline constexpr steady_time soon{std::chrono::seconds(1)};

struct figures {
  int pairs_made = 0;
  int pairs_exited = 0;
  int pairs_destroyed = 0;
  int contexts_made = 0;
  int contexts_freed = 0;
  int queues_freed = 0;
};
// Of the schedule that runs. create() has no other way to know.
inline figures* now = nullptr;

struct raced_pair : io_cq_node<raced_pair, raced_context, raced_queue> {
  raced_pair() { ++now->pairs_made; }
  ~raced_pair() {
    race::check(exits == 1 || !linked, "a pair that was used has exited before it is freed");
    state.write(-1);  // reported unless ordered after every use
    ++now->pairs_destroyed;
  }

  io_cq_stats stats_;
  int exits = 0;
  bool linked = false;  // an elevator has seen it
  race::plain<int> state{0};
};

struct raced_context : io_context_counts<raced_context, race::sync>,
                       io_context_links<raced_pair, raced_context, raced_queue, raced_sync> {
  raced_context() { ++now->contexts_made; }
  ~raced_context() { ++now->contexts_freed; }
  static result<raced_context*> create() noexcept { return new raced_context; }
  [[nodiscard]] static ioprio get_ioprio() noexcept { return {}; }
  void exit_io_cqs() noexcept;
};

struct raced_release {
  void operator()(raced_queue* last) const noexcept;
};

// One hint: which context has which must not depend on addresses, or a seed would not replay.
struct raced_queue : kref<raced_queue, raced_release, race::sync>,
                     request_queue_links<raced_pair, raced_context, raced_queue, raced_sync, 1> {
  [[nodiscard]] static std::uint64_t id() noexcept { return 6; }
  void io_cq_exits_locked(raced_pair& pair) noexcept SLUICE_REQUIRES(lock_);
};

inline void raced_context::exit_io_cqs() noexcept {
  io_context_links::exit_io_cqs();
}

// What a run does about being told to stop.
enum class when_told : std::uint8_t {
  runs_on,   // does not look
  obeys,     // waits for it, and ends with an error
  finishes,  // waits for it, and does all that is left
};

struct raced_ops {
  attempt (*try_run)(raced_request&) noexcept;
  void (*run)(raced_request&, std::uint64_t budget, cancel_probe) noexcept;
  void (*complete)(raced_request&) noexcept;
};

struct raced_request : detail::request_node<raced_request, raced_ops, raced_queue, raced_context, raced_pair> {
  void set_result(std::int64_t value) noexcept { result_ = value; }

  rig* world = nullptr;
  // The scenario's.
  bool inline_ok = false;  // the attempt does it
  when_told stops = when_told::runs_on;
  std::uint64_t bytes = 0;              // at submit
  std::function<void()> when_complete;  // the last act of complete()
  // What became of it.
  enum class answer : std::uint8_t { none, refused, in_submit, queued } submitted = answer::none;
  int error = 0;  // refused
  int tries = 0, runs = 0, completions = 0;
  std::int64_t outcome = 0;
  bool let_go = false;    // the elevator has let it go, and was not told how that ended
  unsigned taken_up = 0;  // rig::stillness when a worker took it up
  race::plain<int> touched{0};
};

struct raced_pick {
  raced_request* next = nullptr;
  steady_time ask_again = no_deadline;
};

enum class order : std::uint8_t { unpaired, paired, capped };

// A FIFO. capped: wants pairs as well, and lets one go per hour.
struct raced_elevator {
  explicit raced_elevator(order which) : kind(which) {}
  ~raced_elevator() {
    race::check(under_way == 0 && waiting.empty(), "an elevator ends idle");
    state.write(-1);
  }

  [[nodiscard]] io_cq_use use() const noexcept {
    return kind == order::unpaired ? io_cq_use::unused : io_cq_use::wanted;
  }
  [[nodiscard]] static std::unique_ptr<raced_pair> make_io_cq() noexcept { return std::make_unique<raced_pair>(); }
  void exit_io_cq_locked(raced_pair& pair) noexcept {
    touch(nullptr);
    pair.state.update([](int& uses) { ++uses; });
    pair.linked = true;
    race::check(++pair.exits == 1, "exits once");
    ++now->pairs_exited;
  }
  [[nodiscard]] bool may_go_locked(raced_request& coming, raced_pair* pair, steady_time at) noexcept {
    touch(pair);
    race::check(use() == io_cq_use::wanted && !coming.let_go, "asked about one that comes");
    if (!allowed(at)) {
      return false;
    }
    let_go(coming, at);
    return true;
  }
  void insert_locked(raced_request& one, raced_pair* pair) noexcept {
    touch(pair);
    race::check(!one.let_go, "served before it waits again");
    waiting.push(one);
  }
  void insert_again_locked(raced_request& one, raced_pair* pair) noexcept { insert_locked(one, pair); }
  [[nodiscard]] raced_pick next_locked(steady_time at) noexcept {
    touch_state();
    if (!waiting.empty() && !allowed(at)) {
      return {.ask_again = not_before};
    }
    raced_request* const next = waiting.pop();
    if (next != nullptr && use() == io_cq_use::wanted) {
      let_go(*next, at);
    }
    return {.next = next};
  }
  void served_locked(raced_request& over, raced_pair* pair, std::uint64_t bytes, steady_time) noexcept {
    touch(pair);
    race::check(std::exchange(over.let_go, false), "what was let go is served, once");
    --under_way;
    moved += bytes;
    ++served;
  }
  void take_back_locked(raced_request& back, raced_pair* pair, steady_time) noexcept {
    touch(pair);
    race::check(std::exchange(back.let_go, false), "what was let go is taken back, once");
    --under_way;
    ++taken_back;
  }
  [[nodiscard]] bool goes_on_locked(raced_request& going, raced_pair* pair, std::uint64_t bytes, steady_time) noexcept {
    touch(pair);
    race::check(going.let_go, "what was let go goes on");
    race::check(waiting.empty(), "while no request waits");
    moved += bytes;
    return true;
  }
  void set_quantum_locked(std::uint64_t) noexcept { touch_state(); }
  void lift_limits_locked(bool on, steady_time) noexcept {
    touch_state();
    lifted = on;
    ++lifts;
  }
  [[nodiscard]] bool empty_locked() const noexcept { return waiting.empty(); }
  std::size_t extract_owner_locked(std::uint64_t owner, basic_request_fifo<raced_request>& into) noexcept {
    touch_state();
    return waiting.extract_owner(owner, into);
  }
  std::size_t extract_all_locked(basic_request_fifo<raced_request>& into) noexcept {
    touch_state();
    return waiting.extract_all(into);
  }

  const order kind;
  bool lifted = false;
  int lifts = 0;  // how often that was said
  int under_way = 0;
  int served = 0;
  int taken_back = 0;
  std::uint64_t moved = 0;
  steady_time not_before{};
  basic_request_fifo<raced_request> waiting;

 private:
  void touch_state() noexcept {
    state.update([](int& calls) { ++calls; });  // without the queue's lock: reported
  }
  void touch(raced_pair* pair) noexcept {
    touch_state();
    if (pair != nullptr) {
      pair->state.update([](int& uses) { ++uses; });
      pair->linked = true;
    }
  }
  [[nodiscard]] bool allowed(steady_time at) const noexcept {
    return kind != order::capped || lifted || at >= not_before;
  }
  void let_go(raced_request& one, steady_time at) noexcept {
    one.let_go = true;
    ++under_way;
    if (kind == order::capped) {
      not_before = at + std::chrono::hours(1);
    }
  }

  race::plain<int> state{0};
};

struct raced_timer;

// Its workers and its timer are fibers of the scenario.
struct raced_pool {
  // What a queued or running work is known by.
  struct entry {
    work* what = nullptr;
    std::uint64_t owner = 0;
    const work_ops* ops = nullptr;
    std::uint64_t key = 0;               // 0: none
    detail::run_token* token = nullptr;  // running
  };

  explicit raced_pool(rig& of) : world(of) {}

  [[nodiscard]] result<void> submit(work& one) noexcept {
    const scoped_lock held(lock);
    ++submits;
    if (ended) {
      return fail(ESHUTDOWN);
    }
    if (refusals != 0) {
      --refusals;
      return fail(EAGAIN);
    }
    queued.push_back(
        {.what = &one, .owner = one.owner(), .ops = one.ops(), .key = one.keyed() ? one.key() : std::uint64_t{0}});
    changed.notify_all();
    return {};
  }
  template <class Predicate>
  [[nodiscard]] result<cancel_counts> cancel_if(Predicate chosen) noexcept {
    cancel_counts counts;
    std::deque<entry> taken;
    {
      const scoped_lock held(lock);
      std::erase_if(queued, [&](const entry& each) {
        const bool mine = chosen(work_view{.owner = each.owner, .running = false, .ops = each.ops});
        if (mine) {
          taken.push_back(each);
        }
        return mine;
      });
      for (const entry* each : running) {
        if (chosen(work_view{.owner = each->owner, .running = true, .ops = each->ops})) {
          static_cast<void>(each->token->ask_stop());
          ++counts.running;
        }
      }
    }
    counts.cancelled = taken.size();
    for (const entry& each : taken) {
      work_context given_up = detail::work_access::context(nullptr);
      each.ops->run(*each.what, given_up);
      each.ops->release(*each.what);
    }
    return counts;
  }

  // From now on submits are refused for good; what is queued runs.
  void end() {
    const scoped_lock held(lock);
    ended = true;
  }
  void worker_loop();
  void timer_loop();
  void arm(raced_timer& one, steady_time when) noexcept {
    const scoped_lock held(timer_lock);
    ++arms;
    armed = &one;
    at = when;
    timer_changed.notify_all();
  }
  void disarm_and_wait(const raced_timer& one) noexcept {
    const scoped_lock held(timer_lock);
    armed = armed == &one ? nullptr : armed;
    while (firing == &one && firing_fiber != race::detail::engine::active()->self_index()) {
      timer_changed.wait_until(timer_lock, no_deadline);
    }
  }
  // All is over: the loops end.
  void close() {
    {
      const scoped_lock held(lock);
      closed = true;
      changed.notify_all();
    }
    const scoped_lock held(timer_lock);
    timer_closed = true;
    timer_changed.notify_all();
  }

  rig& world;
  race::mutex lock;
  raced_cond<race::mutex> changed;
  std::deque<entry> queued;
  std::vector<const entry*> running;
  std::vector<std::uint64_t> busy;  // keys of works that have not been released
  bool closed = false;
  bool ended = false;
  int refusals = 0;  // so many submits are refused for a moment
  int submits = 0;   // those too

  race::mutex timer_lock;
  raced_cond<race::mutex> timer_changed;
  raced_timer* armed = nullptr;
  raced_timer* firing = nullptr;
  unsigned firing_fiber = 0;
  int arms = 0;
  int fired = 0;
  steady_time at{};
  bool timer_closed = false;
};

struct raced_timer {
  using function = void (*)(raced_timer&) noexcept;

  raced_timer(raced_pool& on, function what) noexcept : pool(on), fire(what) {}
  void arm(steady_time when) noexcept { pool.arm(*this, when); }
  void disarm_and_wait() noexcept { pool.disarm_and_wait(*this); }

  raced_pool& pool;
  const function fire;
};

// It goes on by a step whenever somebody looks, and to a timer's time when that fires.
struct raced_clock final : clock_seam {
  steady_time now() noexcept override { return time += std::chrono::microseconds(1); }
  steady_time time{std::chrono::seconds(1)};
};

struct raced_types {
  using sync = raced_sync;
  using cond = raced_cond<counted_lock>;
  using queue = raced_queue;
  using request = raced_request;
  using context = raced_context;
  using pair = raced_pair;
  using elevator = raced_elevator;
  using pool = raced_pool;
  using timer = raced_timer;
};
using raced_core = detail::basic_request_queue<raced_types>;

}  // namespace request_queue_race

// Compiled once, in request_queue_rig.cpp.
extern template class sluice::detail::basic_request_queue<request_queue_race::raced_types>;

namespace request_queue_race {

// What a schedule is made of.
struct rig {
  using answer = raced_request::answer;

  rig(request_queue_options how, order kind) : limits(how) {
    now = &seen;
    set_refcount_fault_handler([](const refcount_fault_report&) noexcept { race::check(false, "a count is misused"); });
    how.clock = &clock;
    if (how.max_workers == 0) {
      how.max_workers = limits.max_workers = 8;
    }
    for (ref<raced_context>& each : contexts) {
      each = ref<raced_context>::adopt(new raced_context);
    }
    for (raced_request& each : requests) {
      each.world = this;
      each.request_ops_ = &operations;
    }
    queue =
        ref<raced_queue>::adopt(new raced_core(pool, how, std::make_unique<raced_elevator>(kind), raced_queue::id()));
  }
  // The options are those of a queue: 1 is a quantum of one byte.
  static std::shared_ptr<rig> make(request_queue_options how, order kind = order::unpaired) {
    if (how.quantum == request_queue_options{}.quantum) {
      how.quantum = 1;
    }
    return std::make_shared<rig>(how, kind);
  }

  [[nodiscard]] raced_core& core() const noexcept { return static_cast<raced_core&>(*queue); }

  // Fibers. A party is waited for; so is each request that was accepted.
  template <class Body>
  static void party(race::run& run, const std::shared_ptr<rig>& self, Body body) {
    ++self->outstanding;
    run.thread([self, body = std::move(body)]() mutable {
      self->pause();  // a fiber runs to its first operation at once: what the body looks at first would be the beginning
      body(*self);
      self->one_over();
    });
  }
  static void worker(race::run& run, const std::shared_ptr<rig>& self) {
    run.thread([=] { self->pool.worker_loop(); });
  }
  static void timer(race::run& run, const std::shared_ptr<rig>& self) {
    run.thread([=] { self->pool.timer_loop(); });
  }

  answer submit(std::size_t number, std::size_t context = 0) { return submit_to(*queue, number, *contexts[context]); }
  answer submit_to(raced_queue& to, std::size_t number, raced_context& issuer) {
    raced_request& one = requests[number];
    one.bytes_left_ = one.bytes;
    one.touched.update([](int& steps) { ++steps; });
    ++outstanding;
    const result<issued> done = static_cast<raced_core&>(to).submit(one, issuer);
    if (!done) {
      one.error = done.error().value();
      race::check(one.completions == 0, "a refused request is not answered");
      one.touched.update([](int& steps) { ++steps; });  // the caller's, as before
      one_over();
      return one.submitted = answer::refused;
    }
    if (*done == issued::completed) {
      race::check(one.completions == 0 && one.tries == 1, "done by the attempt, without an answer");
      one.touched.update([](int& steps) { ++steps; });
      one_over();
      return one.submitted = answer::in_submit;
    }
    return one.submitted = answer::queued;
  }
  // Holds the queue still for a moment. Returns whether it did.
  bool quiesce_once(steady_time deadline = no_deadline) {
    if (!core().quiesce(deadline)) {
      race::check(deadline != no_deadline, "without a deadline it does not give up");
      return false;
    }
    hold_still();
    core().unquiesce();
    return true;
  }
  // Requires: the queue is quiesced by the caller alone.
  void hold_still() {
    race::check(attempts == 0, "nothing is being tried");
    ++stillness;
    pause();
    race::check(attempts == 0, "nor is anything tried");
    ++stillness;
  }
  // Others may run meanwhile. Orders nothing.
  void pause() const { static_cast<void>(ticks.load(std::memory_order_relaxed)); }

  // Every request that was accepted was answered once, nothing is left, and the way without the lock is open again.
  void check_end() {
    check_open();  // first: whoever looks at the queue under its lock may open it
    check_answers();
    check_idle();
    end();
  }
  void check_answers() {
    for (raced_request& each : requests) {
      race::check(each.completions == (each.submitted == answer::queued ? 1 : 0), "answered once, if it was accepted");
      race::check(!each.queue_ && !each.context_, "it has no counts any more");
      race::check(!each.let_go, "the elevator was told how it ended");
      static_cast<void>(each.touched.read());
    }
  }
  void check_idle() {
    const request_queue_stats left = core().stats();
    race::check(left.in_flight == 0 && left.on_workers == 0 && left.waiting == 0, "nothing is left");
    race::check(core().drain(soon).has_value(), "it is idle");
    race::check(pool.queued.empty() && pool.running.empty(), "nothing is left in the pool");
    for (const ref<raced_context>& each : contexts) {
      race::check(!each || each->use_count() == 1, "no request holds its context");
    }
    race::check(queue->use_count() == 1, "no request holds its queue");
  }
  // Requires: nothing holds the queue still, its elevator is unpaired and nothing has ended it.
  void check_open() {
    if (core().order().use() == io_cq_use::wanted) {
      return;
    }
    raced_request probe;
    probe.world = this;
    probe.request_ops_ = &operations;
    probe.inline_ok = true;
    const unsigned locks = counted_lock::taken;
    const result<issued> done = core().submit(probe, *contexts[0]);
    race::check(done.has_value() && *done == issued::completed, "it goes through");
    race::check(counted_lock::taken == locks, "without the lock");
  }
  // Stops and frees all.
  void end() {
    race::check(core().stop(soon).has_value(), "stops at once");
    queue.reset();
    race::check(pool.armed == nullptr && pool.firing == nullptr, "no timer is left");
    free_contexts();
  }
  void free_contexts() {
    for (ref<raced_context>& each : contexts) {
      if (each) {
        each.release()->exit_task();  // the first count of either kind
      }
    }
    race::check(seen.contexts_freed == seen.contexts_made, "every context is freed");
    race::check(seen.queues_freed == 1, "the queue is freed");
    race::check(seen.pairs_destroyed == seen.pairs_made, "every pair is freed");
  }
  void one_over() {
    if (--outstanding == 0) {
      pool.close();
    }
  }

  [[nodiscard]] int count_of(answer what) const {
    return static_cast<int>(
        std::count_if(requests.begin(), requests.end(), [&](const raced_request& r) { return r.submitted == what; }));
  }
  // Of the queued ones, those that were answered so.
  [[nodiscard]] int answered_with(std::int64_t outcome) const {
    return static_cast<int>(std::count_if(requests.begin(), requests.end(), [&](const raced_request& r) {
      return r.submitted == answer::queued && r.outcome == outcome;
    }));
  }

  static constexpr std::int64_t ran = 2;  // the outcome of one that ran to its end

  figures seen;
  request_queue_options limits;
  raced_clock clock;
  raced_pool pool{*this};
  std::array<raced_request, 6> requests;
  std::array<ref<raced_context>, 2> contexts;
  ref<raced_queue> queue;
  ref<raced_queue> other;  // a second count of it, for scenarios about the last

  int outstanding = 0;     // parties and requests that are not over
  unsigned stillness = 0;  // odd while the queue is held still
  std::uint32_t attempts = 0;
  std::uint32_t runs = 0;  // now

 private:
  static attempt do_try(raced_request& one) noexcept {
    rig& world = *one.world;
    ++one.tries;
    ++world.attempts;
    world.check_limits();
    race::check(world.stillness % 2 == 0, "nothing is tried while the queue is still");
    one.touched.update([](int& steps) { ++steps; });
    world.pause();
    race::check(world.stillness % 2 == 0, "nor does an attempt reach into that");
    --world.attempts;
    if (one.inline_ok) {
      one.bytes_left_ = 0;
      one.set_result(1);
      return attempt::done;
    }
    return attempt::would_block;
  }
  static void do_run(raced_request& one, std::uint64_t budget, cancel_probe probe) noexcept {
    rig& world = *one.world;
    ++one.runs;
    ++world.runs;
    world.check_limits();
    race::check(one.taken_up % 2 == 0 || one.taken_up != world.stillness, "no quantum begins while the queue is still");
    race::check(one.completions == 0, "nothing runs after its answer");
    one.touched.update([](int& steps) { ++steps; });
    world.pause();
    while (one.stops != when_told::runs_on && !probe.cancelled()) {
      race::sync::relax();
    }
    if (one.stops != when_told::obeys) {
      one.bytes_left_ -= one.stops == when_told::finishes ? one.bytes_left_ : std::min(budget, one.bytes_left_);
    }
    one.set_result(one.stops == when_told::obeys ? -ECANCELED : ran);
    one.touched.update([](int& steps) { ++steps; });
    one.taken_up = world.stillness;  // the next quantum of this worker is taken up from here on
    --world.runs;
  }
  static void do_complete(raced_request& one) noexcept {
    rig& world = *one.world;
    one.touched.update([](int& steps) { ++steps; });
    one.outcome = one.result_;
    ++one.completions;
    race::check(one.completions == 1, "answered once");
    const std::function<void()> act = std::move(one.when_complete);
    if (act) {
      act();
    }
    world.one_over();
  }
  static constexpr raced_ops operations{.try_run = do_try, .run = do_run, .complete = do_complete};

  void check_limits() const {
    race::check(attempts + runs <= limits.depth, "no more than depth at once");
    race::check(runs <= limits.max_workers, "no more than its share of the workers");
  }

  race::atomic<int> ticks{0};
};

inline constexpr race::options schedules{.schedules = 10'000};

// Explores a scenario that gets a rig of its own each time.
template <class Scenario>
void explore(const request_queue_options& how, order kind, Scenario scenario, race::options options = schedules) {
  const race::report found = race::explore(options, [&](race::run& run) { scenario(run, rig::make(how, kind)); });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace request_queue_race
