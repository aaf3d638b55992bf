// identity: as whom a work is done: one immutable, reference-counted value that a work carries from submit to release.
//
// The set of fields is closed (credentials, fs context, file-size limit, ioprio, cgroup, file table, audit tag) and
// each is captured or neutral. This value captures none: a work that carries it runs as the process does, which is also
// what a work without an identity does (a worker never keeps the identity of the work before).
//
// Ownership:      kref; hold it through ref<const identity>. Capture once, share among works.
// Thread safety:  immutable: any thread that holds a count may read it.
// Blocking:       never.
// Errors:         none.
// Invariants:     I2 (an idle worker pins nothing) is kept by the holder: the wq drops a work's count at its release.
#pragma once

#include "sluice/ref/kref.h"
#include "sluice/ref/ref.h"

namespace sluice {

class identity : public kref<identity> {
 public:
  // The identity that carries nothing. One value for the whole process: equal contexts share one value.
  [[nodiscard]] static ref<const identity> neutral();

 private:
  friend struct delete_release;

  identity() = default;
  ~identity() = default;
};

}  // namespace sluice
