// fair_tree: the order of keys, whatever comes and goes, beside a std::map; and virtual time across a word's end.
#include "sluice/ioc/fair_tree.h"

#include <cstdint>
#include <map>
#include <random>

#include <gtest/gtest.h>

namespace fair_tree_test {
namespace {

using namespace sluice;

struct leaf : fair_node {};

fair_key key_of(std::uint64_t at, std::uint64_t turn) {
  return {.at = {.high = 0, .low = at}, .turn = turn};
}

TEST(FairTree, GivesTheSmallestFirstAndEqualsByTheirTurn) {
  fair_tree tree;
  EXPECT_TRUE(tree.empty());
  EXPECT_EQ(tree.first(), nullptr);
  std::vector<leaf> leaves(6);
  const std::vector<fair_key> keys{key_of(5, 1), key_of(3, 9), key_of(3, 2), key_of(8, 0), key_of(5, 0), key_of(1, 7)};
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    tree.insert(leaves[i], keys[i]);
  }
  for (const std::size_t expected : {5U, 2U, 1U, 4U, 0U, 3U}) {
    ASSERT_EQ(tree.first(), &leaves[expected]);
    tree.erase(leaves[expected]);
  }
  EXPECT_TRUE(tree.empty());
  tree.insert(leaves[0], keys[0]);
  EXPECT_EQ(tree.first(), &leaves[0]) << "an emptied tree starts anew";
  tree.erase(leaves[0]);
}

TEST(FairTree, AgreesWithAMapUnderAnyComingAndGoing) {
  fair_tree tree;
  std::vector<leaf> leaves(500);
  std::map<fair_key, leaf*> model;
  std::vector<bool> in(leaves.size());
  std::mt19937_64 random(1);
  for (std::uint64_t step = 0; step < 50'000; ++step) {
    const std::size_t which = random() % leaves.size();
    leaf& each = leaves[which];
    if (in[which]) {
      model.erase(each.key());
      tree.erase(each);
    } else {
      const fair_key key = key_of(random() % 64, step);  // many equals
      model.emplace(key, &each);
      tree.insert(each, key);
    }
    in[which] = !in[which];
    ASSERT_EQ(tree.first(), model.empty() ? nullptr : model.begin()->second) << step;
  }
  for (auto& [key, each] : model) {
    ASSERT_EQ(tree.first(), each);
    tree.erase(*each);
  }
  EXPECT_TRUE(tree.empty());
}

TEST(FairTree, TakesKeysThatOnlyGrowAndAnyNodeOut) {
  fair_tree tree;
  std::vector<leaf> leaves(10'000);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    tree.insert(leaves[i], key_of(i, 0));
  }
  for (std::size_t i = 1; i < leaves.size(); i += 2) {
    tree.erase(leaves[i]);
  }
  for (std::size_t i = 0; i < leaves.size(); i += 2) {
    ASSERT_EQ(tree.first(), &leaves[i]);
    tree.erase(leaves[i]);
  }
  EXPECT_TRUE(tree.empty());
}

TEST(FairTreeDeathTest, RefusesWhoIsNotInIt) {
  fair_tree tree;
  leaf in, out;
  tree.insert(in, key_of(1, 0));
  EXPECT_DEATH(tree.erase(out), "not in");
  tree.erase(in);
}

TEST(VirtualTime, GoesOnAcrossTheEndOfAWord) {
  const virtual_time before{.high = 7, .low = ~0ULL - 2};
  const virtual_time after = before.plus(5);
  EXPECT_EQ(after, (virtual_time{.high = 8, .low = 2}));
  EXPECT_LT(before, after);
  EXPECT_EQ(after.since(before), 5U);
  EXPECT_EQ(before.plus(0), before);
}

}  // namespace
}  // namespace fair_tree_test
