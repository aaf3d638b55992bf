// blocking_region: says that the calling worker is about to wait, so that the next work does not wait with it.
//
//   { const blocking_region region; n = ::pread(fd, …); }
//
// While a worker is inside, it does not count as running: if work of its class is queued, another worker is woken, or
// started below the limit, at once. A worker that blocks without saying so is found by the wq's sampler after about a
// millisecond. Not worth it around a call that cannot wait (a cached read that was tried with RWF_NOWAIT).
//
// Thread safety:  per thread: destroy it on the thread that made it. On a thread that is not a worker it does nothing. Nests: only the
//                 outermost counts. It ends with the run, or the release, in which it was made; its destructor does nothing then.
// Blocking:       never by itself.
// Cost:           enter + leave about 20 ns while nothing is queued.
// Invariants:     P2 P5 P6 P8
#pragma once

#include <cstdint>

namespace sluice {

class blocking_region {
 public:
  blocking_region() noexcept;
  ~blocking_region();
  blocking_region(const blocking_region&) = delete;
  blocking_region& operator=(const blocking_region&) = delete;

 private:
  void* worker_;
  std::uint64_t run_ = 0;  // of which run it is
};

}  // namespace sluice
