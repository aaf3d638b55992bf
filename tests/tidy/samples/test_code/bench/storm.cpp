#include "support/wq_storm.h"
