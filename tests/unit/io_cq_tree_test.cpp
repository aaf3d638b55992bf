// Goal: the tree finds exactly what is in it, whatever the ids and the order of insertions and removals, in at most 64
// steps. Method: against a map, over ids that are dense, sparse, equal in their low bits, and equal altogether.
#include "sluice/ioc/io_cq_tree.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "sluice/ioc/io_cq_links.h"

namespace {

using namespace sluice;

struct side;

struct node : io_cq_node<node, side, side> {};

}  // namespace

// The tree's users set what a node is found by; here that is this test's.
template <>
class sluice::io_context_links<node, side, side, void> {
 public:
  static void name(node& which, std::uint64_t id, side& queue) noexcept {
    which.id_ = id;
    which.queue_ = &queue;
  }
};

namespace {

using naming = io_context_links<node, side, side, void>;

struct side {};

void against_a_map(const std::vector<std::uint64_t>& ids) {
  side queue;
  side stranger;
  std::vector<node> nodes(ids.size());
  io_cq_tree<node> tree;
  std::map<std::uint64_t, node*> expected;
  std::mt19937_64 random(7);
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t which = random() % ids.size();
    if (expected.contains(ids[which])) {
      tree.erase(*expected.at(ids[which]));
      expected.erase(ids[which]);
    } else {
      naming::name(nodes[which], ids[which], queue);
      tree.insert(nodes[which]);
      expected.emplace(ids[which], &nodes[which]);
    }
    const std::uint64_t asked = ids[random() % ids.size()];
    const auto found = expected.find(asked);
    ASSERT_EQ(tree.find(asked, queue), found == expected.end() ? nullptr : found->second);
    ASSERT_EQ(tree.find(asked, stranger), nullptr) << "the same id is not the same queue";
    ASSERT_EQ(tree.empty(), expected.empty());
    if (step % 64 == 0) {
      ASSERT_EQ(tree.size(), expected.size());
    }
  }
  while (node* any = tree.any()) {
    tree.erase(*any);
    expected.erase(expected.begin());
  }
  EXPECT_TRUE(expected.empty());
}

TEST(IoCqTree, FindsWhatIsInIt) {
  std::vector<std::uint64_t> dense;
  std::vector<std::uint64_t> high;   // equal in all but the upper bits
  std::vector<std::uint64_t> chain;  // each agrees with the next in one more bit: the deepest path
  std::vector<std::uint64_t> spread;
  std::mt19937_64 random(11);
  for (std::uint64_t i = 0; i < 64; ++i) {
    dense.push_back(1000 + i);
    high.push_back(i << 58);
    chain.push_back(std::uint64_t{1} << i);
    spread.push_back(random());
  }
  for (const auto& ids : {dense, high, chain, spread}) {
    against_a_map(ids);
  }
}

// O6: two queues under one id: each is found by its own.
TEST(IoCqTree, OneIdOfTwoQueuesIsTwoNodes) {
  side first;
  side second;
  io_cq_tree<node> tree;
  std::array<node, 2> both;
  for (const std::uint64_t id : {std::uint64_t{0}, std::uint64_t{5}, ~std::uint64_t{0}}) {
    naming::name(both[0], id, first);
    naming::name(both[1], id, second);
    tree.insert(both[0]);
    tree.insert(both[1]);
    EXPECT_EQ(tree.find(id, first), both.data());
    EXPECT_EQ(tree.find(id, second), &both[1]);
    tree.erase(both[0]);
    EXPECT_EQ(tree.find(id, first), nullptr);
    EXPECT_EQ(tree.find(id, second), &both[1]);
    tree.erase(both[1]);
    EXPECT_TRUE(tree.empty());
  }
}

}  // namespace
