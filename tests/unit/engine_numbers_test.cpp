// Goal: each engine that lives in the process has a number of its own, up to 65 535 of them; a pool that finds too
// few is not made, and gives back what it took. Method: all numbers but a few are taken directly; then pools of
// several nodes are made.
#include "wq/crew/engine_numbers.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "support/wq_probe.h"
#include "wq/os/os_pool.h"

namespace sluice {
namespace engine_numbers_test {
namespace {

using numbers = detail::engine_numbers<os_sync>;
using account = detail::basic_account<os_sync>;

// Takes all numbers that are free, and gives them back.
class all_numbers {
 public:
  all_numbers() {
    // Numbers are given out without a look at the accounts.
    auto* const any = reinterpret_cast<account*>(&place_);
    while (const std::uint16_t one = numbers::take({any, any})) {
      taken_.push_back(one);
    }
  }
  ~all_numbers() { give_back(taken_.size()); }
  all_numbers(const all_numbers&) = delete;
  all_numbers& operator=(const all_numbers&) = delete;

  void give_back(std::size_t count) {
    for (; count != 0; --count) {
      numbers::give_back(taken_.back());
      taken_.pop_back();
    }
  }
  [[nodiscard]] const std::vector<std::uint16_t>& taken() const { return taken_; }

 private:
  std::uint64_t place_ = 0;
  std::vector<std::uint16_t> taken_;
};

TEST(EngineNumbers, EachNumberIsGivenOnce) {
  const all_numbers all;
  EXPECT_EQ(all.taken().size(), 65'535U) << "no pool lives in this process";
  EXPECT_EQ(std::set<std::uint16_t>(all.taken().begin(), all.taken().end()).size(), all.taken().size());
}

TEST(EngineNumbers, APoolThatFindsTooFewGivesBackWhatItTook) {
  all_numbers all;
  EXPECT_EQ(io_wq::create({.topology = "node:1 pu:2"}).error(), error_of(ENOMEM));
  all.give_back(3);
  for (int round = 0; round < 5; ++round) {
    EXPECT_EQ(io_wq::create({.topology = "node:4 pu:1"}).error(), error_of(ENOMEM)) << round;
    const auto wq = io_wq::create({.max_bound = 3, .max_unbound = 3, .topology = "node:3 pu:1"});
    ASSERT_TRUE(wq.has_value()) << round;
    test::probe one;
    ASSERT_TRUE((*wq)->submit(one).has_value());
    one.wait_released();
  }
}

}  // namespace
}  // namespace engine_numbers_test
}  // namespace sluice
