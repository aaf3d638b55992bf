// wq_rig: the engine of io_wq on the deterministic scheduler: the very code that programs run, over race::sync.
//
// A scenario makes a rig, adds workers, and gives each of its fibers one loop or one thing to do:
//
//   auto rig = std::make_shared<wq_rig>(wq_rig::one_class(2));
//   auto* worker = rig->add_worker();
//   run.thread([=] { rig->pool.worker_loop(*worker); });
//   run.thread([=] { rig->submit(rig->jobs[0]); rig->pool.stop(…); });
//   run.after([=] { rig->jobs[0].check_done(); });
//
// The fiber that stops is the manager as well, unless the rig was told that somebody else is.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/ref/gate.h"

#include "race/harness/engine.h"
#include "race/harness/race.h"
#include "race/stripes.h"
#include "wq/pool.h"

// A domain of the race tests is a key table; what the works carry is its address.
struct race_domain {
  sluice::detail::basic_key_table<race::sync> table{as_domain(), 0};

  [[nodiscard]] sluice::hash_domain* as_domain() noexcept { return reinterpret_cast<sluice::hash_domain*>(this); }
};

template <>
struct sluice::detail::pool_traits<race::sync> {
  using door = sluice::basic_gate<race::sync, race::one_stripe>;
  static constexpr unsigned linger_turns = 1;
  // Which core a fiber is on; all on one unless the scenario says otherwise.
  static inline std::array<std::uint32_t, 8> cores{};
  static std::uint32_t core() noexcept { return cores[race::detail::engine::active()->self_index()]; }
  static constexpr std::uint32_t lanes() noexcept { return 2; }
  static void yield() noexcept {
    moved_yields += this_worker()->woken_from != core() ? 1U : 0U;
    race::sync::relax();
  }
  static inline unsigned moved_yields = 0;  // of workers that were woken from another core
  static constexpr std::chrono::hours dense{1};
  static constexpr std::size_t stream = 1;
  static constexpr std::size_t roomy_from = 16;
  static basic_key_table<race::sync>& table(hash_domain& domain) noexcept {
    return reinterpret_cast<race_domain*>(&domain)->table;
  }
  static void hold(hash_domain& /*domain*/) noexcept {}
  static void drop(hash_domain& /*domain*/) noexcept {}
  static bool unused(hash_domain& /*domain*/) noexcept { return false; }
  static std::uint32_t next_number() noexcept { return 1; }
  static basic_worker<race::sync>*& this_worker() noexcept {
    static std::array<basic_worker<race::sync>*, 8> of_fiber{};
    return of_fiber[race::detail::engine::active()->self_index()];
  }
  static const callback_scope*& callbacks() noexcept {
    static std::array<const callback_scope*, 8> of_fiber{};
    return of_fiber[race::detail::engine::active()->self_index()];
  }
};

// Compiled once, in wq_rig.cpp.
extern template class sluice::detail::basic_pool<race::sync>;

// The pool, with short names for what scenarios call.
struct race_pool : sluice::detail::basic_pool<race::sync> {
  using basic_pool::basic_pool;

  [[nodiscard]] sluice::result<void> submit(sluice::work& head, sluice::work_handle* handle) noexcept {
    return admission.submit(head, handle);
  }
  [[nodiscard]] sluice::result<std::size_t> submit(std::span<sluice::work* const> works) noexcept {
    return admission.submit(works);
  }
  [[nodiscard]] sluice::cancel_result cancel(sluice::work_handle handle) noexcept { return cancels.cancel(handle); }
  sluice::cancel_counts cancel_owner(std::uint64_t owner) noexcept { return cancels.cancel_owner(owner); }
  sluice::cancel_counts cancel_all() noexcept { return cancels.cancel_all(); }
  [[nodiscard]] auto cancel_chosen(bool (*choose)(void*, const sluice::work_view&), void* chooser) {
    return cancels.cancel_chosen(choose, chooser);
  }
  sluice::stop_report stop(sluice::stop_policy policy, sluice::steady_time deadline) noexcept {
    return life.stop(policy, deadline);
  }
  unsigned set_max(sluice::work_class cls, unsigned max) noexcept { return growth.set_max(cls, max); }
  [[nodiscard]] sluice::wq_stats stats() noexcept { return reports.stats(); }
  void sample() noexcept { sampler.sample(); }
  void arm(sluice::detail::timer_node& one, sluice::steady_time at) noexcept { manager.arm(one, at); }
  [[nodiscard]] account& account_at(unsigned node, sluice::work_class cls) noexcept { return engines.at(node, cls); }

  void worker_loop(worker& self) noexcept { work_loop.run(self); }
  void manager_loop() noexcept { manager.run(); }
  void rescuer_loop() noexcept { rescuer.run(); }
  void canceller_loop() noexcept { canceller.run(); }
  // A fiber will run the loop, so that stop waits for it.
  void expect_manager() noexcept { life.expect_manager(); }
  void expect_rescuer() noexcept { life.expect_loop(); }
  void expect_canceller() noexcept { life.expect_loop(); }

  // A worker that counts as running, for a fiber to be. Null at the limit.
  [[nodiscard]] worker* adopt_worker(account& home, bool fixed) noexcept {
    {
      const sluice::scoped_lock held(home.lock);
      if (!growth.reserve_locked(home)) {
        return nullptr;
      }
      if (fixed) {
        home.want_fixed_locked();
      }
    }
    return manager.add_worker(home);
  }
};

// Time goes on by a step whenever somebody looks; nobody waits for it.
struct race_clock final : sluice::clock_seam {
  sluice::steady_time now() noexcept override { return time += step; }
  std::chrono::nanoseconds step = std::chrono::milliseconds(1);
  sluice::steady_time time{std::chrono::seconds(1)};
};

// Interrupts are counted. C5: none is left over when the next work begins.
struct race_interrupts final : sluice::interrupt_seam {
  void admit(sluice::interrupt_mark& /*mark*/) noexcept override {}
  [[nodiscard]] bool send(pthread_t /*thread*/) noexcept override {
    ++sent;
    return true;
  }
  void consume() noexcept override { sent = 0; }
  int sent = 0;
};

// A thread that is asked for is a fiber that waits for its body, or there is none.
struct race_threads final : sluice::thread_seam {
  sluice::result<sluice::named_thread> start(std::string_view /*name*/, std::move_only_function<void()> body,
                                             std::size_t /*stack*/) override {
    if (spare == 0) {
      return sluice::fail(EAGAIN);
    }
    --spare;
    given.push_back(std::move(body));
    ready.fetch_add(1, std::memory_order_release);
    race::sync::wake(ready, 1);
    return sluice::named_thread();
  }
  // A fiber that makes no progress is one that sleeps.
  bool sleeps(pid_t /*thread*/) noexcept override { return true; }
  // The fiber's: runs the n-th body once there is one, or none once no more will come.
  void run_body(unsigned n) {
    for (;;) {
      const std::uint32_t seen = ready.load(std::memory_order_acquire);
      if (seen > n && given.size() > n) {
        given[n]();
        return;
      }
      if (closed) {
        return;
      }
      race::sync::wait(ready, seen);
    }
  }
  void close() {
    closed = true;
    ready.fetch_add(1000, std::memory_order_release);
    race::sync::wake(ready, sluice::wake_all);
  }

  int spare = 0;
  bool closed = false;
  std::vector<std::move_only_function<void()>> given;
  race::sync::atomic<std::uint32_t> ready{0};
};

// What a thread wears is its fiber's I/O priority, and nothing else; once `fails` is set no thread can change it.
struct race_identities final : sluice::identity_calls {
  int getresuid(uid_t*, uid_t*, uid_t*) noexcept override { return -1; }
  int getresgid(gid_t*, gid_t*, gid_t*) noexcept override { return -1; }
  uid_t fsuid() noexcept override { return 0; }
  gid_t fsgid() noexcept override { return 0; }
  int getgroups(int, gid_t*) noexcept override { return -1; }
  int capget(sluice::capability_sets*) noexcept override { return -1; }
  int setgroups(std::size_t, const gid_t*) noexcept override { return -1; }
  int setresgid(gid_t, gid_t, gid_t) noexcept override { return -1; }
  int setresuid(uid_t, uid_t, uid_t) noexcept override { return -1; }
  int capset(const sluice::capability_sets&) noexcept override { return -1; }
  int unshare(int) noexcept override { return -1; }
  int shares_fs() noexcept override { return -1; }
  int fchdir(int) noexcept override { return -1; }
  mode_t umask(mode_t mask) noexcept override { return mask; }
  int statx(int, struct ::statx*) noexcept override { return -1; }
  int ioprio_get() noexcept override { return mine(); }
  int ioprio_set(std::uint16_t raw) noexcept override {
    race::sync::relax();  // others may run meanwhile
    if (fails) {
      errno = EPERM;
      return -1;
    }
    mine() = raw;
    return 0;
  }
  int open(const char*, int) noexcept override { return -1; }
  ssize_t read(int, void*, std::size_t) noexcept override { return -1; }
  ssize_t write(int, const void*, std::size_t) noexcept override { return -1; }

  std::uint16_t& mine() noexcept { return priority[race::detail::engine::active()->self_index()]; }

  std::array<std::uint16_t, 8> priority{};
  bool fails = false;
};

struct wq_rig;

// A work that notes what happened to it.
struct race_job : sluice::work {
  race_job() : work(operations) {}

  static void do_run(sluice::work& w, sluice::work_context& ctx) noexcept {
    auto& self = static_cast<race_job&>(w);
    self.touched.update([](int& n) { ++n; });
    ++self.runs;
    self.began_cancelled = ctx.cancelled();
    self.fiber = race::detail::engine::active()->self_index();
    self.on_worker = sluice::detail::pool_traits<race::sync>::this_worker() != nullptr;
    if (self.log != nullptr) {
      self.log->push_back(self.number);
    }
    if (self.body && !self.began_cancelled) {
      self.body(ctx);
    }
    if (self.when_cancelled && self.began_cancelled) {
      self.when_cancelled();
    }
    self.asked = ctx.cancelled();
    self.ended = true;
  }
  static void do_release(sluice::work& w) noexcept {
    auto& self = static_cast<race_job&>(w);
    race::check(self.runs == self.releases + 1, "run, then release (W1)");
    // What a run did is there for the release, and what a release did for the next owner: these are plain.
    self.touched.update([](int& n) { ++n; });
    ++self.releases;
    if (self.released) {
      self.released();
    }
  }
  static constexpr sluice::work_ops operations{do_run, do_release};

  void check_done() const { race::check(runs == 1 && releases == 1, "run once and released once (W1)"); }
  void check_untouched() const { race::check(runs == 0 && releases == 0, "a refused work never runs (W6)"); }

  std::function<void(sluice::work_context&)> body;
  std::function<void()> when_cancelled;
  std::function<void()> released;
  std::vector<int>* log = nullptr;
  int number = 0;
  int runs = 0;
  int releases = 0;
  bool began_cancelled = false;  // also if it was asked to stop before it could look
  std::size_t fiber = 0;         // that ran it; the test itself is 0, its first thread 1
  bool on_worker = false;        // else on the canceller's thread
  bool asked = false;
  bool ended = false;  // its run is over
  race::plain<int> touched{0};
};

// The run of the job ends only once it is asked to stop.
inline void run_until_asked(race_job& job) {
  job.body = [](sluice::work_context& ctx) {
    while (!ctx.cancelled()) {
      race::sync::relax();
    }
  };
}

struct wq_rig {
  using worker = sluice::detail::basic_worker<race::sync>;

  static sluice::io_wq_options options(unsigned max) {
    return {.max_bound = max, .max_unbound = max, .idle_timeout = std::chrono::milliseconds(5)};
  }

  explicit wq_rig(sluice::io_wq_options how, const char* nodes = "node:1 pu:2")
      : options_(with_seams(how)), topology(nodes_of(nodes)), pool(options_, topology, interrupts) {}

  // A worker that counts as running, for a fiber to be; it takes up one of the class's places.
  worker* add_worker(sluice::work_class cls = sluice::work_class::bound, unsigned node = 0, bool fixed = true) {
    worker* const made = pool.adopt_worker(pool.account_at(node, cls), fixed);
    made->pace.batch_limit = worker::batch_most;  // batches of more than one are what is to be raced
    return made;
  }

  // The domain is made by the first job that has a key.
  void set_key(race_job& job, std::uint64_t key) {
    if (domain == nullptr) {
      domain = std::make_shared<race_domain>();
    }
    job.set_key(*domain->as_domain(), key);
  }
  // Returns whether it was accepted.
  bool submit(race_job& job) { return pool.submit(job, nullptr).has_value(); }
  sluice::work_handle submit_tracked(race_job& job) {
    sluice::work_handle handle;
    race::check(pool.submit(job, &handle).has_value(), "accepted");
    return handle;
  }
  void stop(sluice::stop_policy policy = sluice::stop_policy::run_queued) {
    race::check(pool.stop(policy, sluice::no_deadline).finished, "stop ends");
    threads.close();
  }

  // The log without the jobs that a canceller ran: the order in which workers started the others.
  [[nodiscard]] std::vector<int> started() const {
    std::vector<int> out = log;
    std::erase_if(out, [this](int number) { return !jobs[static_cast<std::size_t>(number)].on_worker; });
    return out;
  }
  // P5 P6: for scenarios in which no fiber is the manager before all works are released, so that nothing but the wake that
  // is tested can have started a worker.
  void check_sampler_found_nothing() {
    const sluice::wq_stats all = pool.stats();
    race::check(all.bound.found_blocked + all.unbound.found_blocked == 0, "no worker was found by the sampler (P5 P6)");
  }

  race_clock clock;
  race_interrupts interrupts;
  race_threads threads;
  race_identities identities;
  std::shared_ptr<race_domain> domain;
  std::array<race_job, 6> jobs;
  std::vector<int> log;

 private:
  sluice::io_wq_options with_seams(sluice::io_wq_options how) {
    how.clock = &clock;
    how.threads = &threads;
    how.interrupts = &interrupts;
    how.identities = &identities;
    return how;
  }
  static const sluice::detail::topology& nodes_of(const char* nodes) {
    static const auto one = *sluice::detail::topology::discover("node:1 pu:2");
    static const auto two = *sluice::detail::topology::discover("node:2 pu:1");
    return std::string_view(nodes).starts_with("node:2") ? two : one;
  }
  sluice::io_wq_options options_;
  const sluice::detail::topology& topology;

 public:
  race_pool pool;
};

inline constexpr race::options wq_schedules{.schedules = 100'000};

template <class Scenario>
void explore(Scenario scenario, race::options how = wq_schedules) {
  const race::report found = race::explore(how, scenario);
  EXPECT_TRUE(found.ok()) << found;
}

// Counts releases, for whoever waits until all are over. Lives as long as the jobs.
struct release_count {
  void expect(race_job& job) {
    job.released = [this] {
      over.fetch_add(1, std::memory_order_release);
      race::sync::wake(over, sluice::wake_all);
    };
  }
  void wait_for(std::uint32_t all) {
    for (std::uint32_t seen = 0; (seen = over.load(std::memory_order_acquire)) != all;) {
      race::sync::wait(over, seen);
    }
  }

  race::sync::atomic<std::uint32_t> over{0};
};

// `first` blocks, and says so, until `last` runs.
inline void block_until(race_job& first, race_job& last) {
  auto ran = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
  first.body = [ran](sluice::work_context&) {
    auto& self = *sluice::detail::pool_traits<race::sync>::this_worker();
    self.pool.blocking.enter_region(self);
    while (ran->load(std::memory_order_acquire) == 0) {
      race::sync::wait(*ran, 0);
    }
    self.pool.blocking.leave_region(self);
  };
  last.body = [ran](sluice::work_context&) {
    ran->store(1, std::memory_order_release);
    race::sync::wake(*ran, sluice::wake_all);
  };
}
