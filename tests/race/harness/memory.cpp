#include "race/harness/memory.h"

#include <algorithm>
#include <string>

namespace race::detail {
namespace {

constexpr std::size_t buffer_limit = 8;

bool acquires(std::memory_order order) noexcept {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}

bool releases(std::memory_order order) noexcept {
  return order == std::memory_order_release || order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
}

bool is_seq_cst(std::memory_order order) noexcept {
  return order == std::memory_order_seq_cst;
}

}  // namespace

// The last store of a destructor is dead to the compiler; not to whoever uses the object all the same.
void mark_dead(vitality& of) noexcept {
  of = vitality::dead;
  asm("" : : "r"(&of) : "memory");
}

std::string fiber_name(unsigned index) {
  return index == 0 ? std::string("the setting-up context") : joined({"fiber ", std::to_string(index)});
}

// ---- the stores that wait in a buffer
// --------------------------------------------------------------------------------

void engine::commit_one(strand& from) {
  const buffered_store entry = from.buffer.front();
  from.buffer.erase(from.buffer.begin());
  unsigned owner = 0;
  while (strands_[owner].get() != &from) {
    ++owner;
  }
  entry.where->commit(entry, owner, /*seq_cst=*/false);
  trace_.add({.what = op::commit,
              .fiber = static_cast<std::uint8_t>(owner),
              .object = entry.where->id(),
              .before = entry.value,
              .after = 0,
              .at = entry.at});
}

void engine::commit_all(strand& from) {
  while (!from.buffer.empty()) {
    commit_one(from);
  }
}

void engine::forget_stores_to(const cell& dead) {
  for (unsigned i = 0; i < fibers_; ++i) {
    std::erase_if(strands_[i]->buffer, [&](const buffered_store& entry) { return entry.where == &dead; });
  }
}

// ---- cells
// -----------------------------------------------------------------------------------------------------------

cell::cell(std::uint64_t initial) noexcept : vitality_(vitality::alive) {
  values_[0].value = initial;
  if (engine* now = engine::active(); now != nullptr) {
    adopt(*now);
    const strand& me = now->self();
    born_fiber_ = now->self_index();
    born_epoch_ = me.now.at[born_fiber_];
    accesses_.at[born_fiber_] = born_epoch_;
    values_[0].fiber = born_fiber_;
    values_[0].epoch = born_epoch_;
  }
}

cell::~cell() {
  engine* now = engine::active();
  if (now != nullptr) {
    if (vitality_ == vitality::dead) {
      now->fail(joined({object_name('a', id_), " is destroyed twice"}), {});
    } else if (run_ == now->run_id()) {
      now->note(op::destroy, id_, 0, 0, std::memory_order_relaxed, {});
      const unsigned other = now->self().now.first_uncovered(accesses_);
      if (other != max_fibers) {
        now->fail(joined({object_name('a', id_), " is destroyed by ", fiber_name(now->self_index()),
                          ", unordered with the last operation of ", fiber_name(other), " on it"}),
                  {});
      }
      now->forget_stores_to(*this);
    }
  }
  mark_dead(vitality_);
}

// An object of before this schedule: as if constructed by the setting-up context, with the value that it has.
void cell::adopt(engine& now) noexcept {
  const std::uint64_t value = at_index(newest_).value;
  run_ = now.run_id();
  id_ = now.new_object_id();
  newest_ = 0;
  seq_cst_floor_ = 0;
  born_fiber_ = 0;
  born_epoch_ = 1;
  accesses_ = {};
  values_[0] = {.value = value, .published = {}, .seen = {}, .epoch = 1, .fiber = 0};
}

void cell::enter(engine& now, std::source_location at) noexcept {
  if (vitality_ != vitality::alive) {
    now.fail(joined({"operation on the destroyed ", object_name('a', id_)}), at);
    return;
  }
  if (run_ != now.run_id()) {
    adopt(now);
  }
  strand& me = now.self();
  if (!me.now.covers(born_fiber_, born_epoch_)) {
    now.fail(joined({object_name('a', id_), " is used by ", fiber_name(now.self_index()),
                     ", unordered with its construction by ", fiber_name(born_fiber_)}),
             at);
  }
  accesses_.at[now.self_index()] = me.now.at[now.self_index()];
}

std::uint32_t cell::oldest_visible(const engine& now, bool seq_cst) noexcept {
  // self() is not const because callers change the clock; here it is only read.
  const vector_clock& clock = const_cast<engine&>(now).self().now;
  const std::uint32_t kept = newest_ < depth ? 0 : newest_ - (depth - 1);
  std::uint32_t index = newest_;
  for (; index > kept; --index) {
    const value_record& one = at_index(index);
    bool known = clock.covers(one.fiber, one.epoch);
    for (unsigned i = 0; i < max_fibers && !known; ++i) {
      known = one.seen.at[i] != 0 && clock.covers(i, one.seen.at[i]);
    }
    if (known) {
      break;
    }
  }
  return seq_cst ? std::max(index, seq_cst_floor_) : index;
}

std::uint32_t cell::choose_visible(engine& now, bool seq_cst) noexcept {
  if (now.how().model != memory::weak || !now.allow_stale()) {
    return newest_;
  }
  const std::uint32_t oldest = oldest_visible(now, seq_cst);
  if (oldest == newest_) {
    return newest_;
  }
  const std::uint32_t back = now.choices().rarely(3) ? 1 + now.choices().decide(newest_ - oldest) : 0;
  if (back > 0) {
    now.spend_stale();
  }
  return newest_ - back;
}

void cell::saw(engine& now, std::uint32_t index, std::memory_order order) noexcept {
  strand& me = now.self();
  value_record& one = at_index(index);
  std::uint32_t& first = one.seen.at[now.self_index()];
  if (first == 0) {
    first = me.now.at[now.self_index()];
  }
  if (acquires(order)) {
    me.now.join(one.published);
  }
  if (is_seq_cst(order)) {
    seq_cst_floor_ = std::max(seq_cst_floor_, index);
  }
}

std::uint64_t cell::load(std::memory_order order, std::source_location at) noexcept {
  engine* now = engine::active();
  if (now == nullptr) {
    return at_index(newest_).value;
  }
  now->point(at);
  enter(*now, at);
  const std::vector<buffered_store>& buffer = now->self().buffer;
  for (std::size_t i = buffer.size(); i > 0; --i) {
    if (buffer[i - 1].where == this) {
      now->note(op::own_load, id_, buffer[i - 1].value, 0, order, at);
      return buffer[i - 1].value;
    }
  }
  const std::uint32_t index = choose_visible(*now, is_seq_cst(order));
  const std::uint64_t value = at_index(index).value;
  saw(*now, index, order);
  now->note(index == newest_ ? op::load : op::stale_load, id_, value, 0, order, at);
  return value;
}

void cell::commit(const buffered_store& entry, unsigned fiber, bool seq_cst) noexcept {
  ++newest_;
  value_record& one = at_index(newest_);
  one = {.value = entry.value, .published = entry.published, .seen = {}, .epoch = entry.epoch, .fiber = fiber};
  if (seq_cst) {
    seq_cst_floor_ = newest_;
  }
}

void cell::store(std::uint64_t value, std::memory_order order, std::source_location at) noexcept {
  engine* now = engine::active();
  if (now == nullptr) {
    at_index(newest_).value = value;
    return;
  }
  now->point(at);
  enter(*now, at);
  strand& me = now->self();
  const unsigned fiber = now->self_index();
  buffered_store entry{.where = this, .value = value, .published = {}, .epoch = me.now.at[fiber], .at = at};
  if (releases(order)) {
    entry.published = me.now;
    ++me.now.at[fiber];
  }
  if (is_seq_cst(order) || now->how().model == memory::sc || fiber == 0) {
    now->commit_all(me);
    commit(entry, fiber, is_seq_cst(order));
    now->note(op::store, id_, value, 0, order, at);
    return;
  }
  if (me.buffer.size() == buffer_limit) {
    now->commit_one(me);
  }
  me.buffer.push_back(entry);
  now->note(op::buffer, id_, value, 0, order, at);
}

std::uint64_t cell::begin_rmw(std::source_location at) noexcept {
  if (engine* now = engine::active(); now != nullptr) {
    now->point(at);
    enter(*now, at);
    now->commit_all(now->self());
  }
  return at_index(newest_).value;
}

void cell::end_rmw(std::uint64_t value, std::memory_order order, std::source_location at) noexcept {
  engine* now = engine::active();
  if (now == nullptr) {
    at_index(newest_).value = value;
    return;
  }
  const std::uint64_t before = at_index(newest_).value;
  saw(*now, newest_, order);
  strand& me = now->self();
  const unsigned fiber = now->self_index();
  // A read-modify-write continues the release sequence of the value that it replaces, whatever its own order.
  buffered_store entry{
      .where = this, .value = value, .published = at_index(newest_).published, .epoch = me.now.at[fiber], .at = at};
  if (releases(order)) {
    entry.published.join(me.now);
    ++me.now.at[fiber];
  }
  commit(entry, fiber, is_seq_cst(order));
  now->note(op::rmw, id_, before, value, order, at);
}

bool cell::compare_exchange(std::uint64_t& expected, std::uint64_t desired, std::memory_order success,
                            std::memory_order failure, strength how, std::source_location at) noexcept {
  engine* now = engine::active();
  if (now == nullptr) {
    const bool same = at_index(newest_).value == expected;
    std::uint64_t& target = same ? at_index(newest_).value : expected;
    target = same ? desired : at_index(newest_).value;
    return same;
  }
  now->point(at);
  enter(*now, at);
  strand& me = now->self();
  if (std::ranges::any_of(me.buffer, [&](const buffered_store& entry) { return entry.where == this; })) {
    now->commit_all(me);
  }
  const std::uint64_t found = at_index(newest_).value;
  bool same = found == expected;
  if (same && how == strength::weak && now->allow_spurious() && now->choices().rarely(8)) {
    now->spend_spurious();
    same = false;
  }
  if (!same) {
    // Only a load. It publishes nothing, and the fiber's buffer stays as it is.
    saw(*now, newest_, failure);
    expected = found;
    now->note(op::cas_failed, id_, found, 0, failure, at);
    return false;
  }
  now->commit_all(me);
  end_rmw(desired, success, at);
  return true;
}

bool cell::wait(std::uint64_t expected, bool has_deadline, std::source_location at) noexcept {
  engine* now = engine::active();
  if (now == nullptr) {
    return true;
  }
  now->point(at);
  enter(*now, at);
  now->commit_all(now->self());
  // The kernel reads the word under its own lock: the newest value.
  if (at_index(newest_).value != expected) {
    now->note(op::no_sleep, id_, at_index(newest_).value, 0, std::memory_order_relaxed, at);
    return true;
  }
  now->note(op::sleep, id_, expected, 0, std::memory_order_relaxed, at);
  return now->sleep(*this, id_, has_deadline);
}

void wake_here(const cell& word, int count, std::source_location at) noexcept {
  if (engine* now = engine::active(); now != nullptr) {
    now->point(at);
    now->commit_all(now->self());
    now->note(op::wake, 0, 0, 0, std::memory_order_relaxed, at);
    // Only the address: the word may be gone.
    now->wake(&word, count);
  }
}

void relax_here(std::source_location at) noexcept {
  if (engine* now = engine::active(); now != nullptr) {
    now->relax(at);
  }
}

}  // namespace race::detail
