// Goal: whatever the order of operations, close and the last put, an open file's info is released once, after the last
// operation, and its memory goes once, after that. Method: open_life, the core of open_file, on the deterministic
// scheduler; the info is plain memory, so that an unordered use or a use after release is reported.
#include <gtest/gtest.h>

#include "sluice/device/open_life.h"
#include "sluice/ref/ref.h"

#include "race/harness/race.h"
#include "race/stripes.h"

namespace open_file_test {
namespace {

struct outcome {
  race::atomic<int> operations{0};
  int releases = 0;
  int frees = 0;
};

struct raced_file : sluice::open_life<raced_file, race::sync, race::one_stripe> {
  explicit raced_file(std::shared_ptr<outcome> into) : seen(std::move(into)) {}

  // What a driver's read does: looks at the info at its beginning and its end.
  bool begin() {
    const bool open = begin_operation();
    race::check(!open || info.read() == 1, "an operation never sees freed info");
    return open;
  }
  void finish() {
    seen->operations.fetch_add(1, std::memory_order_relaxed);
    race::check(info.read() == 1, "nor does it vanish under it");
    end_operation();
  }
  bool operate() {
    const bool open = begin();
    if (open) {
      finish();
    }
    return open;
  }
  void release_info() noexcept {
    info.write(0);
    ++seen->releases;
  }
  void free_memory() noexcept {
    race::check(seen->releases == 1, "the memory outlives the info");
    ++seen->frees;
    delete this;
  }

  race::plain<int> info{1};
  std::shared_ptr<outcome> seen;
};

using file_ref = sluice::ref<raced_file>;

void expect_one_end(const outcome& seen) {
  race::check(seen.releases == 1, "released exactly once");
  race::check(seen.frees == 1, "freed exactly once");
}

// D1 D2 D3: two readers, one closer; each holds a count.
TEST(RaceOpenFile, CloseAgainstOperations) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto seen = std::make_shared<outcome>();
    auto closed = std::make_shared<race::atomic<int>>(0);
    file_ref file = sluice::make_ref<raced_file>(seen);
    for (int i = 0; i < 2; ++i) {
      run.thread([=, held = file]() mutable {
        const bool late = closed->load(std::memory_order_acquire) == 1;
        const bool went = held->operate();
        race::check(!(late && went), "after close returned no operation starts");
        held.reset();
      });
    }
    run.thread([=, held = std::move(file)]() mutable {
      race::check(held->close().has_value(), "closed once");
      closed->store(1, std::memory_order_release);
      race::check(!held->operate(), "the closer itself cannot start one");
      held.reset();
    });
    run.after([=] { expect_one_end(*seen); });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// D2: of two closers one gets EBADF, and the info is still released once.
TEST(RaceOpenFile, TwoClosersAndAnOperation) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto seen = std::make_shared<outcome>();
    auto closes = std::make_shared<race::atomic<int>>(0);
    file_ref file = sluice::make_ref<raced_file>(seen);
    for (int i = 0; i < 2; ++i) {
      run.thread([=, held = file]() mutable {
        closes->fetch_add(held->close() ? 1 : 0, std::memory_order_relaxed);
        held.reset();
      });
    }
    run.thread([held = std::move(file)]() mutable {
      static_cast<void>(held->operate());
      held.reset();
    });
    run.after([=] {
      race::check(closes->load(std::memory_order_relaxed) == 1, "exactly one close succeeds");
      expect_one_end(*seen);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

// D1 D2: nobody closes: the last put does, while an operation is under way whose own count is gone.
TEST(RaceOpenFile, LastPutAgainstAnOperationThatOutlivesItsCount) {
  const race::report found = race::explore({.schedules = 20'000}, [](race::run& run) {
    auto seen = std::make_shared<outcome>();
    file_ref file = sluice::make_ref<raced_file>(seen);
    for (int i = 0; i < 2; ++i) {
      run.thread([held = file]() mutable {
        raced_file& kept = *held;
        race::check(kept.begin(), "open while a count is held");
        held.reset();
        kept.finish();
      });
    }
    run.thread([held = std::move(file)]() mutable { held.reset(); });
    run.after([=] {
      race::check(seen->operations.load(std::memory_order_relaxed) == 2, "both finished");
      expect_one_end(*seen);
    });
  });
  EXPECT_TRUE(found.ok()) << found;
}

}  // namespace
}  // namespace open_file_test
