// log: the program's log on stderr, which never waits for whoever reads it.
//
// A line that would have to wait (a pipe that nobody empties, a stopped terminal) is dropped and counted; the next line
// that gets through says how many are missing. So a stalled reader of the log cannot stall the reactor that writes it.
//
// Thread safety:  any thread may log afterwards.
// Blocking:       never, as far as poll(2) knows: files are always writable.
#pragma once

namespace sluice::cli {

// Makes it spdlog's default logger.
void start_log();

}  // namespace sluice::cli
