// footprint: what this process has in memory, to see what a step added.
#pragma once

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace bench {

// Bytes in use by the heap, and bytes of all pages that are there, by whatever way they came.
struct footprint {
  double heap = 0;
  double resident = 0;

  [[nodiscard]] static footprint now() noexcept {
    ::malloc_trim(0);  // what was freed is not in use
    const struct mallinfo2 heap = ::mallinfo2();
    footprint found{.heap = static_cast<double>(heap.uordblks + heap.hblkhd)};
    if (std::FILE* const file = std::fopen("/proc/self/statm", "re"); file != nullptr) {
      double pages = 0;
      if (std::fscanf(file, "%*s %lf", &pages) == 1) {
        found.resident = pages * static_cast<double>(::sysconf(_SC_PAGESIZE));
      }
      std::fclose(file);
    }
    return found;
  }

  // The larger of both: the heap knows what is hidden in pages that were there before, the pages what did not come from
  // the heap.
  [[nodiscard]] double since(const footprint& before) const noexcept {
    return std::max({0.0, heap - before.heap, resident - before.resident});
  }
};

}  // namespace bench
