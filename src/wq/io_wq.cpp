#include "sluice/wq/io_wq.h"

#include <sched.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core.h"

namespace sluice {
namespace {

constexpr std::size_t name_bytes = 8;
constexpr unsigned bound_per_cpu = 4;
constexpr unsigned default_unbound = 512;

unsigned usable_cpus() noexcept {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) {
    return 1;
  }
  return std::max(1U, static_cast<unsigned>(CPU_COUNT(&set)));
}

// A callable that was submitted by value: work and callable in one object.
class call_work : public work {
 public:
  call_work(std::move_only_function<void(work_context&)> call, work_class cls)
      : work(operations, cls), call_(std::move(call)) {}

 private:
  static void do_run(work& w, work_context& ctx) noexcept { static_cast<call_work&>(w).call_(ctx); }
  static void do_release(work& w) noexcept { delete &static_cast<call_work&>(w); }
  static constexpr work_ops operations{do_run, do_release};

  std::move_only_function<void(work_context&)> call_;
};

}  // namespace

io_wq::io_wq(std::unique_ptr<detail::wq_core> core) noexcept : core_(std::move(core)) {}
io_wq::~io_wq() = default;

result<ref<io_wq>> io_wq::create(const io_wq_options& options) {
  if (options.name.size() > name_bytes || options.idle_timeout.count() <= 0 || options.queue_limit == 0 ||
      options.full_wait.count() < 0) {
    return fail(EINVAL);
  }
  io_wq_options chosen = options;
  chosen.max_bound = options.max_bound != 0 ? options.max_bound : bound_per_cpu * usable_cpus();
  chosen.max_unbound = options.max_unbound != 0 ? options.max_unbound : default_unbound;
  auto signal = detail::interrupt_signal::acquire(options.interrupt_signal);
  if (!signal) {
    return std::unexpected(signal.error());
  }
  try {
    auto core = std::make_unique<detail::wq_core>(chosen, std::move(*signal));
    if (result<void> started = core->start(); !started) {
      return std::unexpected(started.error());
    }
    return ref<io_wq>::adopt(new io_wq(std::move(core)));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

result<void> io_wq::submit(work& head) noexcept {
  return core_->submit(head, nullptr);
}

result<work_handle> io_wq::submit_tracked(work& head) noexcept {
  work_handle handle;
  if (const result<void> accepted = core_->submit(head, &handle); !accepted) {
    return std::unexpected(accepted.error());
  }
  return handle;
}

result<std::size_t> io_wq::submit(std::span<work* const> works) noexcept {
  std::size_t accepted = 0;
  for (work* const w : works) {
    if (result<void> one = submit(*w); !one) {
      return accepted != 0 ? result<std::size_t>(accepted) : std::unexpected(one.error());
    }
    ++accepted;
  }
  return accepted;
}

result<void> io_wq::submit_chain(std::span<work* const> works) noexcept {
  SLUICE_CHECK(!works.empty(), "a chain has a head");
  for (std::size_t i = 0; i + 1 < works.size(); ++i) {
    works[i]->then(works[i + 1]);
  }
  works.back()->then(nullptr);
  return submit(*works.front());
}

result<void> io_wq::submit_call(std::move_only_function<void(work_context&)> call, work_class cls) {
  auto node = std::make_unique<call_work>(std::move(call), cls);
  const result<void> accepted = submit(*node);
  if (accepted) {
    static_cast<void>(node.release());  // deletes itself in its release
  }
  return accepted;
}

cancel_result io_wq::cancel(work_handle handle) noexcept {
  return core_->cancel(handle);
}

cancel_counts io_wq::cancel_owner(std::uint64_t owner) noexcept {
  const auto mine = [](void* wanted, const work_view& view) {
    return view.owner == *static_cast<const std::uint64_t*>(wanted);
  };
  return core_->cancel_chosen(mine, &owner).value_or(cancel_counts{});
}

cancel_counts io_wq::cancel_all() noexcept {
  return core_->cancel_chosen([](void*, const work_view&) { return true; }, nullptr).value_or(cancel_counts{});
}

result<cancel_counts> io_wq::cancel_chosen(bool (*choose)(void*, const work_view&), void* chooser) noexcept {
  return core_->cancel_chosen(choose, chooser);
}

stop_report io_wq::stop(stop_policy policy, steady_time deadline) noexcept {
  return core_->stop(policy, deadline);
}

unsigned io_wq::set_max_workers(work_class cls, unsigned max) noexcept {
  return core_->set_max(cls, max);
}

unsigned io_wq::max_workers(work_class cls) const noexcept {
  return core_->get_max(cls);
}

wq_stats io_wq::stats() const noexcept {
  return core_->stats();
}

bool io_wq::on_worker() const noexcept {
  return core_->on_worker();
}

}  // namespace sluice
