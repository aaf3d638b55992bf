// pool_traits: what a pool needs besides Sync, and the names that its parts know of each other.
#pragma once

namespace sluice::detail {

// What a pool needs besides Sync: its gate, the table of a hash domain, and which worker the calling thread is.
//   door                                    a basic_gate over Sync
//   table(domain) → basic_key_table<Sync>&  hold(domain), drop(domain): a count of it; unused(domain): only pools hold it
//   this_worker() → basic_worker<Sync>*&    of the calling thread
//   callbacks() → const callback_scope*&    the innermost callback that the calling thread is in
//   next_number()                           a number that no other pool has
//   linger_turns                            how often a worker looks out for more before it sleeps
//   core(), yield()                         the core that the calling thread runs on; lets another thread have it
//   lanes()                                 how many lanes an account's works have: a power of two, at most
//                                           ready_queue::most_lanes; of core c it is lane c modulo that
//   dense                                   works that come less than this apart are worth standing aside for
//   stream                                  as many works as this at once are worth a worker on another core
//   roomy_from                              below this share of the queue's limit an account is always counted as crowded
template <class Sync>
struct pool_traits;

template <class Sync>
class basic_pool;

}  // namespace sluice::detail
