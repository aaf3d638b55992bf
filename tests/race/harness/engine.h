// engine: one schedule at a time: the fibers, who may run, who sleeps, what each is ordered after, what went wrong.
//
// A step is: take effect of the pending operation, then run on to the next operation. Every fiber first runs up to its
// first operation, in the order of creation; so n fibers of k operations have exactly the interleavings of n·k steps.
//
// After a failure the schedule runs on to its end, because code under test may be noexcept and cannot be unwound. Only
// when it cannot end (deadlock, livelock) its fibers are abandoned: they stay, pinned, until the process ends.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "race/harness/chooser.h"
#include "race/harness/clock.h"
#include "race/harness/fiber.h"
#include "race/harness/trace.h"

namespace race {
class run;
}  // namespace race

namespace race::detail {

class cell;

// Marks an object in its memory, which outlives it until the schedule has ended (quarantine.h).
enum class vitality : std::uint32_t { alive = 0xa11fe000, dead = 0xdead0b1e };

// The state of one lock; race::mutex is its typed face.
struct lock_state {
  std::uint64_t run = 0;
  std::uint32_t id = 0;
  unsigned owner = max_fibers;
  vitality alive = vitality::dead;
  vector_clock released;
};

struct buffered_store {
  cell* where = nullptr;
  std::uint64_t value = 0;
  vector_clock published;
  std::uint32_t epoch = 0;
  std::source_location at;
};

// One fiber with all that the engine knows of it. The body lives here so that an abandoned fiber keeps it reachable.
struct strand {
  enum class status : std::uint8_t { ready, asleep, ended };

  explicit strand(fiber::entry main) : stack(main, this) {}
  strand() = default;

  fiber stack;
  std::function<void()> body;
  vector_clock now;
  status state = status::ended;
  const lock_state* wants = nullptr;
  const void* sleeps_on = nullptr;
  std::uint32_t sleeps_on_id = 0;
  bool has_deadline = false;
  bool timed_out = false;
  // After relax(): agents that must have made a step before this fiber spins again.
  agents waits_for = 0;
  bool spinning = false;
  std::vector<buffered_store> buffer;
  std::source_location at;
  strand* next_pinned = nullptr;
};

class engine {
 public:
  explicit engine(const options& how);
  ~engine();
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;

  // The engine whose schedule runs on this OS thread; nullptr outside of explore().
  [[nodiscard]] static engine* active() noexcept;

  // Runs one schedule. The chooser has begun it.
  void run_schedule(const std::function<void(run&)>& scenario);

  void add_thread(std::function<void()> body);
  void set_after(std::function<void()> check) { after_ = std::move(check); }

  // Before an operation: others may go first.
  void point(std::source_location at);
  void relax(std::source_location at);
  // The calling fiber sleeps on the word. Returns false if its deadline passed.
  [[nodiscard]] bool sleep(const cell& word, std::uint32_t id, bool has_deadline);
  void wake(const void* word, int count);
  void lock(lock_state& which, std::source_location at);
  [[nodiscard]] bool try_lock(lock_state& which, std::source_location at);
  void unlock(lock_state& which, std::source_location at);

  // Lets the oldest store, or all, out of the buffer of a fiber.
  void commit_one(strand& from);
  void commit_all(strand& from);
  void forget_stores_to(const cell& dead);

  // Records a failure; the first one of a schedule counts.
  void fail(std::string message, std::source_location at);
  void note(op what, std::uint32_t object, std::uint64_t before, std::uint64_t after, std::memory_order order,
            std::source_location at) noexcept;

  [[nodiscard]] strand& self() noexcept { return *strands_[current_]; }
  [[nodiscard]] unsigned self_index() const noexcept { return current_; }
  [[nodiscard]] std::uint64_t run_id() const noexcept { return run_id_; }
  [[nodiscard]] std::uint32_t new_object_id() noexcept { return ++objects_; }
  [[nodiscard]] const options& how() const noexcept { return options_; }
  [[nodiscard]] chooser& choices() noexcept { return chooser_; }
  [[nodiscard]] const chooser& choices() const noexcept { return chooser_; }
  [[nodiscard]] const trace& history() const noexcept { return trace_; }
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  // Takes one from the schedule's allowance of loads of older values (of spurious events); false if it is used up.
  [[nodiscard]] bool allow_stale() noexcept { return stale_left_ > 0; }
  void spend_stale() noexcept { --stale_left_; }
  [[nodiscard]] bool allow_spurious() noexcept { return spurious_left_ > 0; }
  void spend_spurious() noexcept { --spurious_left_; }

 private:
  static void strand_main(void* argument);

  void begin();
  void end();
  void start_fibers();
  [[nodiscard]] agents enabled() const noexcept;
  [[nodiscard]] agents sleepers() const noexcept;
  // Chooses agents until one is a fiber, and switches to it. From the setting-up context: returns when all have ended.
  void reschedule();
  [[nodiscard]] bool all_ended() const noexcept;
  void rouse(unsigned index, op why);
  void switch_to(unsigned index);
  void ended();
  [[noreturn]] void abandon();
  void pin_fibers();
  void refresh(lock_state& which);
  [[nodiscard]] std::string describe_stuck() const;

  options options_;
  chooser chooser_;
  trace trace_;
  std::array<std::unique_ptr<strand>, max_fibers> strands_;
  std::function<void()> after_;
  std::uint64_t run_id_ = 0;
  std::uint32_t objects_ = 0;
  unsigned fibers_ = 1;
  unsigned current_ = 0;
  std::uint32_t steps_ = 0;
  std::uint32_t stale_left_ = 0;
  std::uint32_t spurious_left_ = 0;
  std::uint32_t timeouts_left_ = 0;
  bool starting_ = false;
  bool abandoned_ = false;
  bool failed_ = false;
  std::string message_;
};

}  // namespace race::detail
