// key_table: who may run next, for every live key of a hash domain.
//
// A key has an entry while a work of it waits or runs. The entry, not its works, stands in an account's queue, so a
// queue never holds a work that could only stall, and skipping a busy key costs nothing: its entry is not there.
//
// | state of a key | submit              | a worker comes by      | the run ends            | its last work is cancelled |
// |----------------|---------------------|------------------------|-------------------------|----------------------------|
// | absent         | → queued            |                        |                         |                            |
// | queued, listed | joins the waiting   | → claimed (unlisted)   |                         | → absent                   |
// | claimed        | joins the waiting   |                        |                         | the claimer → absent       |
// | busy           | joins the waiting   |                        | → queued, or → absent   | stays busy                 |
//
// claimed is the moment between an account's lock, under which a worker takes the entry from the queue, and the shard's
// lock, under which it takes works from the entry: these two are never held in that order.
//
// The waiting works are linked in submit order under the shard's lock; whoever makes the key runnable lists the entry in
// the account of its first work, under the same lock. So there is no moment at which a key with works is neither listed,
// nor claimed, nor busy: that is the whole of "stall" and "unstall" (H4 H6).
//
// The way in. The first account that uses a table owns it for as long as its pool lives. The owner's works wait in the
// table's inbox, one compare-exchange each, and a worker of his moves them to their keys: a submitter that is cheaper than
// the worker lets works gather, and a gathered run of a key costs its worker hardly more than one work. Everybody else
// enters the key himself. `order` is held by whoever moves works from the inbox to the keys, or enters past it, which
// empties it first: so what happened before is entered before (H2).
//
// Works are moved a whole inbox at a time, sorted by shard first: one hold of each shard, and one of the account for all
// keys of it that became runnable. So a worker looks into the inbox only when it has given each listed key its turn: the
// more gathers the less a work costs.
//
// No memory for a key: works of the inbox were accepted, so they cannot be refused any more. One entry of each shard is
// part of it, for this case; if that is in use too the shard's works stay `arrived`, in order, until a key has ended.
//
// Thread safety:  any thread. Lock order: a table's order, a shard's lock, then an account's, then a worker's.
// Limits:         an entry has 96 bytes, its place in the buckets at most 16.
// Invariants:     H1 H2 H4 H5
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "sluice/base/mutex.h"
#include "sluice/ref/spin_lock.h"

#include "hook_list.h"
#include "inbox.h"
#include "run_list.h"
#include "work_list.h"

namespace sluice::detail {

template <class Sync>
struct basic_account;
template <class Sync>
class basic_key_table;
template <class Sync>
struct basic_key_shard;

enum class key_state : std::uint8_t { queued, busy };

template <class Sync>
struct basic_key_entry {
  basic_key_shard<Sync>* shard = nullptr;
  std::uint64_t key = 0;
  basic_key_entry* chain = nullptr;  // in its bucket

  // Guarded by the shard's lock.
  run_list waiting;
  basic_account<Sync>* queued_on = nullptr;  // while queued
  key_state state = key_state::busy;

  // Guarded by the lock of queued_on.
  bool in_list = false;
  basic_key_entry* prev = nullptr;
  basic_key_entry* next = nullptr;
};

template <class Sync>
using table_list = hook_list<basic_key_table<Sync>, &basic_key_table<Sync>::prev, &basic_key_table<Sync>::next>;

template <class Sync>
using key_list = hook_list<basic_key_entry<Sync>, &basic_key_entry<Sync>::prev, &basic_key_entry<Sync>::next>;

template <class Sync>
struct alignas(64) basic_key_shard {
  using entry = basic_key_entry<Sync>;

  basic_spin_lock<Sync> lock;
  basic_key_table<Sync>* table = nullptr;
  hash_domain* domain = nullptr;
  std::array<entry*, 8> first_buckets SLUICE_GUARDED_BY(lock){};
  std::unique_ptr<entry*[]> more_buckets SLUICE_GUARDED_BY(lock);
  entry** buckets SLUICE_GUARDED_BY(lock) = first_buckets.data();
  std::size_t bucket_count SLUICE_GUARDED_BY(lock) = first_buckets.size();
  entry last_resort SLUICE_GUARDED_BY(lock);
  bool last_resort_free SLUICE_GUARDED_BY(lock) = true;
  std::size_t live SLUICE_GUARDED_BY(lock) = 0;
  entry* spare SLUICE_GUARDED_BY(lock) = nullptr;
  std::size_t spares SLUICE_GUARDED_BY(lock) = 0;
};

template <class Sync>
class basic_key_table {
 public:
  using entry = basic_key_entry<Sync>;
  using shard = basic_key_shard<Sync>;

  // `domain` is what the works that are taken out are told to belong to.
  explicit basic_key_table(hash_domain* domain) noexcept {
    for (shard& each : shards_) {
      each.table = this;
      each.domain = domain;
    }
  }
  basic_key_table(const basic_key_table&) = delete;
  basic_key_table& operator=(const basic_key_table&) = delete;
  // Requires: no live keys.
  ~basic_key_table() {
    for (shard& each : shards_) {
      const scoped_lock held(each.lock);
      SLUICE_CHECK(each.live == 0, "a hash domain ended while a work of it was queued or running");
      while (each.spare != nullptr) {
        entry* const gone = std::exchange(each.spare, each.spare->chain);
        if (gone != &each.last_resort) {
          delete gone;
        }
      }
    }
  }

  static constexpr unsigned shard_bits = 5;
  static constexpr std::size_t shard_count = std::size_t{1} << shard_bits;

  [[nodiscard]] shard& shard_of(std::uint64_t key) noexcept { return shards_[shard_index(key)]; }
  [[nodiscard]] std::array<shard, shard_count>& shards() noexcept { return shards_; }

  // The way in, see above. Submitters read this line.
  typename Sync::template atomic<basic_account<Sync>*> owner{nullptr};
  // In the owner's list of tables to look into; written under the owner's lock, as the hooks are.
  typename Sync::template atomic<bool> noticed{false};
  basic_key_table* prev = nullptr;
  basic_key_table* next = nullptr;

  // They write this one.
  alignas(64) basic_inbox<Sync, 8192> inbox;  // wide: a submitter that moves works takes them to the wrong core

  alignas(64) basic_spin_lock<Sync> order;
  // What was in the inbox and is not with its keys yet, by shard; a bit is set for each chain that is not empty.
  std::array<work_chain, shard_count> arrived SLUICE_GUARDED_BY(order);
  std::uint32_t arrived_in SLUICE_GUARDED_BY(order) = 0;
  typename Sync::template atomic<bool> starved{false};  // some stay there for want of memory

  // Sorts what was in the inbox by shard, behind what has arrived.
  void sort(work* w) noexcept SLUICE_REQUIRES(order) {
    if (arrived_in != 0) {  // works for which there was no memory: these come behind them
      work_chain oldest_first;
      oldest_first.append_reversed(w);
      while ((w = oldest_first.pop_front()) != nullptr) {
        arrived[arrive_in(*w)].push_back(*w);
      }
      return;
    }
    while (w != nullptr) {
      work* const older = work_access::next(*w);
      arrived[arrive_in(*w)].push_front(*w);
      w = older;
    }
  }
  // Takes all that match out of what has arrived, each handed to `taken`.
  template <class Match, class Taken>
  void take_arrived(Match match, Taken taken) noexcept SLUICE_REQUIRES(order) {
    for (std::uint32_t left = arrived_in; left != 0; left &= left - 1) {
      const auto in = static_cast<std::size_t>(std::countr_zero(left));
      arrived[in].take_out(match, taken);
      if (arrived[in].empty()) {
        arrived_in &= ~(1U << in);
      }
    }
  }

  // Whether provide() need not let go of the lock.
  [[nodiscard]] static bool provided(const shard& in) noexcept SLUICE_REQUIRES(in.lock) {
    return in.spare != nullptr && in.live < in.bucket_count;
  }
  // Makes sure that add() will not need memory. Lets go of the lock and takes it again if it must allocate.
  // Returns false if there is no memory.
  [[nodiscard]] static bool provide(shard& in) noexcept SLUICE_REQUIRES(in.lock) {
    while (!provided(in)) {
      const std::size_t wanted = in.live >= in.bucket_count ? 2 * in.bucket_count : 0;
      const bool lacks_entry = in.spare == nullptr;
      in.lock.unlock();
      // Outside the lock: an allocation may be a system call.
      std::unique_ptr<entry*[]> buckets(wanted != 0 ? new (std::nothrow) entry* [wanted] {} : nullptr);
      std::unique_ptr<entry> fresh(lacks_entry ? new (std::nothrow) entry : nullptr);
      in.lock.lock();
      if ((wanted != 0 && buckets == nullptr) || (lacks_entry && fresh == nullptr)) {
        return false;
      }
      if (fresh != nullptr) {
        put_spare(in, fresh.release());
      }
      if (wanted > in.bucket_count) {
        rehash(in, std::move(buckets), wanted);
      }
    }
    return true;
  }

  // The same for a work that cannot be refused: what is missing is made up for by the shard's own entry.
  [[nodiscard]] static bool provide_at_any_rate(shard& in) noexcept SLUICE_REQUIRES(in.lock) {
    if (provide(in) || in.spare != nullptr) {
      return true;  // full buckets are slow, no more
    }
    if (!in.last_resort_free) {
      return false;
    }
    in.last_resort_free = false;
    in.last_resort.chain = in.spare;
    in.spare = &in.last_resort;
    ++in.spares;
    return true;
  }

  [[nodiscard]] static entry* find(shard& in, std::uint64_t key) noexcept SLUICE_REQUIRES(in.lock) {
    entry* at = in.buckets[bucket_of(key, in.bucket_count)];
    while (at != nullptr && at->key != key) {
      at = at->chain;
    }
    return at;
  }

  // A new entry, busy until the caller queues it. Requires: provide() said true under this hold of the lock; absent.
  [[nodiscard]] static entry& add(shard& in, std::uint64_t key) noexcept SLUICE_REQUIRES(in.lock) {
    entry* const made = std::exchange(in.spare, in.spare->chain);
    --in.spares;
    made->shard = &in;
    made->key = key;
    made->state = key_state::busy;
    entry*& bucket = in.buckets[bucket_of(key, in.bucket_count)];
    made->chain = bucket;
    bucket = made;
    ++in.live;
    return *made;
  }

  // Requires: an entry of this shard; nothing waits; neither listed nor claimed by anybody but the caller.
  static void erase(shard& in, entry& gone) noexcept SLUICE_REQUIRES(in.lock) {
    entry** at = &in.buckets[bucket_of(gone.key, in.bucket_count)];
    while (*at != &gone) {
      at = &(*at)->chain;
    }
    *at = gone.chain;
    --in.live;
    put_spare(in, &gone);
  }

  // Visits each live key; the visitor may erase the one it is shown.
  template <class Visit>
  static void for_each(shard& in, Visit visit) noexcept SLUICE_REQUIRES(in.lock) {
    for (std::size_t i = 0; i < in.bucket_count; ++i) {
      for (entry* at = in.buckets[i]; at != nullptr;) {
        entry* const behind = at->chain;
        visit(*at);
        at = behind;
      }
    }
  }

  [[nodiscard]] std::size_t size() noexcept {
    std::size_t all = 0;
    for (shard& each : shards_) {
      const scoped_lock held(each.lock);
      all += each.live;
    }
    return all;
  }
  [[nodiscard]] bool busy(std::uint64_t key) noexcept {
    shard& in = shard_of(key);
    const scoped_lock held(in.lock);
    const entry* const found = find(in, key);
    return found != nullptr && found->state == key_state::busy;
  }

 private:
  [[nodiscard]] static std::size_t shard_index(std::uint64_t key) noexcept { return mix(key) >> (64 - shard_bits); }
  [[nodiscard]] std::size_t arrive_in(const work& w) noexcept SLUICE_REQUIRES(order) {
    const std::size_t in = shard_index(w.key());
    arrived_in |= 1U << in;
    return in;
  }

  static constexpr std::size_t most_spares = 64;  // per shard: the steady state allocates nothing

  // Fibonacci hashing: the high bits choose the shard, those below it the bucket.
  [[nodiscard]] static std::uint64_t mix(std::uint64_t key) noexcept {
    key ^= key >> 32;
    return key * 0x9E3779B97F4A7C15ULL;
  }
  [[nodiscard]] static std::size_t bucket_of(std::uint64_t key, std::size_t count) noexcept {
    return (mix(key) << shard_bits >> 20) & (count - 1);
  }

  static void put_spare(shard& in, entry* one) noexcept SLUICE_REQUIRES(in.lock) {
    if (one == &in.last_resort) {
      in.last_resort_free = true;
      return;
    }
    if (in.spares >= most_spares) {
      delete one;
      return;
    }
    one->chain = in.spare;
    in.spare = one;
    ++in.spares;
  }

  static void rehash(shard& in, std::unique_ptr<entry*[]> buckets, std::size_t count) noexcept
      SLUICE_REQUIRES(in.lock) {
    for (std::size_t i = 0; i < in.bucket_count; ++i) {
      for (entry* at = in.buckets[i]; at != nullptr;) {
        entry* const behind = at->chain;
        entry*& bucket = buckets[bucket_of(at->key, count)];
        at->chain = bucket;
        bucket = at;
        at = behind;
      }
    }
    in.more_buckets = std::move(buckets);
    in.buckets = in.more_buckets.get();
    in.bucket_count = count;
  }

  std::array<shard, shard_count> shards_;
};

}  // namespace sluice::detail
