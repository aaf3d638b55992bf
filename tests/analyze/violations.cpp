// What `./test analyze` must find, and proves on every run that it finds: scripts/analyze names each finding. No build
// compiles this file.
#include "sluice/base/mutex.h"

namespace sluice {

class unguarded {
 public:
  void set(int value) noexcept { value_ = value; }  // thread-safety-analysis: lock_ is not held

 private:
  mutex lock_;
  int value_ SLUICE_GUARDED_BY(lock_) = 0;
};

inline int unset() {
  int value;  // cppcoreguidelines-init-variables
  unguarded one;
  one.set(1);
  value = 2;
  return value;
}

}  // namespace sluice
