// Goal: accepted works are run or given up, each key's in order, although no memory can be had (X4).
// Method: this program's operator new fails while the test says so.
#include <algorithm>
#include <cstdlib>

#include <gtest/gtest.h>

#include "sluice/base/clock.h"
#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "support/own_new.h"
#include "support/proc_threads.h"
#include "support/wq_probe.h"

namespace {

std::atomic<bool> no_memory{false};
// So many allocations succeed, then none. Negative: all do.
std::atomic<int> allowed{-1};

}  // namespace

void* test::block_of(std::size_t bytes) noexcept {
  if (allowed.load(std::memory_order_seq_cst) == 0) {
    return nullptr;
  }
  if (allowed.load(std::memory_order_seq_cst) > 0) {
    allowed.fetch_sub(1, std::memory_order_seq_cst);
  }
  return no_memory.load(std::memory_order_seq_cst) ? nullptr : std::malloc(bytes);
}

namespace {

using namespace sluice;
using test::make_wq;
using test::probe;

// Time stands still, an hour from now: the sampler never takes the busy worker for blocked.
struct frozen_clock final : clock_seam {
  steady_time now() noexcept override { return at; }
  const steady_time at = std::chrono::steady_clock::now() + std::chrono::hours(1);
};

// A worker that runs, so that keyed works go through the inbox, until `go`.
struct busy_worker {
  explicit busy_worker(io_wq& wq)
      : work_([this](work_context&) {
          started.release();
          go.acquire();
        }) {
    EXPECT_TRUE(wq.submit(work_));
    started.acquire();
  }
  void finish() {
    go.release();
    work_.wait_released();
  }

 private:
  std::binary_semaphore started{0};
  std::binary_semaphore go{0};
  probe work_;
};

constexpr std::size_t keys = 200;
constexpr std::size_t per_key = 3;

std::vector<std::unique_ptr<probe>> keyed_works(hash_domain& domain,
                                                std::array<std::vector<std::size_t>, keys>& order) {
  std::vector<std::unique_ptr<probe>> all;
  for (std::size_t i = 0; i < keys * per_key; ++i) {
    order[i % keys].reserve(per_key);
    all.push_back(std::make_unique<probe>([&order, i](work_context&) { order[i % keys].push_back(i); }));
    all.back()->set_key(domain, i % keys);
  }
  return all;
}

// X4 W6 H2: without memory for keys a submit is refused with ENOMEM, and what was accepted runs in order.
TEST(IoWqNoMemory, KeysWithoutMemoryAreRefusedAtSubmit) {
  frozen_clock clock;
  const auto wq = make_wq({.max_bound = 1, .clock = &clock});
  const auto domain = *hash_domain::create();
  probe first;
  first.set_key(*domain, 0);
  ASSERT_TRUE(wq->submit(first));  // the wq knows the domain from here
  first.wait_released();
  std::array<std::vector<std::size_t>, keys> order;
  const auto all = keyed_works(*domain, order);
  busy_worker blocker(*wq);
  std::vector<bool> accepted(all.size());
  no_memory.store(true, std::memory_order_seq_cst);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto result = wq->submit(*all[i]);
    accepted[i] = result.has_value();
    if (!result) {
      EXPECT_EQ(result.error().value(), ENOMEM);
    }
  }
  blocker.finish();
  std::size_t refused = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (accepted[i]) {
      all[i]->wait_released();
    } else {
      ++refused;
      EXPECT_EQ(all[i]->runs() + all[i]->releases(), 0);  // W6
      EXPECT_TRUE(all[i]->keyed());
      EXPECT_EQ(all[i]->key(), i % keys);
    }
  }
  no_memory.store(false, std::memory_order_seq_cst);
  EXPECT_GT(refused, 0U);
  EXPECT_LT(refused, all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!accepted[i]) {
      EXPECT_TRUE(wq->submit(*all[i]));  // there is memory again
      all[i]->wait_released();
    }
  }
  for (const auto& each : order) {
    EXPECT_EQ(each.size(), per_key);
  }
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(domain->live_keys(), 0U);
  EXPECT_EQ(wq->stats().bound.accepted, wq->stats().bound.released);
  EXPECT_EQ(wq->stats().bound.refused, refused);
}

// X4 W5: a keyed member of a chain has its entry set aside at submit: without memory the chain is refused as a whole; one that was
// accepted runs to its end however little memory there is by then.
TEST(IoWqNoMemory, KeyedMembersOfChainsNeedNoMemoryAtTheirTurn) {
  frozen_clock clock;
  const auto wq = make_wq({.max_bound = 1, .clock = &clock});
  const auto domain = *hash_domain::create();
  constexpr std::size_t chains = 400;
  std::vector<std::unique_ptr<probe>> heads;
  std::vector<std::unique_ptr<probe>> tails;
  for (std::size_t i = 0; i < chains; ++i) {
    heads.push_back(std::make_unique<probe>());
    tails.push_back(std::make_unique<probe>());
    tails.back()->set_key(*domain, i);
    heads.back()->then(tails.back().get());
  }
  ASSERT_TRUE(wq->submit(*heads[0]));
  tails[0]->wait_released();
  busy_worker blocker(*wq);
  std::size_t accepted = 1;
  for (; accepted < chains / 2; ++accepted) {
    ASSERT_TRUE(wq->submit(*heads[accepted]));
  }
  no_memory.store(true, std::memory_order_seq_cst);
  std::size_t refused = 0;
  std::size_t end = accepted;
  for (; end < chains && refused == 0; ++end) {
    const auto result = wq->submit(*heads[end]);
    refused += result ? 0U : 1U;
    if (!result) {
      EXPECT_EQ(result.error().value(), ENOMEM);
      EXPECT_EQ(heads[end]->link(), tails[end].get());
    }
  }
  blocker.finish();
  for (std::size_t i = 1; i < end - refused; ++i) {
    tails[i]->wait_released();
    EXPECT_EQ(tails[i]->runs(), 1);
    EXPECT_FALSE(tails[i]->was_cancelled());
  }
  no_memory.store(false, std::memory_order_seq_cst);
  EXPECT_EQ(refused, 1U);
  wq->stop(stop_policy::run_queued);
  EXPECT_EQ(domain->live_keys(), 0U);
}

// X4: whichever allocation of create fails, it returns ENOMEM, leaves nothing behind, and the next create succeeds.
TEST(IoWqNoMemory, EachAllocationOfCreateMayFail) {
  bool succeeded = false;
  int failures = 0;
  for (int n = 0; !succeeded && n < 1000; ++n) {
    allowed.store(n, std::memory_order_seq_cst);
    auto made = io_wq::create({.max_bound = 1, .name = "nomem"});
    allowed.store(-1, std::memory_order_seq_cst);
    succeeded = made.has_value();
    failures += succeeded ? 0 : 1;
    if (!succeeded) {
      ASSERT_EQ(made.error().value(), ENOMEM) << "allocation " << n;
      while (test::threads_named("nomem") != 0) {  // one that was joined may be listed for a moment
        std::this_thread::yield();
      }
    }
  }
  EXPECT_TRUE(succeeded);
  EXPECT_GT(failures, 3);
}

// X4 C1: a chain whose next member finds no memory for its key is cut, and that member keeps nothing of the chain's handle:
// submitted again, it is not taken for whoever has that handle's place now.
TEST(IoWqNoMemory, AMemberThatWasCutOffKeepsNoHandle) {
  frozen_clock clock;
  const auto wq = make_wq({.max_bound = 1, .clock = &clock});
  const auto domain = *hash_domain::create();
  probe head([](work_context& ctx) { ctx.fail(); });
  std::binary_semaphore running{0};
  std::binary_semaphore go{0};
  bool stopped = false;
  probe member([&](work_context& ctx) {
    running.release();
    go.acquire();
    stopped = ctx.stop_token().stop_requested();
  });
  member.set_key(*domain, 1);
  head.then(&member);
  ASSERT_TRUE(wq->submit_tracked(head));
  member.wait_released();
  ASSERT_TRUE(member.was_cancelled());
  busy_worker blocker(*wq);
  probe other;
  ASSERT_TRUE(wq->submit(member));
  const auto handle = wq->submit_tracked(other);  // gets the place that the chain's handle had
  ASSERT_TRUE(handle);
  blocker.finish();
  running.acquire();
  EXPECT_EQ(wq->cancel(*handle), cancel_result::cancelled);
  go.release();
  member.wait_released();
  EXPECT_FALSE(stopped);
  wq->stop(stop_policy::run_queued);
  EXPECT_TRUE(other.was_cancelled());
  EXPECT_EQ(other.releases(), 1);
}

}  // namespace
