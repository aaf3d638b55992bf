// io_context: what each of the three counters does, one thread; and the rules of a priority.
#include "sluice/ioc/io_context.h"

#include <gtest/gtest.h>

#include "sluice/identity/credentials.h"

namespace io_context_test {
namespace {

using namespace sluice;

// Records its exit and its end.
struct recorded : io_context_counts<recorded> {
  recorded(int& exits, int& ends) : exits_(exits), ends_(ends) {}
  ~recorded() { ++ends_; }
  void exit_io_cqs() noexcept {
    EXPECT_GT(use_count(), 0U);
    ++exits_;
  }

 private:
  int& exits_;
  int& ends_;
};

// O1: active_ref 0 exits the io_cqs exactly once; the memory lives until refcount 0.
TEST(IoContext, LastActiveExitsAndLastCountFrees) {
  int exits = 0;
  int ends = 0;
  auto* context = new recorded(exits, ends);
  ref<recorded> memory = ref<recorded>::retain(context);
  context->get_active();
  context->exit_task();
  EXPECT_EQ(exits, 0) << "one active count is left";
  EXPECT_EQ(context->nr_tasks(), 0);
  context->put_active();
  EXPECT_EQ(exits, 1);
  EXPECT_EQ(ends, 0) << "a plain count keeps the memory";
  memory.reset();
  EXPECT_EQ(exits, 1);
  EXPECT_EQ(ends, 1);
}

// O2: every active count holds a refcount.
TEST(IoContext, ActiveImpliesRefcount) {
  int exits = 0;
  int ends = 0;
  auto* context = new recorded(exits, ends);
  for (int i = 2; i <= 5; ++i) {
    context->task_link();
    EXPECT_EQ(context->active_ref(), i);
    EXPECT_EQ(context->use_count(), static_cast<unsigned>(i));
    EXPECT_EQ(context->nr_tasks(), i);
  }
  for (int i = 4; i >= 1; --i) {
    context->exit_task();
    EXPECT_EQ(context->active_ref(), i);
    EXPECT_EQ(context->use_count(), static_cast<unsigned>(i));
  }
  context->exit_task();
  EXPECT_EQ(exits, 1);
  EXPECT_EQ(ends, 1);
}

TEST(IoContextDeathTest, UseAfterExitIsCaught) {
  int exits = 0;
  int ends = 0;
  auto* context = new recorded(exits, ends);
  ref<recorded> memory = ref<recorded>::retain(context);
  context->exit_task();
  EXPECT_DEATH(memory->get_active(), "only a holder of an active count");
  EXPECT_DEATH(memory->put_active(), "without an active count");
}

TEST(IoContext, PriorityRulesAreTheKernels) {
  EXPECT_TRUE(ioprio_check({}, ioprio_privilege::none).has_value());
  EXPECT_TRUE(ioprio_check({ioprio_class::be, 7}, ioprio_privilege::none).has_value());
  EXPECT_TRUE(ioprio_check({ioprio_class::idle, 0}, ioprio_privilege::none).has_value());
  EXPECT_TRUE(ioprio_check({ioprio_class::rt, 0}, ioprio_privilege::sys_nice).has_value());
  EXPECT_EQ(ioprio_check({ioprio_class::rt, 0}, ioprio_privilege::none).error(), error_of(EPERM));
  EXPECT_EQ(ioprio_check({ioprio_class::be, 8}, ioprio_privilege::sys_nice).error(), error_of(EINVAL));
  EXPECT_EQ(ioprio_check({ioprio_class::none, 1}, ioprio_privilege::sys_nice).error(), error_of(EINVAL));
  EXPECT_EQ(ioprio_check({static_cast<ioprio_class>(5), 0}, ioprio_privilege::sys_nice).error(), error_of(EINVAL));
}

TEST(IoContext, AnothersPriorityNeedsHisUserOrPrivilege) {
  credentials caller{.uid = 1000};
  EXPECT_TRUE(ioprio_may_set(caller, 1000).has_value());
  EXPECT_EQ(ioprio_may_set(caller, 1001).error(), error_of(EPERM));
  EXPECT_EQ(ioprio_may_set({.uid = 0}, 1000).error(), error_of(EPERM)) << "it is the capability, not the number";
  EXPECT_EQ(ioprio_privilege_of(caller), ioprio_privilege::none);
  for (const capability power : {capability::sys_nice, capability::sys_admin}) {
    caller.effective = capability_set{}.with(power);
    EXPECT_TRUE(ioprio_may_set(caller, 1001).has_value());
    EXPECT_EQ(ioprio_privilege_of(caller), ioprio_privilege::sys_nice);
  }
  caller.effective = capability_set{}.with(capability::chown);
  EXPECT_EQ(ioprio_may_set(caller, 1001).error(), error_of(EPERM));
}

TEST(IoContext, PriorityStartsUnchosenAndIsKept) {
  io_context* made = io_context::create().value();
  EXPECT_EQ(made->get_ioprio(), ioprio{});
  EXPECT_EQ(made->get_ioprio().effective(), (ioprio{ioprio_class::be, 4}));
  made->set_ioprio({ioprio_class::idle, 0});
  EXPECT_EQ(made->get_ioprio().cls(), ioprio_class::idle);
  made->exit_task();
}

TEST(IoContext, WeightStartsAtAHundredAndStaysInRange) {
  io_context* made = io_context::create().value();
  EXPECT_EQ(made->weight(), 100U);
  EXPECT_TRUE(made->set_weight(1).has_value());
  EXPECT_EQ(made->weight(), 1U);
  EXPECT_TRUE(made->set_weight(10'000).has_value());
  EXPECT_EQ(made->set_weight(0).error(), error_of(EINVAL));
  EXPECT_EQ(made->set_weight(10'001).error(), error_of(EINVAL));
  EXPECT_EQ(made->set_weight(65'536 + 7).error(), error_of(EINVAL)) << "not what is left of it in 16 bits";
  EXPECT_EQ(made->weight(), 10'000U) << "a refused weight changes nothing";
  made->exit_task();
}

TEST(IoContext, LimitsStartUnsetAndAreKeptWhole) {
  io_context* made = io_context::create().value();
  EXPECT_FALSE(made->limits().any());
  constexpr io_limits wanted{.iops = ~0ULL, .bytes_per_second = 1ULL << 40};
  made->set_limits(wanted);
  EXPECT_EQ(made->limits(), wanted);
  made->set_limits({});
  EXPECT_FALSE(made->limits().any());
  made->exit_task();
}

}  // namespace
}  // namespace io_context_test
