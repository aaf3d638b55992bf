// identity_probe: which fields of an identity work here, tried out on a thread that is thrown away afterwards.
//
// Containers forbid some of the calls, user namespaces know only some ids, control groups may be read-only: trying is
// the only way to know. Nothing outlives the probe but the process's cleared "dumpable" mark (wardrobe.h), and that only
// where the user can be switched.
//
// Thread safety:  any thread.
// Blocking:       starts a thread and waits for it: milliseconds. For start-up and `sluice doctor`, not for a request.
#pragma once

#include <string>
#include <vector>

#include "sluice/base/error.h"
#include "sluice/identity/identity.h"

namespace sluice {

struct identity_support {
  std::string name;    // "user", "supplementary groups", …
  bool works = false;  // as a field of an identity
  std::string detail;  // what was tried, or what is missing
};

// In the order of the fields. Errors: what creating the thread reports.
[[nodiscard]] result<std::vector<identity_support>> identity_probe();

// The capabilities of the calling thread that this floor can use, with whether each may be used.
[[nodiscard]] std::vector<identity_support> identity_capabilities();

}  // namespace sluice
