// trace: what the fibers of one schedule did, in order; the last few hundred operations.
//
// Cost:           56 bytes per operation, written into memory that is there already; text is made only for a report.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <string>
#include <string_view>

namespace race::detail {

enum class op : std::uint8_t {
  load,
  stale_load,
  own_load,
  store,
  buffer,
  commit,
  rmw,
  cas_done,
  cas_failed,
  lock,
  try_lock_failed,
  unlock,
  sleep,
  no_sleep,
  woken,
  timeout,
  spurious,
  wake,
  relax,
  read,
  write,
  destroy,
  finish,
  failure,
};

struct record {
  op what{};
  std::uint8_t fiber = 0;
  std::memory_order order = std::memory_order_relaxed;
  std::uint32_t object = 0;
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  std::source_location at;
};

class trace {
 public:
  void clear() noexcept { count_ = 0; }
  void add(const record& entry) noexcept { entries_[count_++ % entries_.size()] = entry; }
  [[nodiscard]] std::uint64_t size() const noexcept { return count_; }

  // One line per operation. The oldest are left out if there were more than fit.
  [[nodiscard]] std::string text() const;
  // The same to a file descriptor, without allocating: for a process that is about to abort.
  void dump(int fd) const noexcept;

 private:
  static int format(const record& entry, std::uint64_t number, char* out, std::size_t bytes) noexcept;
  [[nodiscard]] std::uint64_t first() const noexcept { return count_ > entries_.size() ? count_ - entries_.size() : 0; }

  std::array<record, 512> entries_{};
  std::uint64_t count_ = 0;
};

// The pieces in a row. (Not operator+: GCC 12 warns falsely about it.)
[[nodiscard]] std::string joined(std::initializer_list<std::string_view> pieces);
// The name that reports and traces use: a3 is an atomic, p3 a plain variable, m3 a lock.
[[nodiscard]] std::string object_name(char kind, std::uint32_t id);
// The name of a source file without its folders.
[[nodiscard]] const char* base_name(const char* path) noexcept;

}  // namespace race::detail
