// quarantine: memory that a schedule frees stays until the schedule has ended, so that an operation on a dead object
// is a report and not a crash.
//
// Replaces the global operator new and delete, in builds without AddressSanitizer (which does this better by itself).
// Only frees of the OS thread that explores, while a schedule runs, are held back.
#pragma once

namespace race::detail {

void quarantine_begin() noexcept;
// Ends it and frees what it holds. Returns true if something had been freed twice.
[[nodiscard]] bool quarantine_release() noexcept;
// Ends it and keeps what it holds for ever, reachable.
void quarantine_keep() noexcept;

}  // namespace race::detail
