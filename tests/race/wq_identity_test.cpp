// Goal: a worker that breaks on the way to a work loses nothing, whatever else happens to the work or the worker meanwhile.
// Method: the engine on the deterministic scheduler, with an identity that is an I/O priority of the fiber.
#include <gtest/gtest.h>

#include "sluice/identity/identity.h"

#include "race/wq_rig.h"

namespace wq_identity_test {
namespace {

using namespace sluice;

ref<const identity> idle_priority() {
  static const ref<const identity> made = *identity_builder().set_priority(ioprio(ioprio_class::be, 7)).build();
  return made;
}

// I6 C2 C7 P2: the worker cannot take off the first work's identity. The second work is cancelled twice meanwhile, and the sampler
// marks the worker: the work is given up once, or run once by the other worker.
TEST(RaceWqIdentity, ABrokenWorkerAgainstCancelsAndTheSampler) {
  explore([](race::run& run) {
    auto rig = std::make_shared<wq_rig>(wq_rig::options(2));
    auto* const breaks = rig->add_worker();
    auto* const other = rig->add_worker();
    constexpr std::uint64_t victim = 7;
    rig->jobs[0].set_identity(idle_priority());
    rig->jobs[0].set_flags(work_flags::no_cancel);
    wq_rig* const raw = rig.get();  // a job that keeps its rig would keep itself
    rig->jobs[0].body = [raw](work_context&) { raw->identities.fails = true; };
    rig->jobs[1].set_owner(victim);
    rig->jobs[2].set_flags(work_flags::no_cancel);
    auto counts = std::make_shared<std::array<cancel_counts, 2>>();
    run.thread([=] { rig->pool.worker_loop(*breaks); });
    run.thread([=] { rig->pool.worker_loop(*other); });
    rig->pool.expect_canceller();
    run.thread([=] { rig->pool.canceller_loop(); });
    run.thread([=] { (*counts)[0] = rig->pool.cancel_owner(victim); });
    run.thread([=] {
      rig->pool.sample();
      rig->pool.sample();
    });
    run.thread([=] {
      const std::array<work*, 3> all{&rig->jobs[0], &rig->jobs[1], &rig->jobs[2]};
      race::check(rig->pool.submit(std::span<work* const>(all)).value_or(0) == 3, "accepted");
      (*counts)[1] = rig->pool.cancel_owner(victim);
      rig->stop();
    });
    run.after([=] {
      for (std::size_t i = 0; i < 3; ++i) {
        rig->jobs[i].check_done();
      }
      race::check((*counts)[0].cancelled + (*counts)[1].cancelled <= 1, "one of two cancels gives it up (C7)");
      race::check(!rig->jobs[0].began_cancelled && !rig->jobs[2].began_cancelled, "no cancel matches them (C4)");
    });
  });
}

}  // namespace
}  // namespace wq_identity_test
