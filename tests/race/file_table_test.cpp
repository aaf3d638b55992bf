// Goal: a lookup gives the file that the number means, or EBADF; never a dead file, never one that was closed before
// the lookup began. Method: file_table and the core of open_file on the deterministic scheduler, with its RCU domain.
#include "sluice/device/file_table.h"

#include <gtest/gtest.h>

#include "race/harness/race.h"
#include "race/race_rcu.h"
#include "race/stripes.h"

namespace file_table_test {
namespace {

struct raced_file;
struct raced_delete {
  void operator()(raced_file* file) const noexcept;
};

struct raced_file : sluice::open_life<raced_file, race::sync, race::one_stripe>,
                    sluice::rcu_obj_base<raced_file, raced_delete> {
  raced_file(race::rcu& dom, int value) : domain(dom), name(value) {}
  ~raced_file() { name.write(-1); }

  bool operate() {
    if (!begin_operation()) {
      return false;
    }
    race::check(info.read() == 1, "an operation never sees freed info");
    end_operation();
    return true;
  }
  // Notes whether the count was taken after `closed` said that a close of the number had returned.
  bool get_unless_zero() noexcept {
    counted_late = closed != nullptr && closed->load(std::memory_order_acquire) == 1;
    return open_life::get_unless_zero();
  }
  void release_info() noexcept { info.write(0); }
  void free_memory() noexcept { retire({}, domain); }

  race::rcu& domain;
  race::plain<int> name;
  race::plain<int> info{1};
  race::atomic<int>* closed = nullptr;
  bool counted_late = false;  // of the one thread that looks up where `closed` is set
};

void raced_delete::operator()(raced_file* file) const noexcept {
  delete file;
}

using table = sluice::basic_file_table<raced_file, race::sync>;
using file_ref = sluice::ref<raced_file>;

struct world {
  race::rcu dom;
  table files{1, dom};

  int install(int name) { return files.install(sluice::make_ref<raced_file>(dom, name)).value(); }
};

// D4: the number is closed and given anew while two look it up.
TEST(RaceFileTable, LookupAgainstReuseOfTheNumber) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto second_is_in = std::make_shared<race::atomic<int>>(0);
    state->install(1);
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        const bool late = second_is_in->load(std::memory_order_acquire) == 1;
        {
          sluice::result<file_ref> got = state->files.lookup(0);
          if (got) {
            const int name = (*got)->name.read();
            race::check(name == 1 || name == 2, "never a dead one, never a mix");
            race::check(!late || name == 2, "not the old one once the new one is in");
            static_cast<void>((*got)->operate());
          } else {
            race::check(got.error() == sluice::error_of(EBADF) && !late, "EBADF only while there is none");
          }
        }
        state->dom.reclaim();
      });
    }
    run.thread([=] {
      race::check(state->files.close(0).has_value(), "it was there");
      state->dom.reclaim();
      race::check(state->install(2) == 0, "the lowest free number");
      second_is_in->store(1, std::memory_order_release);
    });
    run.after([=] {
      race::check(state->files.close(0).has_value(), "the new one is there");
      state->dom.finish();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// D4: somebody else keeps the file alive. A lookup that counted it after the close had returned looks at the number again
// and does not give it: from that return on the number does not lead to the file.
TEST(RaceFileTable, ACountTakenAfterTheCloseIsGivenBack) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto closed = std::make_shared<race::atomic<int>>(0);
    auto kept = std::make_shared<file_ref>(sluice::make_ref<raced_file>(state->dom, 1));
    (*kept)->closed = closed.get();
    race::check(state->files.install(*kept).value() == 0, "the first number");
    run.thread([=] {
      if (sluice::result<file_ref> got = state->files.lookup(0)) {
        race::check(!(*got)->counted_late, "counted before the close returned");
      }
      state->dom.reclaim();
    });
    run.thread([=] {
      race::check(state->files.close(0).has_value(), "it was there");
      closed->store(1, std::memory_order_release);
    });
    run.after([=] {
      kept->reset();
      state->dom.finish();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// D3 D4: two closes of one number: one gets it; a lookup after both is EBADF.
TEST(RaceFileTable, TwoClosesAndALookup) {
  const race::report found = race::explore({.schedules = 30'000}, [](race::run& run) {
    auto state = std::make_shared<world>();
    auto closes = std::make_shared<race::atomic<int>>(0);
    state->install(1);
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        closes->fetch_add(state->files.close(0) ? 1 : 0, std::memory_order_relaxed);
        race::check(!state->files.lookup(0), "closed by me or by the other: it is gone");
      });
    }
    run.thread([=] {
      if (sluice::result<file_ref> got = state->files.lookup(0)) {
        race::check((*got)->name.read() == 1, "alive");
        static_cast<void>((*got)->operate());
      }
      state->dom.reclaim();
    });
    run.after([=] {
      race::check(closes->load(std::memory_order_relaxed) == 1, "exactly one close gets the file");
      state->dom.finish();
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace file_table_test
