// sluice_pool: io_wq as a pool to drive (drive.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "sluice/wq/hash_domain.h"
#include "sluice/wq/io_wq.h"

#include "drive.h"
#include "mark.h"

namespace bench {

[[nodiscard]] inline sluice::ref<sluice::io_wq> make_wq(const sluice::io_wq_options& options) {
  auto made = sluice::io_wq::create(options);
  if (!made) {
    throw std::system_error(made.error(), "io_wq::create");
  }
  return std::move(*made);
}

inline void submit(sluice::io_wq& wq, sluice::work& one) {
  if (const auto accepted = wq.submit(one); !accepted) {
    throw std::system_error(accepted.error(), "io_wq::submit");
  }
}

// A work that does nothing; its release makes its place done.
struct no_op : sluice::work {
  no_op() : work(ops) {}
  static void do_run(sluice::work& /*w*/, sluice::work_context& /*ctx*/) noexcept {}
  static void do_release(sluice::work& w) noexcept { static_cast<no_op&>(w).done.set(); }
  static constexpr sluice::work_ops ops{do_run, do_release};

  mark done;
};

// Place i gets the key i modulo `keys`.
inline void set_keys(std::vector<no_op>& works, sluice::hash_domain& domain, std::uint64_t keys) {
  for (std::size_t i = 0; i < works.size(); ++i) {
    works[i].set_key(domain, i % keys);
  }
}

inline void stand(std::vector<no_op>& works) noexcept {
  for (std::size_t i = 0; i < works.size(); ++i) {
    works[i].done.stand_at(i, works.size());
  }
}

// Each work is submitted by itself. Several of these may share one wq, each with a submitter of its own.
class sluice_single {
 public:
  sluice_single(sluice::io_wq& wq, std::size_t count) : wq_(wq), works_(count) { stand(works_); }

  void set_keys(sluice::hash_domain& domain, std::uint64_t keys) { bench::set_keys(works_, domain, keys); }
  void post(std::size_t place) { submit(wq_, works_[place]); }
  void flush() noexcept {}
  void wait(std::size_t place) noexcept { works_[place].done.wait(); }

 private:
  sluice::io_wq& wq_;
  std::vector<no_op> works_;
};

// Works are noted down and submitted `batch` at a time.
class sluice_batch {
 public:
  sluice_batch(sluice::io_wq& wq, std::size_t count) : wq_(wq), works_(count) {
    noted_.reserve(batch);
    stand(works_);
  }

  void set_keys(sluice::hash_domain& domain, std::uint64_t keys) { bench::set_keys(works_, domain, keys); }
  void post(std::size_t place) { noted_.push_back(&works_[place]); }
  void flush() {
    for (std::span<sluice::work* const> rest = noted_; !rest.empty();) {
      const auto accepted = wq_.submit(rest);
      if (!accepted) {
        throw std::system_error(accepted.error(), "io_wq::submit");
      }
      rest = rest.subspan(*accepted);
    }
    noted_.clear();
  }
  // Requires: flushed since its post.
  void wait(std::size_t place) noexcept { works_[place].done.wait(); }

 private:
  sluice::io_wq& wq_;
  std::vector<no_op> works_;
  std::vector<sluice::work*> noted_;
};

}  // namespace bench
