// What one client gets in short spans: one that was alone on the device when seven more come, and one that is limited
// and sends requests of 32 MiB. Each piece counts when the device begins it: the end is 225 µs later, whatever the
// order is.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "sluice/base/check.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/ioc/task.h"

#include "fair_device.h"
#include "fair_parts.h"

namespace bench {
namespace {

using std::chrono::milliseconds;
using seconds = std::chrono::duration<double>;

constexpr unsigned rounds = 5;
constexpr std::uint64_t owner_of_all = 1;
constexpr std::uint64_t mib = 1 << 20;

struct piece {
  device_clock::time_point began;
  std::uint64_t bytes = 0;
};

// The pieces of one client. Written by the workers that do them, read when they have ended.
class piece_log {
 public:
  void note(std::uint64_t bytes) noexcept {
    const std::size_t at = count_.fetch_add(1, std::memory_order_relaxed);  // each has a place of its own
    SLUICE_CHECK(at < most, "a log has room for all pieces of a round");
    pieces_[at] = {.began = device_clock::now(), .bytes = bytes};
  }
  // In the order of their beginnings.
  [[nodiscard]] std::vector<piece> sorted() const {
    std::vector<piece> all(pieces_);
    all.resize(count_.load(std::memory_order_relaxed));
    std::ranges::sort(all, {}, &piece::began);
    return all;
  }

 private:
  static constexpr std::size_t most = 1 << 14;  // the device does 36 000 in a second

  std::atomic<std::size_t> count_{0};
  std::vector<piece> pieces_{most};
};

std::uint64_t bytes_between(const std::vector<piece>& sorted, device_clock::time_point begin,
                            device_clock::time_point end) {
  std::uint64_t sum = 0;
  for (const piece& each : sorted) {
    sum += each.began >= begin && each.began < end ? each.bytes : 0;
  }
  return sum;
}

struct stage;
struct client;

// Comes again until the stage ends.
struct logged_request : device_request {
  logged_request(stage& where, client& whose, std::uint64_t size);
  static void run(sluice::request& base, std::uint64_t budget, sluice::cancel_probe probe) noexcept;
  static void complete(sluice::request& base) noexcept;
  static constexpr sluice::request_ops operations{.try_run = try_run, .run = run, .complete = complete};

  stage& all;
  client& from;
};

struct client {
  sluice::task self;
  sluice::ref<sluice::io_context> context = self.get_task_io_context(sluice::task_side::current).value();
  std::atomic<std::uint64_t> moved{0};
  piece_log pieces;
  std::deque<logged_request> requests;
};

struct stage {
  explicit stage(ordering order) : pool(make_device_pool()), queue(make_device_queue(*pool, order)) {}
  ~stage() { end(); }
  stage(const stage&) = delete;
  stage& operator=(const stage&) = delete;

  client& add(std::size_t under_way, std::uint64_t bytes) {
    client& made = clients.emplace_back();
    for (std::size_t i = 0; i < under_way; ++i) {
      made.requests.emplace_back(*this, made, bytes);
    }
    return made;
  }
  void begin(client& which) const {
    for (logged_request& each : which.requests) {
      each.submit(*queue, *which.context);
    }
  }
  void end() {
    if (!stopping.exchange(true, std::memory_order_seq_cst)) {
      end_device(queue, *pool, owner_of_all);
    }
  }

  std::atomic<bool> stopping{false};
  std::deque<client> clients;
  sluice::ref<sluice::io_wq> pool;
  sluice::ref<sluice::request_queue> queue;
};

logged_request::logged_request(stage& where, client& whose, std::uint64_t size)
    : device_request(operations, size, whose.moved), all(where), from(whose) {
  set_owner(owner_of_all);
}

void logged_request::run(sluice::request& base, std::uint64_t budget, sluice::cancel_probe probe) noexcept {
  auto& mine = static_cast<logged_request&>(base);
  mine.from.pieces.note(std::min(budget, mine.bytes_left()));
  device_request::run(base, budget, probe);
}

void logged_request::complete(sluice::request& base) noexcept {
  auto& mine = static_cast<logged_request&>(base);
  if (!mine.all.stopping.load(std::memory_order_relaxed)) {
    mine.submit(*mine.all.queue, *mine.from.context);
  }
}

// A figure of rounds that have been run.
template <class Found>
contender shown(std::string name, side whose, const std::vector<Found>& found, double Found::* figure) {
  std::size_t next = 0;
  bool warmed = false;
  return {std::move(name),
          whose,
          [&found, figure, next, warmed]() mutable {
            return std::exchange(warmed, true) ? sample{.value = found.at(next++).*figure} : sample{};
          },
          {}};
}

template <class Found>
std::vector<Found> run_rounds(const std::function<Found()>& once) {
  std::vector<Found> all;
  for (unsigned i = 0; i <= rounds; ++i) {
    const Found found = once();
    if (i != 0) {  // the first warms
      all.push_back(found);
    }
  }
  return all;
}

// What the first of eight clients moved, of an eighth of all, in windows of 10 ms.
struct first_share {
  double at_once = 0;  // in the first window
  double least = 0;    // in any
};

first_share one_then_eight(ordering order, std::size_t under_way) {
  constexpr std::size_t clients = 8;
  constexpr milliseconds alone{100};
  constexpr milliseconds window{10};
  constexpr int windows = 6;
  stage where(order);
  for (std::size_t i = 0; i < clients; ++i) {
    where.add(under_way, mib);
  }
  where.begin(where.clients.front());
  sleep_until(device_clock::now() + alone);
  for (std::size_t i = 1; i < clients; ++i) {
    where.begin(where.clients[i]);
  }
  const device_clock::time_point together = device_clock::now();
  sleep_until(together + windows * window);
  where.end();
  std::vector<std::vector<piece>> moved;
  for (const client& each : where.clients) {
    moved.push_back(each.pieces.sorted());
  }
  std::vector<double> shares;
  for (int i = 0; i < windows; ++i) {
    const auto in_window = [&](const std::vector<piece>& of) {
      return static_cast<double>(bytes_between(of, together + i * window, together + (i + 1) * window));
    };
    double sum = 0;
    for (const std::vector<piece>& each : moved) {
      sum += in_window(each);
    }
    shares.push_back(clients * in_window(moved.front()) / std::max(sum, 1.0));
  }
  return {.at_once = shares.front(), .least = std::ranges::min(shares)};
}

constexpr std::uint64_t capped_rate = 64 * mib;

// How one client with a limit kept to it.
struct cap_kept {
  double most = 0;  // moved in a span, of what the limit allows in it
  double rate = 0;  // kept over the round, of the limit
};

// In any span at most rate * (span + burst) and a quantum.
double most_of_allowed(const std::vector<piece>& sorted) {
  constexpr std::array spans{milliseconds(10), milliseconds(50), milliseconds(200)};
  constexpr seconds burst = milliseconds(10);  // fair_options::burst
  double most = 0;
  for (const milliseconds span : spans) {
    const double allowed = capped_rate * (seconds(span) + burst).count() + fair_quantum;
    for (const piece& first : sorted) {
      const std::uint64_t moved = bytes_between(sorted, first.began, first.began + span);
      most = std::max(most, static_cast<double>(moved) / allowed);
    }
  }
  return most;
}

cap_kept capped_beside(std::size_t others) {
  constexpr std::size_t under_way = 4;
  constexpr std::size_t others_under_way = 8;
  constexpr std::uint64_t capped_bytes = 32 * mib;
  constexpr milliseconds settling{30};
  constexpr milliseconds span{250};
  stage where(ordering::fair);
  client& capped = where.add(under_way, capped_bytes);
  capped.context->set_limits({.bytes_per_second = capped_rate});
  for (std::size_t i = 0; i < others; ++i) {
    where.begin(where.add(others_under_way, mib));
  }
  sleep_until(device_clock::now() + settling);
  where.begin(capped);
  // What it may send ahead at first is over then; in the spans above it counts.
  const device_clock::time_point begin = device_clock::now() + settling;
  sleep_until(begin + span);
  where.end();
  const std::vector<piece> moved = capped.pieces.sorted();
  const auto kept = static_cast<double>(bytes_between(moved, begin, begin + span));
  return {.most = most_of_allowed(moved), .rate = kept / (capped_rate * seconds(span).count())};
}

}  // namespace

void fair_first(report& out) {
  // With fewer requests than the device does at once none of them waits while it is alone; with more, some always do.
  constexpr std::size_t few = device_depth - 2;
  constexpr std::size_t many = 2 * device_depth;
  const auto run = [](ordering order, std::size_t under_way) {
    return run_rounds<first_share>([=] { return one_then_eight(order, under_way); });
  };
  const std::array found{std::tuple{"fair, 6 under way", side::ours, run(ordering::fair, few)},
                         std::tuple{"fair, 16 under way", side::ours, run(ordering::fair, many)},
                         std::tuple{"none, 16 under way", side::peer, run(ordering::none, many)}};
  const auto show = [&](const char* when, double first_share::* figure) {
    std::vector<contender> contenders;
    for (const auto& [name, whose, shares] : found) {
      contenders.push_back(shown(name, whose, shares, figure));
    }
    const comparison& shares = out.compare({.name = std::string("share of a client that was alone, ") + when,
                                            .unit = "of 1/8",
                                            .direction = better::more,
                                            .rounds = rounds},
                                           std::move(contenders));
    // The device does 355 quanta in 10 ms, an eighth is 44. A quantum more or less at each end of a window is 5 %;
    // the rest is for workers that begin late.
    constexpr double granular = 0.8;
    for (const char* const row : {"fair, 6 under way", "fair, 16 under way"}) {
      out.target(std::string("share of a client that was alone, ") + when + ", " + row, shares.median(row),
                 at_least(granular));
    }
  };
  show("first 10 ms beside 7", &first_share::at_once);
  show("least in any of 6 times 10 ms", &first_share::least);
}

void fair_caps(report& out) {
  constexpr std::size_t others = 8;
  const std::vector<cap_kept> alone = run_rounds<cap_kept>([] { return capped_beside(0); });
  const std::vector<cap_kept> beside = run_rounds<cap_kept>([] { return capped_beside(others); });
  const std::array rows{std::pair{"fair, alone", &alone}, std::pair{"fair, beside 8", &beside}};
  const auto show = [&](const char* what, better direction, double cap_kept::* figure) -> const comparison& {
    std::vector<contender> contenders;
    for (const auto& [name, found] : rows) {
      contenders.push_back(shown(name, side::ours, *found, figure));
    }
    return out.compare({.name = std::string("64 MiB/s, requests of 32 MiB: ") + what,
                        .unit = "of 1",
                        .direction = direction,
                        .rounds = rounds},
                       std::move(contenders));
  };
  const comparison& most = show("most in 10, 50 or 200 ms, of what is allowed", better::less, &cap_kept::most);
  const comparison& rate = show("of its rate", better::more, &cap_kept::rate);
  for (const auto& [name, found] : rows) {
    const std::string which = std::string("a limit of 64 MiB/s, requests of 32 MiB, ") + name;
    out.target(which + ": most in a span, of what is allowed", most.median(name), at_most(1));
    out.target(which + ": of its rate", rate.median(name), at_least(0.95));
  }
}

}  // namespace bench
