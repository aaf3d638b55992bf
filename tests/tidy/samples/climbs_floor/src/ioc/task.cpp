#include "sluice/device/open_file.h"

namespace sluice {

void close_all() {}

}  // namespace sluice
