// queue: all of the request queue's core, and what programs make it of. The map is in queue_core.h.
#pragma once

#include "sluice/ioc/elevator.h"
#include "sluice/ioc/io_context.h"
#include "sluice/ioc/io_cq.h"
#include "sluice/ioc/request.h"
#include "sluice/ioc/request_queue.h"
#include "sluice/wq/io_wq.h"
#include "sluice/wq/wq_timer.h"

#include "ioc/queue/queue_change.h"
#include "ioc/queue/queue_core.h"
#include "ioc/queue/queue_hold.h"
#include "ioc/queue/queue_run.h"
#include "ioc/queue/queue_slots.h"
#include "ioc/queue/queue_submit.h"
