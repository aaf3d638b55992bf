// uring: io_uring as a pool: every request goes to the kernel's own io-wq (IOSQE_ASYNC).
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <liburing.h>

namespace bench::peers {

class uring {
 public:
  // Workers of io-wq: [0] bounded, [1] unbounded.
  uring(unsigned entries, unsigned completions, std::array<unsigned, 2> workers) {
    io_uring_params how{};
    how.flags = IORING_SETUP_CQSIZE;
    how.cq_entries = completions;
    if (const int err = ::io_uring_queue_init_params(entries, &ring_, &how); err != 0) {
      throw std::system_error(-err, std::system_category(), "io_uring_queue_init");
    }
    if (const int err = ::io_uring_register_iowq_max_workers(&ring_, workers.data()); err != 0) {
      ::io_uring_queue_exit(&ring_);
      throw std::system_error(-err, std::system_category(), "io_uring_register_iowq_max_workers");
    }
  }
  ~uring() { ::io_uring_queue_exit(&ring_); }
  uring(const uring&) = delete;
  uring& operator=(const uring&) = delete;

  // Why it cannot be used on this machine; empty if it can.
  [[nodiscard]] static std::string missing() {
    try {
      const uring probe(8, 16, {1, 1});
      return {};
    } catch (const std::system_error& fault) {
      return fault.what();
    }
  }

  // Room for a request that will answer with `tag`. The caller prepares it before the next call.
  template <class Prepare>
  void add(std::uint64_t tag, Prepare prepare) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      submit();
      entry = ::io_uring_get_sqe(&ring_);
    }
    prepare(entry);
    ::io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
    ::io_uring_sqe_set_data64(entry, tag);
  }

  void submit() { check(::io_uring_submit(&ring_)); }

  // Calls completed(tag, result) for each completion that is there; with `at_least` 1 it submits and sleeps for one.
  template <class Completed>
  void reap(unsigned at_least, Completed completed) {
    std::array<io_uring_cqe*, 64> found{};
    unsigned count = ::io_uring_peek_batch_cqe(&ring_, found.data(), found.size());
    if (count == 0 && at_least != 0) {
      check(::io_uring_submit_and_wait(&ring_, at_least));
      count = ::io_uring_peek_batch_cqe(&ring_, found.data(), found.size());
    }
    for (unsigned i = 0; i < count; ++i) {
      completed(found[i]->user_data, found[i]->res);
    }
    ::io_uring_cq_advance(&ring_, count);
  }

 private:
  static void check(int result) {
    if (result < 0 && result != -EINTR) {
      throw std::system_error(-result, std::system_category(), "io_uring_submit");
    }
  }

  io_uring ring_{};
};

// NOPs. Submitted in batches: what io_uring is best at.
class uring_pool {
 public:
  uring_pool(std::size_t count, unsigned threads)
      : done_(count),
        ring_(static_cast<unsigned>(std::min<std::size_t>(count, 4096)), static_cast<unsigned>(2 * count),
              {threads, threads}) {}

  void post(std::size_t place) {
    ring_.add(place, [](io_uring_sqe* entry) { ::io_uring_prep_nop(entry); });
  }
  void flush() { ring_.submit(); }
  void wait(std::size_t place) {
    while (done_[place] == 0) {
      ring_.reap(1, [this](std::uint64_t which, int /*result*/) { done_[which] = 1; });
    }
    done_[place] = 0;
  }

 private:
  std::vector<char> done_;
  uring ring_;
};

}  // namespace bench::peers
