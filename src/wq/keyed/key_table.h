// key_table: which work of each live key of a hash domain may run next.
//
// A key has an entry while a work of it waits or runs. The entry, not its works, stands in an account's queue, so a queue never
// holds a work that could only stall, and skipping a busy key costs nothing: its entry is not there.
//
// | state of a key | submit              | a worker takes it      | the run ends            | its last work is cancelled |
// |----------------|---------------------|------------------------|-------------------------|----------------------------|
// | absent         | → queued            |                        |                         |                            |
// | queued, listed | joins the waiting   | → claimed (unlisted)   |                         | → absent                   |
// | claimed        | joins the waiting   |                        |                         | the claimer → absent       |
// | busy           | joins the waiting   |                        | → queued, or → absent   | stays busy                 |
//
// claimed is the moment between an account's lock, under which a worker takes the entry from the queue, and the shard's lock,
// under which it takes works from the entry: these two are never held in that order.
//
// The waiting works are linked in submit order under the shard's lock. The thread that makes the key runnable lists the entry in
// the account of its first work, under the same lock. So there is no moment at which a key with works is neither listed, nor
// claimed, nor busy (H4 H6).
//
// The way in. The first account that uses a table owns it for as long as its pool lives. The owner's works wait in the table's
// inbox, one compare-exchange each, and a worker of the owner moves them to their keys: a submitter that is cheaper than the
// worker lets works gather, and a gathered run of a key costs its worker hardly more than one work. Other accounts enter a key
// directly. The holder of `order` moves works from the inbox to the keys, or enters a key past it after it has emptied it: what
// was submitted before is entered before (H2).
//
// Works are moved a whole inbox at a time, sorted by shard first: one hold of each shard, and one of the account for all keys of
// it that became runnable. So a worker looks into the inbox only when it has given each listed key its turn: the more gathers,
// the less a work costs.
//
// Memory for keys is found at submit, where ENOMEM can be answered (W6). The table keeps entries in reserve:
//
//   reserve  >=  promised (to later members of chains)  +  room of the inbox
//
// Before the inbox is emptied, its next room is chosen so that the reserve covers the works that are taken and the next ones;
// the room stands in the inbox's own word, so no submitter can see an old one. If the reserve is low, the room shrinks down to
// none, and then a submitter provides entries itself, or is refused. Entries and buckets are allocated outside all locks.
//
// The class has more than 15 members: the way in, the memory and the shards hold one invariant together, under one lock.
//
// Thread safety:  any thread. Lock order: a table's order, a shard's lock, then an account's, then a worker's.
// Errors:         promise(): false if there is no memory.
// Limits:         an entry has 96 bytes, its place in the buckets at most 16. The reserve has about twice the inbox's room, at
//                 most, beside what is promised; what of it no key needs is memory that is not touched (entry_supply.h).
// Invariants:     H1 H2 H4 H5
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "sluice/base/mutex.h"
#include "sluice/ref/spin_lock.h"

#include "wq/item/hook_list.h"
#include "wq/item/work_fifo.h"
#include "wq/keyed/entry_supply.h"
#include "wq/keyed/key_fifo.h"
#include "wq/ready/inbox.h"

namespace sluice::detail {

template <class Sync>
class basic_account;
template <class Sync>
class basic_key_table;
template <class Sync>
struct basic_key_shard;

enum class key_state : std::uint8_t { queued, busy };

template <class Sync>
struct basic_key_entry {
  basic_key_shard<Sync>* shard = nullptr;
  std::uint64_t key = 0;
  basic_key_entry* chain = nullptr;  // in its bucket, or in a list of entries that are not in use

  // Guarded by the shard's lock.
  key_fifo waiting;
  basic_account<Sync>* queued_on = nullptr;  // while queued
  key_state state = key_state::busy;

  std::uint16_t index = 0;  // the supply's

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
  std::size_t live SLUICE_GUARDED_BY(lock) = 0;
  entry* spare SLUICE_GUARDED_BY(lock) = nullptr;
  std::size_t spares SLUICE_GUARDED_BY(lock) = 0;
};

template <class Sync>
class basic_key_table {
 public:
  using entry = basic_key_entry<Sync>;
  using shard = basic_key_shard<Sync>;
  using inbox_type = basic_inbox<Sync, 8192>;  // wide: a submitter that moves works takes them to the wrong core

  // domain: what the works of this table name. salt: secret of the table, so that no client can choose keys that fall into
  // one bucket.
  basic_key_table(hash_domain* domain, std::uint64_t salt) noexcept : salt_(salt) {
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
      SLUICE_CHECK(each.live == 0, "a hash domain was destroyed while a work of it was queued or running");
      while (each.spare != nullptr) {
        give_back(std::exchange(each.spare, each.spare->chain));
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
  // Threads that look into the table because they found it in that list; counted up under the owner's lock.
  typename Sync::template atomic<std::uint32_t> visitors{0};

  // Submitters write this one.
  alignas(64) inbox_type inbox{0};

  alignas(64) basic_spin_lock<Sync> order;

  // Takes what is in the inbox and sorts it by shard. Returns how many works, and in which shards: for_each_arrived() then
  // hands them over. The next room of the inbox is chosen here.
  [[nodiscard]] std::size_t take_inbox() noexcept SLUICE_REQUIRES(order) {
    const std::size_t covered = supply_.size() - promised_ - room_;  // beside the works that are taken now
    const std::size_t next_room = std::min(wanted_room_, covered);
    std::size_t count = 0;
    work* w = nullptr;
    if (next_room == room_) [[likely]] {
      w = inbox.empty() ? nullptr : inbox.take_newest(count, next_room);
    } else {
      w = inbox.take_newest(count, next_room);
    }
    room_ = next_room;
    while (w != nullptr) {
      work* const older = work_access::next(*w);
      const std::size_t in = shard_index(w->key());
      arrived_in_ |= 1U << in;
      arrived_[in].push_front(*w);
      w = older;
    }
    return count;
  }
  // Calls visit(shard, works) for each shard that has some; the visitor takes all of them.
  template <class Visit>
  void for_each_arrived(Visit visit) noexcept SLUICE_REQUIRES(order) {
    for (; arrived_in_ != 0; arrived_in_ &= arrived_in_ - 1) {
      const auto in = static_cast<std::size_t>(std::countr_zero(arrived_in_));
      visit(shards_[in], arrived_[in]);
    }
  }

  // Whether a put of n works can succeed, since the last take.
  [[nodiscard]] bool has_room(std::size_t n) const noexcept SLUICE_REQUIRES(order) { return n <= room_; }

  // A put of n works found no room: from the next take on there is much more, and for n, if there is memory.
  void widen(std::size_t n) noexcept SLUICE_REQUIRES(order) {
    const std::size_t wanted = std::max(room_ == wanted_room_ ? 8 * wanted_room_ : wanted_room_, std::bit_ceil(n));
    wanted_room_ = std::min(wanted, inbox_type::capacity);
  }

  // Whether provide() has something to do. Any thread; a hint.
  [[nodiscard]] bool wants_memory() const noexcept { return wants_memory_.load(std::memory_order_relaxed); }

  // Fills the reserve and grows buckets. Allocates; call it without locks. Returns false if there is no memory for entries. After true
  // there was room, for a moment: other threads may have used it, so a caller that finds none tries again.
  bool provide() noexcept SLUICE_EXCLUDES(order) {
    std::size_t lacking = 0;
    std::uint32_t crowded = 0;
    {
      const scoped_lock held(order);
      lacking = lacking_locked();
      crowded = std::exchange(crowded_, 0U);
    }
    supply fresh = supply::make(lacking);
    const bool enough = fresh.size() == lacking;
    for (; crowded != 0; crowded &= crowded - 1) {
      grow_buckets(shards_[static_cast<std::size_t>(std::countr_zero(crowded))]);
    }
    const scoped_lock held(order);
    supply_.add(std::move(fresh));
    note_wants();
    return enough;
  }

  // Sets an entry aside for a work that will need one later: a chain's later member. Allocates if it must. Returns false if
  // there is no memory.
  [[nodiscard]] bool promise() noexcept SLUICE_EXCLUDES(order) {
    for (bool memory = true;;) {
      {
        const scoped_lock held(order);
        if (supply_.size() > promised_ + room_) {
          ++promised_;
          note_wants();
          return true;
        }
      }
      if (!memory) {
        return false;
      }
      memory = provide();
    }
  }
  void take_back_promise() noexcept SLUICE_EXCLUDES(order) {
    const scoped_lock held(order);
    redeem();
  }
  // The work is about to enter: what was set aside may be used by it.
  void redeem() noexcept SLUICE_REQUIRES(order) { --promised_; }

  // Whether a work that came neither through the inbox nor with a promise may make a new key.
  [[nodiscard]] bool may_add(const shard& in) const noexcept SLUICE_REQUIRES(order, in.lock) {
    return in.spare != nullptr || supply_.size() > promised_ + room_;
  }

  [[nodiscard]] entry* find(const shard& in, std::uint64_t key) const noexcept SLUICE_REQUIRES(in.lock) {
    entry* at = in.buckets[bucket_of(key, in.bucket_count)];
    while (at != nullptr && at->key != key) {
      at = at->chain;
    }
    return at;
  }

  // A new entry, busy until the caller queues it. Requires: the key is absent; an entry is covered: by the inbox's room, by
  // a promise that was redeemed, or by may_add().
  [[nodiscard]] entry& add(shard& in, std::uint64_t key) noexcept SLUICE_REQUIRES(order, in.lock) {
    entry* made = in.spare;
    if (made != nullptr) {
      in.spare = made->chain;
      --in.spares;
    } else {
      made = &supply_.take();
      note_wants();
    }
    made->shard = &in;
    made->key = key;
    made->state = key_state::busy;
    entry*& bucket = in.buckets[bucket_of(key, in.bucket_count)];
    made->chain = bucket;
    bucket = made;
    if (++in.live > in.bucket_count) [[unlikely]] {
      crowded_ |= 1U << static_cast<unsigned>(&in - shards_.data());
      note_wants();
    }
    return *made;
  }

  // Returns an entry that the caller gives back once it has released its locks, or null. Requires: an entry of this shard; nothing
  // waits; neither listed nor claimed by another thread.
  [[nodiscard]] entry* erase(shard& in, entry& gone) noexcept SLUICE_REQUIRES(in.lock) {
    entry** at = &in.buckets[bucket_of(gone.key, in.bucket_count)];
    while (*at != &gone) {
      at = &(*at)->chain;
    }
    *at = gone.chain;
    --in.live;
    if (in.spares >= most_spares) {
      return &gone;
    }
    gone.chain = in.spare;
    in.spare = &gone;
    ++in.spares;
    return nullptr;
  }

  // What erase() returned.
  static void give_back(entry* gone) noexcept {
    if (gone != nullptr) {
      supply::give_back(*gone);
    }
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

  // Nothing of it is queued, running or promised.
  [[nodiscard]] bool idle() noexcept SLUICE_EXCLUDES(order) {
    {
      const scoped_lock held(order);
      if (!inbox.empty() || promised_ != 0) {
        return false;
      }
    }
    return size() == 0;
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
  using supply = basic_entry_supply<Sync, entry>;

  static constexpr std::size_t most_spares = 64;  // per shard: the steady state allocates nothing
  static constexpr std::size_t first_room = 8;

  [[nodiscard]] std::size_t shard_index(std::uint64_t key) const noexcept { return mix(key) >> (64 - shard_bits); }

  // A multiplication by an odd constant, folded: without the salt a client cannot tell which keys meet. The high bits choose the
  // shard, those below it the bucket.
  [[nodiscard]] std::uint64_t mix(std::uint64_t key) const noexcept {
    __extension__ using wide = unsigned __int128;
    const wide product = static_cast<wide>(key ^ salt_) * 0x9E3779B97F4A7C15ULL;
    const std::uint64_t folded = static_cast<std::uint64_t>(product >> 64U) ^ static_cast<std::uint64_t>(product);
    return folded * (salt_ | 1U);
  }
  [[nodiscard]] std::size_t bucket_of(std::uint64_t key, std::size_t count) const noexcept {
    return (mix(key) << shard_bits >> 20) & (count - 1);
  }

  // Entries that the reserve should have beside what it has.
  [[nodiscard]] std::size_t lacking_locked() const noexcept SLUICE_REQUIRES(order) {
    const std::size_t wanted = promised_ + 2 * wanted_room_;
    return wanted - std::min(wanted, supply_.size());
  }
  void note_wants() noexcept SLUICE_REQUIRES(order) {
    const bool wants = crowded_ != 0 || lacking_locked() > wanted_room_ / 2;
    if (wants != wants_memory_.load(std::memory_order_relaxed)) {  // relaxed: written under `order`
      wants_memory_.store(wants, std::memory_order_relaxed);
    }
  }

  // If there is no memory, the buckets stay crowded: slow, no more.
  void grow_buckets(shard& in) noexcept SLUICE_EXCLUDES(in.lock) {
    std::size_t wanted = 0;
    {
      const scoped_lock held(in.lock);
      wanted = std::bit_ceil(in.live + 1);
      if (wanted <= in.bucket_count) {
        return;
      }
    }
    std::unique_ptr<entry*[]> fresh(new (std::nothrow) entry* [wanted] {});
    if (fresh == nullptr) {
      return;
    }
    const scoped_lock held(in.lock);
    if (wanted <= in.bucket_count) {
      return;  // another thread has grown them
    }
    for (std::size_t i = 0; i < in.bucket_count; ++i) {
      for (entry* at = in.buckets[i]; at != nullptr;) {
        entry* const behind = at->chain;
        entry*& bucket = fresh[bucket_of(at->key, wanted)];
        at->chain = bucket;
        bucket = at;
        at = behind;
      }
    }
    in.more_buckets.swap(fresh);  // the old ones are freed after the lock: declared before it
    in.buckets = in.more_buckets.get();
    in.bucket_count = wanted;
  }

  const std::uint64_t salt_;
  std::array<shard, shard_count> shards_;
  std::array<forward_fifo, shard_count> arrived_ SLUICE_GUARDED_BY(order);  // empty outside a hold of `order`
  std::uint32_t arrived_in_ SLUICE_GUARDED_BY(order) = 0;                   // a bit for each that is not empty
  std::uint32_t crowded_ SLUICE_GUARDED_BY(order) = 0;                      // shards that want more buckets
  supply supply_ SLUICE_GUARDED_BY(order);                                  // the reserve
  std::size_t promised_ SLUICE_GUARDED_BY(order) = 0;
  std::size_t room_ SLUICE_GUARDED_BY(order) = 0;  // of the inbox, since the last take
  std::size_t wanted_room_ SLUICE_GUARDED_BY(order) = first_room;
  typename Sync::template atomic<bool> wants_memory_{true};
};

}  // namespace sluice::detail
