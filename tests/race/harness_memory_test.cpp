// The harness's memory model, by litmus tests: each outcome that C++ forbids is never seen, each one that a weakened
// order lets happen is found.
#include <set>
#include <utility>

#include <gtest/gtest.h>

#include "race/harness/race.h"

namespace harness_memory_test {
namespace {

using race::explore;
using race::memory;
using race::report;
using race::sync;

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto acq_rel = std::memory_order_acq_rel;
constexpr auto seq_cst = std::memory_order_seq_cst;

// Small enough for every schedule; with room for the choices of the weak model.
constexpr race::options all_of(memory model) {
  return {.schedules = 400'000, .how = race::mode::exhaustive, .model = model};
}

struct two_words {
  sync::atomic<int> x{0};
  sync::atomic<int> y{0};
  int first = -1;
  int second = -1;
};

// ---- message passing
// -------------------------------------------------------------------------------------------------

struct letter {
  race::plain<int> text{0};
  sync::atomic<int> flag{0};
};

template <class Write, class Read>
report pass_a_letter(race::options how, Write write, Read read) {
  return explore(how, [=](race::run& run) {
    auto state = std::make_shared<letter>();
    run.thread([=] {
      state->text.write(7);
      write(state->flag);
    });
    run.thread([=] {
      if (read(state->flag) != 0) {
        race::check(state->text.read() == 7, "the letter is there");
      }
    });
  });
}

TEST(RaceMemory, MessagePassingNeedsReleaseAndAcquire) {
  const auto store = [](std::memory_order order) { return [=](sync::atomic<int>& flag) { flag.store(1, order); }; };
  const auto load = [](std::memory_order order) { return [=](sync::atomic<int>& flag) { return flag.load(order); }; };
  for (const race::options& how : {race::options{}, all_of(memory::sc), all_of(memory::weak)}) {
    const report right = pass_a_letter(how, store(release), load(acquire));
    EXPECT_TRUE(right.ok()) << right;
    const report strong = pass_a_letter(how, store(seq_cst), load(seq_cst));
    EXPECT_TRUE(strong.ok()) << strong;
    for (const auto& [write, read] : {std::pair{relaxed, acquire}, std::pair{release, relaxed}}) {
      const report found = pass_a_letter(how, store(write), load(read));
      EXPECT_TRUE(found.failed) << "also where the execution itself is sequentially consistent";
      EXPECT_NE(found.message.find("data race"), std::string::npos) << found;
    }
  }
}

TEST(RaceMemory, AReadModifyWriteContinuesTheReleaseSequence) {
  const auto middle = [](auto third) {
    return explore({}, [=](race::run& run) {
      auto state = std::make_shared<letter>();
      run.thread([=] {
        state->text.write(7);
        state->flag.store(1, release);
      });
      run.thread([=] { third(state->flag); });
      run.thread([=] {
        if (state->flag.load(acquire) == 2) {
          race::check(state->text.read() == 7, "the letter is there");
        }
      });
    });
  };
  const report kept = middle([](sync::atomic<int>& flag) {
    int expected = 1;
    flag.compare_exchange_strong(expected, 2, relaxed, relaxed);
  });
  EXPECT_TRUE(kept.ok()) << kept;
  const report broken = middle([](sync::atomic<int>& flag) {
    if (flag.load(relaxed) == 1) {
      flag.store(2, relaxed);
    }
  });
  EXPECT_TRUE(broken.failed) << "a plain store of another thread ends it";
}

TEST(RaceMemory, AnUnpublishedObjectIsFound) {
  const auto publish = [](std::memory_order order) {
    return explore({}, [=](race::run& run) {
      struct slot {
        ~slot() { delete object.load(relaxed); }
        sync::atomic<two_words*> object{nullptr};
      };
      auto state = std::make_shared<slot>();
      run.thread([=] { state->object.store(new two_words, order); });
      run.thread([=] {
        if (two_words* object = state->object.load(acquire); object != nullptr) {
          object->x.fetch_add(1, relaxed);
        }
      });
    });
  };
  const report right = publish(release);
  EXPECT_TRUE(right.ok()) << right;
  const report found = publish(relaxed);
  EXPECT_TRUE(found.failed);
  EXPECT_NE(found.message.find("construction"), std::string::npos) << found;
}

// ---- store buffering: "publish, then look"
// ---------------------------------------------------------------------------

report dekker(race::options how, std::memory_order store_order, std::memory_order load_order) {
  return explore(how, [=](race::run& run) {
    auto state = std::make_shared<two_words>();
    run.thread([=] {
      state->x.store(1, store_order);
      state->first = state->y.load(load_order);
    });
    run.thread([=] {
      state->y.store(1, store_order);
      state->second = state->x.load(load_order);
    });
    run.after([=] { race::check(state->first == 1 || state->second == 1, "at least one sees the other"); });
  });
}

TEST(RaceMemory, DekkerNeedsSeqCst) {
  for (const memory model : {memory::sc, memory::store_buffers, memory::weak}) {
    for (const race::options& how : {race::options{.model = model}, all_of(model)}) {
      const report right = dekker(how, seq_cst, seq_cst);
      EXPECT_TRUE(right.ok()) << right;
      EXPECT_EQ(right.complete, how.how == race::mode::exhaustive);
      const report found = dekker(how, release, acquire);
      EXPECT_EQ(found.failed, model != memory::sc) << found;
      // What an x86 does with a release store, although the load is seq_cst.
      const report half = dekker(how, release, seq_cst);
      EXPECT_EQ(half.failed, model != memory::sc) << half;
      // What only the language (and an ARM) allows.
      const report other_half = dekker(how, seq_cst, acquire);
      EXPECT_EQ(other_half.failed, model == memory::weak) << other_half;
    }
  }
}

TEST(RaceMemory, DekkerAgainstAnExchange) {
  // The publisher's store is too weak; the other side is as strong as can be. Only a store buffer shows this one.
  const auto half = [](race::options how, std::memory_order store_order) {
    return explore(how, [=](race::run& run) {
      auto state = std::make_shared<two_words>();
      run.thread([=] {
        state->x.store(1, store_order);
        state->first = state->y.load(seq_cst);
      });
      run.thread([=] {
        state->y.store(1, seq_cst);
        state->second = state->x.exchange(2, seq_cst);
      });
      run.after([=] { race::check(state->first == 1 || state->second == 1, "at least one sees the other"); });
    });
  };
  for (const memory model : {memory::store_buffers, memory::weak}) {
    EXPECT_TRUE(half({.model = model}, release).failed);
    EXPECT_TRUE(half(all_of(model), release).failed);
    const report right = half(all_of(model), seq_cst);
    EXPECT_TRUE(right.ok() && right.complete) << right;
  }
}

// ---- coherence, and the single order of seq_cst
// ----------------------------------------------------------------------

TEST(RaceMemory, AFiberNeverSeesAValueOlderThanItSaw) {
  const report found = explore(all_of(memory::weak), [](race::run& run) {
    auto state = std::make_shared<two_words>();
    run.thread([=] {
      state->x.store(1, relaxed);
      state->x.store(2, relaxed);
    });
    run.thread([=] {
      state->first = state->x.load(relaxed);
      state->second = state->x.load(relaxed);
    });
    run.after([=] { race::check(state->second >= state->first, "values go forward"); });
  });
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

TEST(RaceMemory, AFiberNeverSeesAValueOlderThanOneSeenBefore) {
  // Write, seen by a second thread, which then tells a third: the third may not see the value of before.
  const report found = explore(all_of(memory::weak), [](race::run& run) {
    auto state = std::make_shared<two_words>();
    run.thread([=] { state->x.store(1, relaxed); });
    run.thread([=] {
      if (state->x.load(relaxed) == 1) {
        state->y.store(1, release);
      }
    });
    run.thread([=] {
      if (state->y.load(acquire) == 1) {
        race::check(state->x.load(relaxed) == 1, "seen before, seen after");
      }
    });
  });
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

TEST(RaceMemory, AReadModifyWriteSeesTheNewestValue) {
  const report found = explore(all_of(memory::weak), [](race::run& run) {
    auto state = std::make_shared<two_words>();
    for (int i = 0; i < 2; ++i) {
      run.thread([=] {
        state->x.fetch_add(1, relaxed);
        state->x.fetch_add(1, relaxed);
      });
    }
    run.after([=] { race::check(state->x.load(relaxed) == 4, "nothing is lost"); });
  });
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

// Independent reads of independent writes: do two readers agree on the order of the writes?
report two_readers(std::memory_order store_order, std::memory_order load_order) {
  struct views {
    sync::atomic<int> x{0};
    sync::atomic<int> y{0};
    bool x_before_y = false;
    bool y_before_x = false;
  };
  return explore(all_of(memory::weak), [=](race::run& run) {
    auto state = std::make_shared<views>();
    run.thread([=] { state->x.store(1, store_order); });
    run.thread([=] { state->y.store(1, store_order); });
    run.thread([=] { state->x_before_y = state->x.load(load_order) == 1 && state->y.load(load_order) == 0; });
    run.thread([=] { state->y_before_x = state->y.load(load_order) == 1 && state->x.load(load_order) == 0; });
    run.after([=] { race::check(!(state->x_before_y && state->y_before_x), "the readers agree"); });
  });
}

TEST(RaceMemory, ReadersAgreeOnTheOrderOfSeqCstStores) {
  const report right = two_readers(seq_cst, seq_cst);
  EXPECT_TRUE(right.ok() && right.complete) << right;
  EXPECT_TRUE(two_readers(release, acquire).failed);
}

TEST(RaceMemory, AFiberSeesItsOwnBufferedStore) {
  const report found = explore(all_of(memory::store_buffers), [](race::run& run) {
    auto state = std::make_shared<two_words>();
    run.thread([=] {
      state->x.store(1, relaxed);
      race::check(state->x.load(relaxed) == 1, "its own store");
      race::check(state->x.fetch_add(1, acq_rel) == 1, "also by a read-modify-write");
      int expected = 2;
      state->x.store(2, relaxed);
      race::check(state->x.compare_exchange_strong(expected, 3, acq_rel, acquire), "also by a compare-exchange");
    });
    run.thread([=] { static_cast<void>(state->x.load(acquire)); });
    run.after([=] { race::check(state->x.load(relaxed) == 3, "the buffer is empty in the end"); });
  });
  EXPECT_TRUE(found.ok() && found.complete) << found;
}

TEST(RaceMemory, TheInterfaceOfStdAtomic) {
  enum class colour : std::uint8_t { red, green };
  std::array<int, 4> row{};
  sync::atomic<int*> pointer{row.data()};
  EXPECT_EQ(pointer.fetch_add(3, relaxed), row.data());
  EXPECT_EQ(pointer.fetch_sub(1, relaxed), row.data() + 3);
  EXPECT_EQ(pointer.load(relaxed), row.data() + 2);
  sync::atomic<colour> paint{colour::red};
  EXPECT_EQ(paint.exchange(colour::green, relaxed), colour::red);
  sync::atomic<std::int8_t> small{127};
  EXPECT_EQ(small.fetch_add(1, relaxed), 127);
  EXPECT_EQ(small.load(relaxed), -128);
  sync::atomic<std::uint64_t> bits{0xf0};
  EXPECT_EQ(bits.fetch_or(0x0f, relaxed), 0xf0U);
  EXPECT_EQ(bits.fetch_and(0x3c, relaxed), 0xffU);
  EXPECT_EQ(bits.fetch_xor(0xff, relaxed), 0x3cU);
  EXPECT_EQ(bits.load(relaxed), 0xc3U);
  std::uint64_t expected = 1;
  EXPECT_FALSE(bits.compare_exchange_strong(expected, 0, acq_rel));
  EXPECT_EQ(expected, 0xc3U);
  EXPECT_TRUE(bits.compare_exchange_weak(expected, 0, release, relaxed));
  sync::atomic<bool> flag;
  EXPECT_FALSE(flag.load(relaxed));
}

}  // namespace
}  // namespace harness_memory_test
