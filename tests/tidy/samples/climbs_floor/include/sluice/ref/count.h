// count: a count that knows too much.
#pragma once

#include "sluice/base/check.h"
#include "sluice/wq/io_wq.h"

namespace sluice {

int count_of_workers();

}  // namespace sluice
