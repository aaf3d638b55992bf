// proc_threads: the threads of this process by name, as the kernel counts them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <system_error>

namespace test {

// The thread ids of the threads whose name begins so, each with how often it gave up the CPU or lost it.
inline std::map<std::string, std::uint64_t> switches_of_threads(std::string_view prefix) {
  std::map<std::string, std::uint64_t> all;
  std::error_code gone;  // a thread may end while we look
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", gone)) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    if (!name.starts_with(prefix)) {
      continue;
    }
    std::uint64_t sum = 0;
    std::ifstream status(task.path() / "status");
    for (std::string word; status >> word;) {
      if (word == "voluntary_ctxt_switches:" || word == "nonvoluntary_ctxt_switches:") {
        std::uint64_t count = 0;
        status >> count;
        sum += count;
      }
    }
    all.emplace(task.path().filename().string(), sum);
  }
  return all;
}

inline std::size_t threads_named(std::string_view prefix) {
  return switches_of_threads(prefix).size();
}

}  // namespace test
