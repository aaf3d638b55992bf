// The ground floor beside its peers: counts, gate, read sections, grace periods, retire to delete.
#include "sluice/ref/ref.h"

#include <array>
#include <atomic>
#include <latch>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <urcu/urcu-memb.h>

#include "sluice/base/park.h"
#include "sluice/rcu/rcu.h"
#include "sluice/ref/gate.h"
#include "sluice/ref/kref.h"

#include "experiments.h"

namespace bench {
namespace {

// Many short rounds: two runs of one and the same contended code differ by a tenth and more.
constexpr unsigned rounds = 201;
constexpr std::uint64_t turns = 100'000;

// Each on a line of its own: what is compared is the counting, not the neighbours.
constexpr std::size_t line = 128;
struct alignas(line) counted : sluice::kref<counted> {};
struct alignas(line) bare_count {
  std::atomic<std::int32_t> value{1};
};
struct alignas(line) boosted : boost::intrusive_ref_counter<boosted, boost::thread_safe_counter> {};
struct alignas(line) plain {
  int value = 0;
};

// `turns` turns of one operation in each of `threads` threads.
template <class Operation>
sample repeat(unsigned threads, Operation operation) {
  return timed(threads, turns, [&operation](unsigned) {
    for (std::uint64_t i = 0; i < turns; ++i) {
      operation();
    }
  });
}

template <class Operation>
contender turning(const char* name, side whose, unsigned threads, Operation operation) {
  return {name, whose, [threads, operation] { return repeat(threads, operation); }, {}};
}

setup per_turn(const char* what, unsigned threads) {
  return {.name = std::string(what) + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"),
          .unit = "ns",
          .rounds = rounds,
          .kind = nature::never_sleeps};
}

void counts(report& out, unsigned threads) {
  const auto ours = sluice::make_ref<counted>();
  bare_count bare;
  const boost::intrusive_ptr<boosted> intrusive(new boosted);
  const auto shared = std::make_shared<plain>();
  alignas(line) std::atomic<std::shared_ptr<plain>> atomic_shared(shared);
  const auto get_put = [&ours] {
    ours->get();
    keep(ours->put());
  };
  const auto add_sub = [&bare] {
    bare.value.fetch_add(1, std::memory_order_relaxed);
    keep(bare.value.fetch_sub(1, std::memory_order_acq_rel) == 1);
  };
  const auto copy_of = [](const auto& pointer) {
    return [&pointer] {
      const auto copy = pointer;
      keep(copy.get());
    };
  };
  const auto load = [&atomic_shared] { keep(atomic_shared.load(std::memory_order_acquire).get()); };
  const comparison& found = out.compare(
      per_turn("get + put of one object", threads),
      {turning("kref get + put", side::ours, threads, get_put), turning("ref copy", side::ours, threads, copy_of(ours)),
       turning("bare fetch_add + fetch_sub", side::peer, threads, add_sub),
       turning("boost::intrusive_ptr copy", side::peer, threads, copy_of(intrusive)),
       turning("std::shared_ptr copy", side::peer, threads, copy_of(shared)),
       turning("std::atomic<std::shared_ptr> load", side::peer, threads, load)});
  const std::string suffix = ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  out.target("kref get + put / bare pair" + suffix, found.ratio("kref get + put", "bare fetch_add + fetch_sub"),
             at_most(1.05));
  // "Not slower", with the noise that two runs of one and the same code show.
  out.target("ref copy / boost::intrusive_ptr copy" + suffix, found.ratio("ref copy", "boost::intrusive_ptr copy"),
             at_most(1.05));
}

void gates(report& out, unsigned threads) {
  sluice::gate wide;
  sluice::gate narrow(sluice::gate_width::narrow);
  alignas(line) std::atomic<std::int64_t> shared{0};
  const auto through = [](sluice::gate& door) {
    return [&door] {
      keep(door.try_enter());
      door.leave();
    };
  };
  const auto add_sub = [&shared] {
    keep(shared.fetch_add(1, std::memory_order_acquire));
    keep(shared.fetch_sub(1, std::memory_order_release));
  };
  const comparison& found =
      out.compare(per_turn("enter + leave", threads), {turning("gate", side::ours, threads, through(wide)),
                                                       turning("gate, narrow", side::ours, threads, through(narrow)),
                                                       turning("shared atomic", side::peer, threads, add_sub)});
  if (threads == 2) {
    out.target("shared atomic / gate, 2 threads", found.ratio("shared atomic", "gate"), at_least(3.0));
  }
}

void sections(report& out, unsigned threads) {
  alignas(line) std::shared_mutex shared;
  alignas(line) std::mutex exclusive;
  const auto by_urcu = [threads] {
    return timed(threads, turns, [](unsigned) {
      ::urcu_memb_register_thread();
      for (std::uint64_t i = 0; i < turns; ++i) {
        ::urcu_memb_read_lock();
        ::urcu_memb_read_unlock();
      }
      ::urcu_memb_unregister_thread();
    });
  };
  out.compare(
      per_turn("read section", threads),
      {turning("rcu_domain", side::ours, threads, [] { const std::scoped_lock section(sluice::rcu_default_domain()); }),
       {"liburcu memb", side::peer, by_urcu, {}},
       turning("std::shared_mutex lock_shared", side::peer, threads,
               [&shared] { const std::shared_lock held(shared); }),
       turning("std::mutex", side::peer, threads, [&exclusive] { const std::scoped_lock held(exclusive); })});
}

constexpr std::uint64_t grace_turns = 200;

// One operation at a time, with `readers` threads that open and close sections all the while.
template <class Operation>
sample beside_readers(unsigned readers, Operation operation) {
  std::atomic<bool> stop{false};
  std::latch registered(readers);
  std::vector<std::jthread> reading;
  for (unsigned i = 0; i < readers; ++i) {
    reading.emplace_back([&stop, &registered] {
      {
        const std::scoped_lock section(sluice::rcu_default_domain());
      }
      registered.count_down();
      while (!stop.load(std::memory_order_relaxed)) {
        for (int turn = 0; turn < 100; ++turn) {
          const std::scoped_lock section(sluice::rcu_default_domain());
        }
        // Readers in a program do other things too; and 8 of them on few cores must not be the scheduler's test.
        std::this_thread::yield();
      }
    });
  }
  registered.wait();
  const sample found = timed(1, grace_turns, [&operation](unsigned) {
    for (std::uint64_t i = 0; i < grace_turns; ++i) {
      operation();
    }
  });
  stop.store(true, std::memory_order_relaxed);
  return {.value = found.value / 1000, .cpu_ns = found.cpu_ns};
}

void grace_periods(report& out, unsigned readers) {
  out.compare({.name = "synchronize, " + std::to_string(readers) + " readers", .unit = "us", .rounds = 9},
              {{"rcu_synchronize",
                side::ours,
                [readers] { return beside_readers(readers, [] { sluice::rcu_synchronize(); }); },
                {}},
               {"liburcu memb",
                side::peer,
                [readers] { return beside_readers(readers, [] { ::urcu_memb_synchronize_rcu(); }); },
                {}}});
}

struct deferred : sluice::rcu_obj_base<deferred> {
  explicit deferred(sluice::parker& waiter) : waiter_(waiter) {}
  ~deferred() { waiter_.wake(); }

 private:
  sluice::parker& waiter_;
};

struct deferred_by_urcu {
  rcu_head head;
  sluice::parker* waiter;
  static void run(rcu_head* head) {
    const std::unique_ptr<deferred_by_urcu> self(reinterpret_cast<deferred_by_urcu*>(head));
    self->waiter->wake();
  }
};

void retire_to_delete(report& out) {
  constexpr std::uint64_t peer_turns = 5;  // each waits for a poll of some ten milliseconds
  out.compare({.name = "retire to delete, one at a time", .unit = "us", .rounds = 9},
              {{"rcu_obj_base::retire",
                side::ours,
                [] {
                  sluice::parker gone;
                  return beside_readers(0, [&gone] {
                    (new deferred(gone))->retire();
                    gone.park();
                  });
                },
                {}},
               {"liburcu call_rcu",
                side::peer,
                [] {
                  sluice::parker gone;
                  const sample found = timed(1, peer_turns, [&gone](unsigned) {
                    ::urcu_memb_register_thread();
                    for (std::uint64_t i = 0; i < peer_turns; ++i) {
                      auto* object = new deferred_by_urcu{{}, &gone};
                      ::urcu_memb_call_rcu(&object->head, &deferred_by_urcu::run);
                      gone.park();
                    }
                    ::urcu_memb_unregister_thread();
                  });
                  return sample{.value = found.value / 1000, .cpu_ns = found.cpu_ns};
                },
                {}}});
}

}  // namespace

report run_ref() {
  report out("ref");
  for (const unsigned threads : {1U, 2U}) {
    counts(out, threads);
  }
  for (const unsigned threads : {1U, 2U}) {
    gates(out, threads);
  }
  for (const unsigned threads : {1U, 2U}) {
    sections(out, threads);
  }
  for (const unsigned readers : {0U, 1U, 8U}) {
    grace_periods(out, readers);
  }
  retire_to_delete(out);
  return out;
}

}  // namespace bench
