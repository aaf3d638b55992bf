// The engine over race::sync, compiled once for all race tests of wq.
#include "race/wq_rig.h"

template class sluice::detail::basic_pool<race::sync>;
