// memory: what an atomic, a plain variable and a lock are to the engine, without their types.
//
// A cell keeps its last few values with what each published, so that a load may be answered with an older one; and who
// touched it last, so that its construction and its destruction are found unordered with a use.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <source_location>
#include <string>

#include "race/harness/clock.h"
#include "race/harness/engine.h"

namespace race::detail {

void mark_dead(vitality& of) noexcept;
[[nodiscard]] std::string fiber_name(unsigned index);

class cell {
 public:
  explicit cell(std::uint64_t initial) noexcept;
  ~cell();
  cell(const cell&) = delete;
  cell& operator=(const cell&) = delete;

  [[nodiscard]] std::uint64_t load(std::memory_order order, std::source_location at) noexcept;
  void store(std::uint64_t value, std::memory_order order, std::source_location at) noexcept;
  // The two halves of one read-modify-write. Nothing runs between them.
  [[nodiscard]] std::uint64_t begin_rmw(std::source_location at) noexcept;
  void end_rmw(std::uint64_t value, std::memory_order order, std::source_location at) noexcept;

  enum class strength : std::uint8_t { weak, strong };
  [[nodiscard]] bool compare_exchange(std::uint64_t& expected, std::uint64_t desired, std::memory_order success,
                                      std::memory_order failure, strength how, std::source_location at) noexcept;

  // Sleeps while the value is `expected`; false once the deadline has passed.
  [[nodiscard]] bool wait(std::uint64_t expected, bool has_deadline, std::source_location at) noexcept;

  // A store takes effect: at once, or on its way out of a buffer.
  void commit(const buffered_store& entry, unsigned fiber, bool seq_cst) noexcept;
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }

 private:
  static constexpr std::uint32_t depth = 4;

  struct value_record {
    std::uint64_t value = 0;
    // What a reader that acquires is ordered after.
    vector_clock published;
    // Per fiber the event at which it first read this value: whoever is ordered after that may not read an older one.
    vector_clock seen;
    std::uint32_t epoch = 0;
    std::uint32_t fiber = 0;
  };

  [[nodiscard]] value_record& at_index(std::uint32_t index) noexcept { return values_[index % depth]; }
  void adopt(engine& now) noexcept;
  void enter(engine& now, std::source_location at) noexcept;
  [[nodiscard]] std::uint32_t oldest_visible(const engine& now, bool seq_cst) noexcept;
  [[nodiscard]] std::uint32_t choose_visible(engine& now, bool seq_cst) noexcept;
  void saw(engine& now, std::uint32_t index, std::memory_order order) noexcept;

  vitality vitality_;
  std::uint32_t id_ = 0;
  std::uint64_t run_ = 0;
  std::uint32_t newest_ = 0;
  // No seq_cst load may read a value before this one: it would contradict the single order.
  std::uint32_t seq_cst_floor_ = 0;
  std::uint32_t born_epoch_ = 0;
  std::uint32_t born_fiber_ = 0;
  vector_clock accesses_;
  std::array<value_record, depth> values_;
};

// The record of a variable without atomicity: two accesses that are not ordered, one of them a write, are a data race.
class plain_state {
 public:
  plain_state() noexcept;
  ~plain_state();
  plain_state(const plain_state&) = delete;
  plain_state& operator=(const plain_state&) = delete;

  void read(std::source_location at) noexcept;
  void write(std::source_location at) noexcept;

 private:
  void enter(engine& now, std::source_location at) noexcept;
  void check_write(engine& now, const char* what, std::source_location at) noexcept;

  vitality vitality_;
  std::uint32_t id_ = 0;
  std::uint64_t run_ = 0;
  vector_clock reads_;
  std::uint32_t write_epoch_ = 0;
  std::uint32_t write_fiber_ = 0;
  std::source_location write_at_;
};

// A lock's construction and destruction; the operations are the engine's.
void begin_lock(lock_state& which) noexcept;
void end_lock(lock_state& which) noexcept;
void lock_here(lock_state& which, std::source_location at);
[[nodiscard]] bool try_lock_here(lock_state& which, std::source_location at);
void unlock_here(lock_state& which, std::source_location at);

void wake_here(const cell& word, int count, std::source_location at) noexcept;
void relax_here(std::source_location at) noexcept;

}  // namespace race::detail
