#include <string>

#include "race/harness/memory.h"

namespace race::detail {

// ---- plain variables
// -------------------------------------------------------------------------------------------------

plain_state::plain_state() noexcept : vitality_(vitality::alive) {
  if (engine* now = engine::active(); now != nullptr) {
    run_ = now->run_id();
    id_ = now->new_object_id();
    write_fiber_ = now->self_index();
    write_epoch_ = now->self().now.at[write_fiber_];
  }
}

plain_state::~plain_state() {
  if (engine* now = engine::active(); now != nullptr) {
    if (vitality_ == vitality::dead) {
      now->fail(joined({object_name('p', id_), " is destroyed twice"}), {});
    } else if (run_ == now->run_id()) {
      check_write(*now, "destroyed", {});
    }
  }
  mark_dead(vitality_);
}

void plain_state::enter(engine& now, std::source_location at) noexcept {
  if (vitality_ != vitality::alive) {
    now.fail(joined({"access to the destroyed ", object_name('p', id_)}), at);
  }
  if (run_ != now.run_id()) {
    run_ = now.run_id();
    id_ = now.new_object_id();
    reads_ = {};
    write_fiber_ = 0;
    write_epoch_ = 1;
    write_at_ = {};
  }
}

void plain_state::read(std::source_location at) noexcept {
  engine* now = engine::active();
  if (now == nullptr) {
    return;
  }
  enter(*now, at);
  const strand& me = now->self();
  const unsigned fiber = now->self_index();
  now->note(op::read, id_, 0, 0, std::memory_order_relaxed, at);
  if (!me.now.covers(write_fiber_, write_epoch_)) {
    now->fail(joined({"data race on ", object_name('p', id_), ": read by ", fiber_name(fiber),
                      ", unordered with the write by ", fiber_name(write_fiber_), " at ",
                      base_name(write_at_.file_name()), ":", std::to_string(write_at_.line())}),
              at);
  }
  reads_.at[fiber] = me.now.at[fiber];
}

void plain_state::check_write(engine& now, const char* what, std::source_location at) noexcept {
  const strand& me = now.self();
  const unsigned fiber = now.self_index();
  if (!me.now.covers(write_fiber_, write_epoch_)) {
    now.fail(joined({"data race on ", object_name('p', id_), ": ", what, " by ", fiber_name(fiber),
                     ", unordered with the write by ", fiber_name(write_fiber_), " at ",
                     base_name(write_at_.file_name()), ":", std::to_string(write_at_.line())}),
             at);
  }
  if (const unsigned other = me.now.first_uncovered(reads_); other != max_fibers) {
    now.fail(joined({"data race on ", object_name('p', id_), ": ", what, " by ", fiber_name(fiber),
                     ", unordered with a read by ", fiber_name(other)}),
             at);
  }
}

void plain_state::write(std::source_location at) noexcept {
  engine* now = engine::active();
  if (now == nullptr) {
    return;
  }
  enter(*now, at);
  now->note(op::write, id_, 0, 0, std::memory_order_relaxed, at);
  check_write(*now, "written", at);
  write_fiber_ = now->self_index();
  write_epoch_ = now->self().now.at[write_fiber_];
  write_at_ = at;
  reads_ = {};
}

// ---- locks
// -----------------------------------------------------------------------------------------------------------

void begin_lock(lock_state& which) noexcept {
  which.alive = vitality::alive;
}

void end_lock(lock_state& which) noexcept {
  if (engine* now = engine::active(); now != nullptr && which.run == now->run_id()) {
    if (which.owner != max_fibers) {
      now->fail(joined({object_name('m', which.id), " is destroyed while ", fiber_name(which.owner), " holds it"}), {});
    } else if (now->self().now.first_uncovered(which.released) != max_fibers) {
      now->fail(joined({object_name('m', which.id), " is destroyed by ", fiber_name(now->self_index()),
                        ", unordered with its last unlock"}),
                {});
    }
  }
  mark_dead(which.alive);
}

namespace {

// The engine of a schedule, if the lock lives.
engine* enter_lock(const lock_state& which, std::source_location at) {
  engine* now = engine::active();
  if (now != nullptr && which.alive != vitality::alive) {
    now->fail(joined({"operation on the destroyed ", object_name('m', which.id)}), at);
  }
  return now;
}

}  // namespace

void lock_here(lock_state& which, std::source_location at) {
  if (engine* now = enter_lock(which, at); now != nullptr) {
    now->lock(which, at);
  }
}

bool try_lock_here(lock_state& which, std::source_location at) {
  engine* now = enter_lock(which, at);
  return now == nullptr || now->try_lock(which, at);
}

void unlock_here(lock_state& which, std::source_location at) {
  if (engine* now = enter_lock(which, at); now != nullptr) {
    now->unlock(which, at);
  }
}

}  // namespace race::detail
