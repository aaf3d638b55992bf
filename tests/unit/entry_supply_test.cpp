// Goal: a supply gives out as many entries as were made, each once, and frees a block with its last entry.
// Method: the supply alone, over entries that count themselves. A block that is freed too early, or never, is found
// by the sanitizer build.
#include "wq/keyed/entry_supply.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sluice/base/sync.h"

namespace sluice::detail {
namespace entry_supply_test {
namespace {

struct entry {
  static inline std::atomic<int> live{0};

  [[nodiscard]] static int alive() { return live.load(std::memory_order_relaxed); }

  entry() noexcept { live.fetch_add(1, std::memory_order_relaxed); }
  ~entry() { live.fetch_sub(1, std::memory_order_relaxed); }
  entry(const entry&) = delete;
  entry& operator=(const entry&) = delete;

  std::uint64_t payload = 0;
  std::uint16_t index = 0;
};
using supply = basic_entry_supply<os_sync, entry>;

std::vector<entry*> take_all(supply& from) {
  std::vector<entry*> all;
  while (from.size() != 0) {
    all.push_back(&from.take());
    all.back()->payload = all.size();
  }
  return all;
}

TEST(EntrySupply, GivesOutWhatWasMade) {
  for (const std::size_t count :
       {std::size_t{1}, supply::most_in_block, supply::most_in_block + 1, std::size_t{1000}}) {
    supply some = supply::make(count);
    EXPECT_EQ(some.size(), count);
    const std::vector<entry*> all = take_all(some);
    EXPECT_EQ(std::set<entry*>(all.begin(), all.end()).size(), count) << "each once";
    EXPECT_EQ(entry::alive(), static_cast<int>(count));
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(all[i]->payload, i + 1);
      supply::give_back(*all[i]);
    }
    EXPECT_EQ(entry::alive(), 0);
  }
}

TEST(EntrySupply, AddsAllOfAnother) {
  supply some = supply::make(3);
  supply::give_back(some.take());
  some.add(supply::make(2 * supply::most_in_block));
  some.add(supply::make(0));
  EXPECT_EQ(some.size(), 2 + 2 * supply::most_in_block);
  for (entry* const one : take_all(some)) {
    supply::give_back(*one);
  }
  EXPECT_EQ(some.size(), 0U);
}

// A block lives as long as its last entry: after the supply, and after entries that were given back earlier.
TEST(EntrySupply, EndsBeforeItsEntries) {
  std::vector<entry*> kept;
  {
    supply some = supply::make(10);
    kept = {&some.take(), &some.take()};
    supply::give_back(some.take());
  }
  for (entry* const one : kept) {
    one->payload = 1;
    supply::give_back(*one);
  }
  EXPECT_EQ(entry::alive(), 0);
}

TEST(EntrySupply, IsGivenBackByManyThreads) {
  constexpr std::size_t count = 2000;
  supply some = supply::make(count);
  const std::vector<entry*> all = take_all(some);
  std::vector<std::jthread> threads;
  for (std::size_t first = 0; first < 4; ++first) {
    threads.emplace_back([&all, first] {
      for (std::size_t i = first; i < count; i += 4) {
        supply::give_back(*all[i]);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(entry::alive(), 0);
}

}  // namespace
}  // namespace entry_supply_test
}  // namespace sluice::detail
