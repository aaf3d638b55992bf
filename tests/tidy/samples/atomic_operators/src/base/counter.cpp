#include "sluice/base/counter.h"

namespace sluice {

void counter::set(int to) {
  count_ = to;
}

}  // namespace sluice
