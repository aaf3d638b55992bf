// Goal: a cancel has one of three results, each of them true, against every step that a work can take meanwhile.
// Method: the engine on the deterministic scheduler; what a result promises is checked at the moment of the return.
#include <gtest/gtest.h>

#include "race/wq_rig.h"

namespace wq_cancel_test {
namespace {

using namespace sluice;

void check_result(const race_job& job, cancel_result said) {
  if (said == cancel_result::cancelled) {
    race::check(job.releases == 1 && job.began_cancelled, "cancelled: it was pending, and is over (C1)");
  }
}

// C1 C2 C3 W1: cancel against dequeue, of the first and of the second work of a batch.
TEST(RaceWqCancel, CancelAgainstDequeue) {
  for (const std::size_t which : {std::size_t{0}, std::size_t{1}}) {
    explore([which](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
      run.thread([=] {
        const std::array<work_handle, 2> names{rig->submit_tracked(rig->jobs[0]), rig->submit_tracked(rig->jobs[1])};
        const cancel_result said = rig->pool.cancel(names[which]);
        check_result(rig->jobs[which], said);
        race::check(said == cancel_result::running || rig->pool.cancel(names[which]) == cancel_result::not_found,
                    "a handle names its work for ever (no ABA)");
        race::check(rig->submit(rig->jobs[2]), "accepted");
        rig->stop();
      });
      run.after([=] {
        for (std::size_t i = 0; i < 3; ++i) {
          rig->jobs[i].check_done();
        }
      });
    });
  }
}

// C2 C5 C8: cancel against completion: the one that runs is interrupted, and the next sees nothing of it.
TEST(RaceWqCancel, CancelAgainstComplete) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    rig->jobs[1].body = [seams = &rig->interrupts](work_context& ctx) {
      race::check(seams->sent == 0 && !ctx.cancelled(), "an interrupt for one work is never seen by another (C5)");
    };
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      const work_handle name = rig->submit_tracked(rig->jobs[0]);
      race::check(rig->submit(rig->jobs[1]), "accepted");
      check_result(rig->jobs[0], rig->pool.cancel(name));
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      rig->jobs[1].check_done();
      race::check(rig->interrupts.sent == 0, "every interrupt was consumed");
    });
  });
}

// C7: of two cancels of one work exactly one may say cancelled.
TEST(RaceWqCancel, TwoCancelsOfOneWork) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    auto name = std::make_shared<work_handle>(rig->submit_tracked(rig->jobs[0]));
    auto won = std::make_shared<std::array<int, 2>>();
    auto over = std::make_shared<race::sync::atomic<std::uint32_t>>(0);
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      (*won)[0] = rig->pool.cancel(*name) == cancel_result::cancelled ? 1 : 0;
      over->store(1, std::memory_order_release);
      race::sync::wake(*over, 1);
    });
    run.thread([=] {
      (*won)[1] = static_cast<int>(rig->pool.cancel_owner(0).cancelled);
      while (over->load(std::memory_order_acquire) == 0) {
        race::sync::wait(*over, 0);
      }
      rig->stop();
    });
    run.after([=] {
      rig->jobs[0].check_done();
      race::check((*won)[0] + (*won)[1] == (rig->jobs[0].on_worker ? 0 : 1), "exactly one, if it was pending");
    });
  });
}

// C6: cancel_all against two workers: each work is counted once, as cancelled or as running, or is over.
TEST(RaceWqCancel, CancelAllAgainstWorkers) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    for (int i = 0; i < 2; ++i) {
      auto* const one = rig->add_worker();
      run.thread([=] { rig->pool.worker_loop(*one); });
    }
    rig->set_key(rig->jobs[2], 7);
    rig->set_key(rig->jobs[3], 7);
    run.thread([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        race::check(rig->submit(rig->jobs[i]), "accepted");
      }
      const cancel_counts counts = rig->pool.cancel_all();
      std::size_t given_up = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        given_up += rig->jobs[i].began_cancelled ? 1U : 0U;
      }
      race::check(counts.cancelled <= 4 && counts.cancelled + counts.running <= 4, "each match once (C6)");
      race::check(given_up >= counts.cancelled, "what was cancelled is over (C1)");
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// C6: a predicate looks at a snapshot; what it chose may have moved on, and is met once all the same.
TEST(RaceWqCancel, CancelIfAgainstWorkers) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    rig->set_key(rig->jobs[1], 7);
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      for (std::size_t i = 0; i < 3; ++i) {
        race::check(rig->submit(rig->jobs[i]), "accepted");
      }
      int seen = 0;
      const auto count = [](void* n, const work_view&) { return ++*static_cast<int*>(n) > 0; };
      const auto counts = rig->pool.cancel_chosen(count, &seen);
      race::check(counts.has_value() && seen <= 3, "each candidate once");
      race::check(counts->cancelled + counts->running <= static_cast<std::size_t>(seen), "each match once (C6)");
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 3; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

// C6 H2: the same while works, of one key or of none, are taken together: who was given a name where he waited is met
// where he went.
void explore_cancel_chosen(bool keyed) {
  explore([keyed](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const one = rig->add_worker();
    run.thread([=] { rig->pool.worker_loop(*one); });
    run.thread([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        if (keyed) {
          rig->set_key(rig->jobs[i], 7);
        }
        race::check(rig->submit(rig->jobs[i]), "accepted");
      }
      const auto all = [](void*, const work_view&) { return true; };
      race::check(rig->pool.cancel_chosen(all, nullptr).has_value(), "there is memory");
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 4; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

TEST(RaceWqCancel, CancelChosenAgainstRunOfKey) {
  explore_cancel_chosen(true);
}

TEST(RaceWqCancel, CancelChosenAgainstBatch) {
  explore_cancel_chosen(false);
}

// W4 W5: a chain whose handle is cancelled at any moment: before it began, in a member, between two, or never.
TEST(RaceWqCancel, CancelAgainstChain) {
  for (const work_class second : {work_class::bound, work_class::unbound}) {
    explore([second](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      auto* const bound = rig->add_worker();
      auto* const unbound = rig->add_worker(work_class::unbound);
      for (std::size_t i = 0; i < 3; ++i) {
        rig->jobs[i].number = static_cast<int>(i);
        rig->jobs[i].log = &rig->log;
      }
      rig->jobs[1].set_class(second);
      rig->jobs[0].then(&rig->jobs[1]);
      rig->jobs[1].then(&rig->jobs[2]);
      rig->jobs[1].body = [head = &rig->jobs[0]](work_context&) {
        race::check(head->releases == 1, "release(head), then run(linked) (W4)");
      };
      run.thread([=] { rig->pool.worker_loop(*bound); });
      run.thread([=] { rig->pool.worker_loop(*unbound); });
      run.thread([=] {
        const work_handle name = rig->submit_tracked(rig->jobs[0]);
        if (rig->pool.cancel(name) == cancel_result::cancelled) {
          race::check(rig->jobs[2].releases == 1, "the rest of the chain is over as well (W5)");
        }
        rig->stop();
      });
      run.after([=] {
        bool given_up = false;
        for (std::size_t i = 0; i < 3; ++i) {
          rig->jobs[i].check_done();
          race::check(rig->jobs[i].began_cancelled || !given_up, "after one that gave up, all give up");
          given_up = rig->jobs[i].began_cancelled;
        }
        race::check(rig->log == std::vector<int>({0, 1, 2}), "in order (W4)");
      });
    });
  }
}

// C3: a cancel that finds nothing comes before the chain was accepted, which it cannot here, or after its last member has run:
// then the memory is the user's. Between two members, and while one is given up, the answer is another.
TEST(RaceWqCancel, NotFoundMeansOver) {
  enum class turn : std::uint8_t { same_class, other_class, keyed, failed };
  for (const turn how : {turn::same_class, turn::other_class, turn::keyed, turn::failed}) {
    explore([how](race::run& run) {
      auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
      auto* const bound = rig->add_worker();
      auto* const unbound = rig->add_worker(work_class::unbound);
      race_job& last = rig->jobs[1];
      if (how == turn::other_class) {
        last.set_class(work_class::unbound);
      } else if (how == turn::keyed) {
        rig->set_key(last, 7);
      } else if (how == turn::failed) {
        rig->jobs[0].body = [](work_context& ctx) { ctx.fail(); };
      }
      rig->jobs[0].then(&last);
      const work_handle name = rig->submit_tracked(rig->jobs[0]);
      const auto cancel = [=] {
        if (rig->pool.cancel(name) == cancel_result::not_found) {
          race::check(rig->jobs[1].runs == 1, "not found: the whole chain has run (C3)");
        }
      };
      run.thread([=] { rig->pool.worker_loop(*bound); });
      run.thread([=] { rig->pool.worker_loop(*unbound); });
      run.thread(cancel);
      run.thread([=] {
        cancel();
        rig->stop();
      });
      run.after([=] {
        rig->jobs[0].check_done();
        rig->jobs[1].check_done();
      });
    });
  }
}

// A chain of three classes and keys against cancel_all, which may meet it between two members.
TEST(RaceWqCancel, CancelAllAgainstChain) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(1));
    auto* const bound = rig->add_worker();
    rig->set_key(rig->jobs[1], 3);
    rig->jobs[0].then(&rig->jobs[1]);
    rig->jobs[1].then(&rig->jobs[2]);
    run.thread([=] { rig->pool.worker_loop(*bound); });
    run.thread([=] {
      race::check(rig->submit(rig->jobs[0]), "accepted");
      const cancel_counts counts = rig->pool.cancel_all();
      if (counts.cancelled + counts.running == 0) {
        race::check(rig->jobs[2].runs == 1, "missed only if its last member had its end in hand");
      }
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 3; ++i) {
        rig->jobs[i].check_done();
      }
    });
  });
}

}  // namespace
}  // namespace wq_cancel_test
