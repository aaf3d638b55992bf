// handed_keys: one request of each key occupies a worker; a key without a slot of its own is counted one by one.
#include "ioc/handed_keys.h"

#include <array>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace handed_keys_test {
namespace {

using sluice::hash_domain;
using sluice::detail::handed_keys;

const hash_domain* domain(std::size_t number) {
  static const std::array<sluice::ref<hash_domain>, 3> all{hash_domain::create().value(), hash_domain::create().value(),
                                                           hash_domain::create().value()};
  return all.at(number).get();
}

TEST(HandedKeys, AllButTheFirstOfAKeyShare) {
  handed_keys keys;
  const handed_keys::ticket first = keys.add(domain(1), 7);
  EXPECT_NE(first, 0);
  EXPECT_EQ(keys.sharers(), 0U);
  EXPECT_EQ(keys.add(domain(1), 7), first);
  EXPECT_EQ(keys.add(domain(1), 7), first);
  EXPECT_EQ(keys.sharers(), 2U);
  keys.remove(first);
  EXPECT_EQ(keys.sharers(), 1U);
  keys.remove(first);
  keys.remove(first);
  EXPECT_EQ(keys.sharers(), 0U);
}

TEST(HandedKeys, OneKeyOfTwoDomainsIsTwoKeys) {
  handed_keys keys;
  static_cast<void>(keys.add(domain(1), 7));
  static_cast<void>(keys.add(domain(2), 7));
  EXPECT_EQ(keys.sharers(), 0U);
}

// Against a plain map, with more keys than slots: the table never counts more sharers than there are, and none that
// stays.
TEST(HandedKeys, NeverCountsMoreSharersThanThereAre) {
  std::mt19937_64 random(17);
  handed_keys keys;
  struct handed {
    std::uint64_t key;
    handed_keys::ticket ticket;
  };
  std::vector<handed> all;
  std::map<std::uint64_t, std::uint32_t> exact;
  for (int step = 0; step < 200'000; ++step) {
    if (all.empty() || (random() % 100 < 52 && all.size() < 256)) {
      const std::uint64_t key = random() % 150;
      all.push_back({key, keys.add(domain(1), key)});
      ++exact[key];
    } else {
      std::swap(all[random() % all.size()], all.back());
      const handed gone = all.back();
      all.pop_back();
      --exact[gone.key];
      if (gone.ticket != 0) {
        keys.remove(gone.ticket);
      }
    }
    std::uint32_t most = 0;
    for (const auto& [key, count] : exact) {
      most += count > 1 ? count - 1 : 0;
    }
    ASSERT_LE(keys.sharers(), most);
  }
  while (!all.empty()) {
    if (all.back().ticket != 0) {
      keys.remove(all.back().ticket);
    }
    all.pop_back();
  }
  EXPECT_EQ(keys.sharers(), 0U);
}

TEST(HandedKeysDeathTest, WhatIsNotCountedIsNotRemoved) {
  handed_keys keys;
  EXPECT_DEATH(keys.remove(7), "no request with this ticket");
}

}  // namespace
}  // namespace handed_keys_test
