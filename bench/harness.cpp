#include "harness.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace bench {
namespace {

// The cores that this process may use, in order.
std::vector<std::size_t> usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<std::size_t> cores;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) {
        cores.push_back(core);
      }
    }
  }
  return cores;
}

void pin_this_thread(const std::vector<std::size_t>& cores, unsigned index) noexcept {
  if (!cores.empty()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cores[index % cores.size()], &set);
    // A refusal leaves the thread where the kernel likes it; the figures of that round are worse, not wrong.
    static_cast<void>(::pthread_setaffinity_np(::pthread_self(), sizeof set, &set));
  }
}

[[gnu::format(printf, 1, 2)]] std::string format(const char* how, ...) {
  char text[512];
  va_list values;
  va_start(values, how);
  std::vsnprintf(text, sizeof text, how, values);
  va_end(values);
  return text;
}

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += format("\\u%04x", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

const char* sign(bound_kind kind) {
  switch (kind) {
    case bound_kind::at_most:
      return "<=";
    case bound_kind::at_least:
      return ">=";
    case bound_kind::within:
      return "1+-";
  }
  return "?";
}

const char* mark(side whose) {
  switch (whose) {
    case side::ours:
      return "* ";
    case side::peer:
      return "  ";
    case side::floor:
      return "_ ";
  }
  return "";
}

// A round, again if a core was taken away from threads that never sleep. What the last attempt found counts anyhow.
sample one_round(const contender& whose, nature kind) {
  constexpr int attempts = 5;
  constexpr double undisturbed = 0.93;
  sample found = whose.round();
  for (int i = 1; i < attempts && kind == nature::never_sleeps && found.busy < undisturbed; ++i) {
    found = whose.round();
  }
  return found;
}

}  // namespace

double median_of(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double percentile_of(std::vector<double> values, double share) {
  if (values.empty()) {
    return 0;
  }
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::clamp<std::size_t>(rank, 1, values.size()) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

namespace {
std::chrono::nanoseconds read_clock(clockid_t which) noexcept {
  timespec spent{};
  ::clock_gettime(which, &spent);
  return std::chrono::seconds(spent.tv_sec) + std::chrono::nanoseconds(spent.tv_nsec);
}

// The clock that pthread_getcpuclockid() gives, for a thread of which only the number is known: the kernel's interface
// (MAKE_THREAD_CPUCLOCK with CPUCLOCK_SCHED). One that has ended reads 0.
constexpr clockid_t clock_of_thread(pid_t thread) noexcept {
  constexpr clockid_t scheduled_time_of_one_thread = 2 | 4;
  return (~thread * 8) | scheduled_time_of_one_thread;
}

}  // namespace

std::chrono::nanoseconds cpu_time() noexcept {
  return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

std::chrono::nanoseconds cpu_time_of_threads() {
  std::chrono::nanoseconds sum{0};
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    sum += read_clock(clock_of_thread(std::stoi(entry.path().filename().string())));
  }
  return sum;
}

std::chrono::nanoseconds thread_cpu_time() noexcept {
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

sample timed(unsigned threads, std::uint64_t operations, const std::function<void(unsigned)>& body) {
  using clock = std::chrono::steady_clock;
  const std::vector<std::size_t> cores = usable_cores();
  std::atomic<unsigned> arrived{0};
  std::vector<std::pair<clock::time_point, clock::time_point>> spans(threads);
  std::vector<std::chrono::nanoseconds> turning(threads);  // CPU time before the start
  const std::chrono::nanoseconds cpu_before = cpu_time();
  {
    std::vector<std::jthread> running;
    for (unsigned i = 0; i < threads; ++i) {
      running.emplace_back([&, i] {
        pin_this_thread(cores, i);
        // Turning, not asleep: a sleeper's wake can take longer than the round, and then nobody contends.
        arrived.fetch_add(1, std::memory_order_acq_rel);
        while (arrived.load(std::memory_order_acquire) != threads) {
        }
        turning[i] = thread_cpu_time();
        spans[i].first = clock::now();
        body(i);
        spans[i].second = clock::now();
      });
    }
  }
  const std::chrono::nanoseconds cpu =
      cpu_time() - cpu_before - std::accumulate(turning.begin(), turning.end(), std::chrono::nanoseconds{0});
  clock::time_point first = spans[0].first;
  clock::time_point last = spans[0].second;
  for (const auto& [begin, end] : spans) {
    first = std::min(first, begin);
    last = std::max(last, end);
  }
  const auto count = static_cast<double>(operations);
  const auto wall = static_cast<double>(std::chrono::nanoseconds(last - first).count());
  const auto spent = static_cast<double>(cpu.count());
  return {.value = wall / count, .cpu_ns = spent / (count * threads), .busy = spent / (wall * threads)};
}

sample timed_once(std::uint64_t operations, const std::function<void()>& body) {
  using clock = std::chrono::steady_clock;
  const std::chrono::nanoseconds cpu_before = cpu_time();
  const clock::time_point begin = clock::now();
  body();
  const std::chrono::nanoseconds wall = clock::now() - begin;
  const std::chrono::nanoseconds cpu = cpu_time() - cpu_before;
  const auto count = static_cast<double>(operations);
  return {.value = static_cast<double>(wall.count()) / count, .cpu_ns = static_cast<double>(cpu.count()) / count};
}

sample as_rate(sample found) {
  found.value = found.value > 0 ? 1000 / found.value : 0;
  return found;
}

contender found_once(std::string name, side whose, sample found, std::string missing) {
  return {std::move(name), whose, [found] { return found; }, std::move(missing)};
}

comparison::comparison(setup how, std::vector<contender> contenders) : setup_(std::move(how)) {
  std::vector<std::vector<double>> cpu(contenders.size());
  std::vector<std::vector<double>> tails(contenders.size());
  for (const contender& each : contenders) {
    rows_.push_back({.name = each.name, .whose = each.whose, .missing = each.missing, .values = {}});
    if (each.missing.empty()) {
      static_cast<void>(each.round());  // warm: the first round pays for page faults and registration
    }
  }
  for (unsigned round = 0; round < setup_.rounds; ++round) {
    for (std::size_t turn = 0; turn < contenders.size(); ++turn) {
      const std::size_t i = (turn + round) % contenders.size();  // nobody is always first
      if (contenders[i].missing.empty()) {
        const sample found = one_round(contenders[i], setup_.kind);
        rows_[i].values.push_back(found.value);
        cpu[i].push_back(found.cpu_ns);
        tails[i].push_back(found.p99);
      }
    }
  }
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    rows_[i].median = median_of(rows_[i].values);
    rows_[i].cpu_ns = median_of(cpu[i]);
    rows_[i].p99 = median_of(tails[i]);
  }
  rank();
}

void comparison::rank() {
  const row* best = nullptr;
  for (const row& each : rows_) {
    const bool wins =
        best == nullptr || (setup_.direction == better::less ? each.median < best->median : each.median > best->median);
    if (each.whose == side::peer && each.missing.empty() && wins) {
      best = &each;
    }
  }
  if (best != nullptr) {
    for (row& each : rows_) {
      each.ratio = ratio(each.name, best->name);
    }
  }
}

const row& comparison::find(std::string_view name) const {
  const auto at = std::ranges::find(rows_, name, &row::name);
  if (at == rows_.end()) {
    throw std::invalid_argument("no contender named " + std::string(name));
  }
  return *at;
}

double comparison::ratio(std::string_view a, std::string_view b) const {
  const row& left = find(a);
  const row& right = find(b);
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(left.values.size(), right.values.size()); ++i) {
    if (right.values[i] > 0) {
      ratios.push_back(left.values[i] / right.values[i]);
    }
  }
  return median_of(std::move(ratios));
}

const comparison& report::compare(setup how, std::vector<contender> contenders) {
  comparisons_.push_back(std::make_unique<comparison>(std::move(how), std::move(contenders)));
  return *comparisons_.back();
}

bool report::held() const noexcept {
  for (const auto& each : comparisons_) {
    for (const row& line : each->rows()) {
      if (!line.missing.empty()) {
        return false;
      }
    }
  }
  return std::ranges::all_of(targets_, &bench::target::held);
}

std::string report::table() const {
  std::string out;
  for (const auto& each : comparisons_) {
    const bool tails = std::ranges::any_of(each->rows(), [](const row& line) { return line.p99 > 0; });
    out += format("\n%-44s %14s%s %12s %12s\n", each->how().name.c_str(), ("median " + each->how().unit).c_str(),
                  tails ? "          p99" : "", "x best peer", "CPU ns/op");
    for (const row& line : each->rows()) {
      const std::string name = mark(line.whose) + line.name;
      if (!line.missing.empty()) {
        out += format("%-44s not run: %s\n", name.c_str(), line.missing.c_str());
        continue;
      }
      out += format("%-44s %14.2f", name.c_str(), line.median);
      out += tails ? format(" %12.2f", line.p99) : "";
      out += line.ratio > 0 ? format(" %12.2f", line.ratio) : format(" %12s", "-");
      out += format(" %12.1f\n", line.cpu_ns);
    }
  }
  out += "\n";
  for (const bench::target& each : targets_) {
    out += format("%-4s %-60s %8.3f %s %.3f\n", each.held() ? "held" : "MISS", each.name.c_str(), each.ratio,
                  sign(each.limit.kind), each.limit.value);
  }
  return out;
}

std::string report::json() const {
  std::string out = "{\"experiment\": " + json_string(experiment_) + ", \"rows\": [";
  const char* separator = "";
  for (const auto& each : comparisons_) {
    for (const row& line : each->rows()) {
      out += separator;
      out += "\n  {\"comparison\": " + json_string(each->how().name) + ", \"contender\": " + json_string(line.name);
      out += format(", \"ours\": %s, \"floor\": %s, \"unit\": ", line.whose == side::ours ? "true" : "false",
                    line.whose == side::floor ? "true" : "false");
      out += json_string(each->how().unit);
      out += line.p99 > 0 ? format(", \"p99\": %.4f", line.p99) : "";
      out += line.missing.empty() ? format(", \"median\": %.4f, \"ratio_to_best_peer\": %.4f, \"cpu_ns_per_op\": %.2f}",
                                           line.median, line.ratio, line.cpu_ns)
                                  : ", \"missing\": " + json_string(line.missing) + "}";
      separator = ",";
    }
  }
  out += "\n], \"targets\": [";
  separator = "";
  for (const bench::target& each : targets_) {
    out += separator;
    out += "\n  {\"name\": " + json_string(each.name);
    out += format(", \"ratio\": %.4f, \"target\": %.4f, \"bound\": \"%s\", \"held\": %s}", each.ratio, each.limit.value,
                  sign(each.limit.kind), each.held() ? "true" : "false");
    separator = ",";
  }
  return out + "\n]}\n";
}

}  // namespace bench
