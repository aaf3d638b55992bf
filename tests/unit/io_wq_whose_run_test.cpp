// Goal: a cancelled run and its release are made as the thread itself, whichever identity the canceller wears; the release of a
// work that ran wears the identity of its run (I1 I2 W2).
// Method: identities that carry an audit tag only, so that no privilege is needed; what a thread wears, current_identity() says.
#include <array>
#include <latch>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "sluice/identity/identity.h"
#include "sluice/wq/blocking_region.h"
#include "sluice/wq/io_wq.h"

#include "support/wq_probe.h"

namespace sluice {
namespace io_wq_whose_run_test {
namespace {

using test::make_wq;
using test::probe;

ref<const identity> tagged(const std::string& tag) {
  const identity_result made = identity_builder().set_audit(tag).build();
  EXPECT_TRUE(made) << made.error().message();
  return made ? *made : identity::neutral();
}

// Notes what its run and its release wear.
struct noting : probe {
  explicit noting(ref<const identity> who, std::function<void(work_context&)> act = {})
      : probe([this, act = std::move(act)](work_context& ctx) {
          run_as = current_identity();
          if (act) {
            act(ctx);
          }
          after_it = current_identity();
        }) {
    set_identity(std::move(who));
    on_cancelled_run([this] { run_as = current_identity(); });
    on_release([this] { released_as = current_identity(); });
  }
  const identity* run_as = nullptr;
  const identity* after_it = nullptr;
  const identity* released_as = nullptr;
};

void expect_nobodys(const noting& one) {
  EXPECT_TRUE(one.was_cancelled());
  EXPECT_EQ(one.run_as, nullptr);
  EXPECT_EQ(one.released_as, nullptr);
}

TEST(IoWqWhoseRun, ARunAndItsReleaseWearTheSame) {
  const auto wq = make_wq({.max_bound = 1});
  const auto one = tagged("one");
  const auto two = tagged("two");
  noting first(one);
  noting second(two);
  noting third(nullptr);
  const std::array<work*, 3> chain{&first, &second, &third};
  ASSERT_TRUE(wq->submit_chain(chain));
  EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
  for (const auto& [work, who] : {std::pair(&first, &*one), std::pair(&second, &*two)}) {
    EXPECT_EQ(work->run_as, who);
    EXPECT_EQ(work->released_as, who);
  }
  EXPECT_EQ(third.run_as, nullptr);
  EXPECT_EQ(third.released_as, nullptr);
  EXPECT_EQ(one->use_count() + two->use_count(), 2U);
}

// How the pending works are cancelled, and where: in a run that wears an identity, or in its release.
enum class cancel_kind : std::uint8_t { by_handle, by_owner, by_predicate };

TEST(IoWqWhoseRun, ACancelledRunWearsNothingOfItsCanceller) {
  constexpr std::uint64_t victims = 7;
  for (const cancel_kind how : {cancel_kind::by_handle, cancel_kind::by_owner, cancel_kind::by_predicate}) {
    for (const bool in_release : {false, true}) {
      const auto wq = make_wq({.max_bound = 1});
      const auto who = tagged("canceller");
      noting pending(tagged("victim"));
      noting rest(tagged("rest"));
      pending.then(&rest);
      pending.set_owner(victims);
      std::latch queued(1);
      work_handle handle;
      const auto cancel = [&] {
        if (how == cancel_kind::by_handle) {
          EXPECT_EQ(wq->cancel(handle), cancel_result::cancelled);
        } else if (how == cancel_kind::by_owner) {
          EXPECT_EQ(wq->cancel_owner(victims).cancelled, 2U);
        } else {
          EXPECT_EQ(wq->cancel_if([&](const work_view& v) { return v.owner == victims; })->cancelled, 2U);
        }
      };
      noting canceller(who, [&](work_context&) {
        queued.wait();
        if (!in_release) {
          cancel();
        }
      });
      const identity* after_release = nullptr;
      canceller.on_release([&] {
        canceller.released_as = current_identity();
        if (in_release) {
          cancel();
        }
        after_release = current_identity();
      });
      ASSERT_TRUE(wq->submit(canceller));
      handle = wq->submit_tracked(pending).value_or(work_handle());
      queued.count_down();
      rest.wait_released();
      EXPECT_TRUE(wq->stop(stop_policy::run_queued).finished);
      expect_nobodys(pending);
      expect_nobodys(rest);
      EXPECT_EQ(canceller.run_as, &*who);
      EXPECT_EQ(canceller.after_it, &*who) << "the canceller is itself again when the cancel returns";
      EXPECT_EQ(canceller.released_as, &*who);
      EXPECT_EQ(after_release, &*who);
    }
  }
}

// What is left of a chain whose member failed, or was asked to stop, is given up as the thread itself.
TEST(IoWqWhoseRun, TheRestOfAChainIsGivenUpAsTheThread) {
  for (const bool fails : {false, true}) {
    const auto wq = make_wq({.max_bound = 1});
    std::latch started(1);
    noting head(tagged("head"), [&](work_context& ctx) {
      started.count_down();
      const blocking_region region;
      while (!fails && !ctx.cancelled()) {
        std::this_thread::yield();
      }
      if (fails) {
        ctx.fail();
      }
    });
    noting second(tagged("second"));
    noting third(tagged("third"));
    head.then(&second);
    second.then(&third);
    const auto handle = wq->submit_tracked(head);
    ASSERT_TRUE(handle);
    started.wait();
    if (!fails) {
      EXPECT_EQ(wq->cancel(*handle), cancel_result::running);
    }
    third.wait_released();
    EXPECT_EQ(head.run_as, head.released_as);
    EXPECT_NE(head.run_as, nullptr);
    expect_nobodys(second);
    expect_nobodys(third);
  }
}

}  // namespace
}  // namespace io_wq_whose_run_test
}  // namespace sluice
