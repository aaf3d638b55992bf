/* stall_unstall: two keys of one table between two submitters, two workers and a canceller (src/wq/key_table.h).
 *
 * What is modelled: the owner of the table puts into its inbox and looks whether the table is noticed, and then who runs;
 * a stranger takes the table's order, moves what is in the inbox and enters behind it. Workers look into the table, claim a
 * key under the account's lock, take its works under the shard's lock, end the run, and fall idle. Memory for a key is
 * reserved by the submit, so the works of the inbox are with their keys when the order is let go. The keys are of one shard,
 * or of two. The stranger is of the owner's account, and then his works are concurrent and the account has both workers; or
 * of another account, and then each has one. A canceller takes a waiting work out; or, in the first case, a worker blocks
 * once during a run.
 *
 * What is checked: one run of a key at a time (H1), in the order of the calls (H2); a listed key has works, and the first of
 * them is of the account that lists it (H4); a key is busy exactly while a worker owns its run (H5). Whenever nothing can
 * move any more, no free worker leaves anything to run (P5), also while the other one is blocked, and nobody waits for a
 * lock; in the end no work is queued and no entry is left.
 *
 * How it is smaller: what happens under a lock is one step, together with the taking of the lock, as far as nobody reads it
 * without the lock; so a lock is only shown as held where its holder may wait for another one or do a second step. A chosen
 * worker is woken as soon as it counts as running: nobody else reads the permit. A worker may look into the table before
 * any key's turn, and takes one work, or more. Idle time-outs, creations and single works are in park_wake.
 *
 * bug: NO_SECOND_LOOK    a table leaves the list without a second look into its inbox
 * bug: NOTICE_FIRST      the owner looks whether the table is noticed before it puts its work
 * bug: LOOK_FIRST        the owner looks who runs before the table is listed
 * bug: COUNT_LATE        a worker stops running after it let go of the lock under which it looked for something to do
 * bug: BLOCK_BLINDLY     a worker that blocks does not look for something to do
 * bug: LIST_BLINDLY      whoever lists a key chooses no worker for it
 * bug: TAKE_UNORDERED    a worker takes the works out of the inbox before it has the table's order
 * bug: ENTER_PAST        a stranger does not empty the inbox before it enters its work
 * bug: CLAIM_EMPTY       a worker runs a claimed key without a look whether a work still waits
 * bug: CLAIM_FOREIGN     a worker runs a claimed key without a look whose its first work is
 * bug: LEAVE_LISTED      a canceller that took the last work leaves the key listed
 * bug: LEAVE_FOREIGN     a canceller that took the first work leaves the key listed where that was of
 * bug: ERASE_CLAIMED     a canceller that took the last work erases the entry although a worker has claimed it
 * bug: LOOK_UNLOCKED     the end of a run looks for waiting works before it takes the shard's lock
 * bug: LIST_TWICE        whoever enters a work lists the key although somebody owns it
 */
#define KEYS 2
#ifndef OWN
#define OWN 2 /* works of the owner */
#endif
#ifndef FOREIGN
#define FOREIGN 1 /* and of the stranger */
#endif
#define WORKS (OWN + FOREIGN)

mtype = { absent, queued, busy };

byte strange;                                  /* the stranger's account; the owner's is 0 */
byte apart;                                    /* whether the keys are of two shards */

chan inbox = [OWN] of { byte, byte };          /* key, number: the order of the calls, per key */
chan arrived = [OWN] of { byte, byte };        /* under the table's order */
#ifdef TAKE_UNORDERED
chan taken = [OWN] of { byte, byte };
#endif
chan waiting[KEYS] = [WORKS] of { byte, bit }; /* number, whether it is the stranger's */
mtype state[KEYS] = absent;                    /* claimed: queued, and not listed */
bool listed[KEYS];                             /* in the queue of queued_on: under that account's lock */
byte queued_on[KEYS];
bool tables_listed;                            /* in the list of account 0 */
bool noticed;

bool order;
bool shard[2];
bool account[2];

byte running[2];
bool free[2];                                  /* workers */
bool permit[2];
bool may_block;                                /* worker 0, once */
bool blocked;

byte next_number[KEYS] = 1;
byte last_started[KEYS];
bool inside[KEYS];
byte over;                                     /* started or cancelled */

#define SHARD(key) (key & apart)
#define HOME(worker) (worker & strange)
#define SOME(works) (len(works) != 0)
#define NONE(works) (len(works) == 0)
#define OF_STRANGER(key) (waiting[key]?[_, 1]) /* the first work */
#define TO(key) (OF_STRANGER(key) -> strange : 0)
#define CONCURRENT(key) (OF_STRANGER(key) && strange == 0)
#define LISTED_ON(key, at) (listed[key] && queued_on[key] == at)
#define KEYS_LISTED(at) (LISTED_ON(0, at) || LISTED_ON(1, at))
#define TABLES_LISTED(at) (at == 0 && tables_listed)
#define FREE_OF(worker, at) (free[worker] && HOME(worker) == at)
#define SOMEBODY_FREE(at) (FREE_OF(0, at) || FREE_OF(1, at))
#define ALL_FREE(at) ((free[0] || HOME(0) != at) && (free[1] || HOME(1) != at))

/* H4 H5, whenever the shard's lock is free. */
#define HOLDS(key) ((state[key] == busy) == inside[key] && (state[key] != absent || NONE(waiting[key])) && \
                    (!listed[key] || (state[key] == queued && SOME(waiting[key]) && TO(key) == queued_on[key])))
inline lock_shard(part) {
  !shard[part] -> shard[part] = true;
  assert((part != SHARD(0) || HOLDS(0)) && (part != SHARD(1) || HOLDS(1)))
}

/* Under the account's lock. */
inline wake_free(at) {
  if
  :: FREE_OF(0, at) -> free[0] = false; permit[0] = true
  :: FREE_OF(1, at) -> free[1] = false; permit[1] = true
  fi;
  assert(running[at] < 2 - strange);
  running[at]++
}
inline choose(at, another) {
  if
  :: KEYS_LISTED(at) && (another || running[at] == 0) && SOMEBODY_FREE(at) -> wake_free(at)
  :: else
  fi
}

/* Under the shard's lock. If no work of the key is queued anywhere its numbers begin again: that makes fewer states. */
#ifdef TAKE_UNORDERED
#define COMING true
#else
#define COMING (order || inbox??[eval(key), _])
#endif
inline erase() {
  state[key] = absent;
  if
  :: COMING
  :: !COMING -> next_number[key] = 1; last_started[key] = 0
  fi
}

/* Under their shard's lock: the keys in `fresh` (a bit each), whose first works are all of one account. */
inline queue_keys() {
  if
  :: fresh & 1 -> to = TO(0); concurrent = CONCURRENT(0)
  :: !(fresh & 1) -> to = TO(1); concurrent = CONCURRENT(1)
  fi;
  !account[to];
  if
  :: fresh & 1 -> state[0] = queued; queued_on[0] = to; listed[0] = true
  :: else
  fi;
  if
  :: fresh & 2 -> state[1] = queued; queued_on[1] = to; listed[1] = true
  :: else
  fi;
#ifndef LIST_BLINDLY
  choose(to, concurrent);
#endif
  fresh = 0;
  to = 0;
  concurrent = false
}
inline queue_fresh_and_unlock(part) {
  if
  :: fresh != 0 -> queue_keys()
  :: fresh == 0
  fi;
  shard[part] = false
}

/* Under the shard's lock. */
inline wait_for_key(in, number, who) {
  waiting[in]!number, who;
  if
#ifdef LIST_TWICE
  :: true -> fresh = fresh | (1 << in)
#else
  :: state[in] == absent -> state[in] = busy; fresh = fresh | (1 << in) /* busy until it is queued */
  :: else
#endif
  fi
}

inline pour(from, into) {
  do
  :: from?k, n -> into!k, n
  :: NONE(from) -> break
  od;
  k = 0;
  n = 0
}

/* Under the table's order. */
#define COMES(key, part) (SHARD(key) == part && arrived??[key, _])
inline enter_some(part) {
  lock_shard(part);
  do
  :: COMES(0, part) -> arrived??0, n; wait_for_key(0, n, 0)
  :: COMES(1, part) -> arrived??1, n; wait_for_key(1, n, 0)
  :: !COMES(0, part) && !COMES(1, part) -> break
  od;
  n = 0;
  queue_fresh_and_unlock(part)
}
#define COME(part) (COMES(0, part) || COMES(1, part))
/* After it no more is to be done under the order. */
inline enter_arrived_and_unlock() {
  if
  :: atomic { COME(0) && COME(1) -> enter_some(0) }
     atomic { enter_some(1); order = false }
  :: atomic { COME(0) && !COME(1) -> enter_some(0); order = false }
  :: atomic { !COME(0) && COME(1) -> enter_some(1); order = false }
  :: atomic { NONE(arrived) -> order = false }
  fi
}
/* The same, and the order is kept. */
inline enter_arrived() {
  do
  :: atomic { COME(0) -> enter_some(0) }
  :: atomic { !COME(0) && COME(1) -> enter_some(1) }
  :: NONE(arrived) -> break
  od
}

inline look_into_table() {
#ifdef TAKE_UNORDERED
  atomic { pour(inbox, taken) }
  atomic { !order -> order = true; was_empty = NONE(inbox) && NONE(taken) }
  atomic { pour(taken, arrived) }
#else
  atomic { !order -> order = true; was_empty = NONE(inbox) }
#endif
  atomic { pour(inbox, arrived) }
  enter_arrived_and_unlock();
  if
  :: atomic { was_empty && !account[0] && noticed -> was_empty = false; account[0] = true; noticed = false }
     atomic {
       if
#ifdef NO_SECOND_LOOK
       :: true -> tables_listed = false
#else
       :: SOME(inbox) -> noticed = true
       :: NONE(inbox) -> tables_listed = false
#endif
       fi;
       account[0] = false
     }
  :: atomic { was_empty && !account[0] && !noticed -> was_empty = false }
  :: !was_empty
  fi
}
inline start_worker(at) {
  if
  :: TABLES_LISTED(at) -> look_into_table()
  :: else
  fi;
  atomic { !account[at]; choose(at, false) }
}

proctype owner() {
  byte i;
  byte key;
  byte k;
  byte n;
  byte fresh;
  byte to;
  bool concurrent;
  bool was_empty;
#ifdef NOTICE_FIRST
  bool was_noticed;
#endif
#ifdef LOOK_FIRST
  byte ran;
#endif
  for (i : 1 .. OWN) {
#ifdef NOTICE_FIRST
    was_noticed = noticed;
#endif
    atomic {
      if
      :: key = 0
      :: i != 1 -> key = 1 /* the keys are alike */
      fi;
      inbox!key, next_number[key];
      next_number[key]++;
      key = 0
    }
#ifdef LOOK_FIRST
    ran = running[0];
#endif
    if
#ifdef NOTICE_FIRST
    :: was_noticed
    :: !was_noticed ->
#else
    :: noticed
    :: !noticed ->
#endif
       atomic { !account[0] -> tables_listed = true; noticed = true }
    fi;
    if
#ifdef LOOK_FIRST
    :: ran != 0
    :: ran == 0 ->
#else
    :: running[0] != 0
    :: running[0] == 0 ->
#endif
       if
       :: !SOMEBODY_FREE(0) /* all the workers that there may be are there, and none is free */
       :: SOMEBODY_FREE(0) ->
          if
          :: atomic { !account[0] && running[0] == 0 && ALL_FREE(0) -> wake_free(0) }
          :: !account[0] && !(running[0] == 0 && ALL_FREE(0)) -> start_worker(0)
          fi
       fi
    fi
  }
}

proctype stranger() {
  byte i;
  byte key;
  byte number;
  byte k;
  byte n;
  byte fresh;
  byte to;
  bool concurrent;
  for (i : 1 .. FOREIGN) {
    atomic {
      !order -> order = true;
      if
      :: key = 0
      :: key = 1
      fi;
#ifndef ENTER_PAST
      pour(inbox, arrived);
#endif
      number = next_number[key];
      next_number[key]++
    }
    enter_arrived();
    atomic {
      lock_shard(SHARD(key));
      wait_for_key(key, number, 1);
      queue_fresh_and_unlock(SHARD(key));
      order = false;
      number = 0;
      key = 0
    }
  }
}

/* One that waits is the worker's. */
inline start() {
  waiting[key]?n, who;
  assert(n > last_started[key]);
  last_started[key] = n;
  over++;
  n = 0;
  who = 0
}
#ifdef CLAIM_EMPTY
#define NOTHING_WAITS false
#else
#define NOTHING_WAITS NONE(waiting[key])
#endif
#ifdef CLAIM_FOREIGN
#define NOT_OURS false
#else
#define NOT_OURS (SOME(waiting[key]) && TO(key) != home)
#endif

proctype worker(byte id) {
  byte key;
  byte k;
  byte n;
  byte fresh;
  byte to;
  byte home = HOME(id);
  bit who;
  bool concurrent;
  bool was_empty;
  bool something;
choose_next:
  if
  :: !account[home] && TABLES_LISTED(home) -> look_into_table()
  :: atomic { !account[home] && LISTED_ON(0, home) -> listed[0] = false; key = 0; goto claimed }
  :: atomic { !account[home] && LISTED_ON(1, home) -> listed[1] = false; key = 1; goto claimed }
  :: atomic { !account[home] && !KEYS_LISTED(home) && !TABLES_LISTED(home) -> goto idle }
  fi;
  if /* the table had its turn */
  :: atomic { !account[home] && LISTED_ON(0, home) -> listed[0] = false; key = 0; goto claimed }
  :: atomic { !account[home] && LISTED_ON(1, home) -> listed[1] = false; key = 1; goto claimed }
  :: atomic { !account[home] && !KEYS_LISTED(home) -> goto idle }
  fi;

claimed:
  atomic {
    lock_shard(SHARD(key));
    assert(state[key] == queued && !listed[key]);
    if
    :: NOTHING_WAITS -> erase(); shard[SHARD(key)] = false; key = 0; goto choose_next
    :: NOT_OURS -> fresh = 1 << key; goto queue_again
    :: !NOTHING_WAITS && !NOT_OURS
    fi;
    assert(SOME(waiting[key]) && TO(key) == home && !inside[key]);
    state[key] = busy;
    inside[key] = true;
    start();
    do
    :: SOME(waiting[key]) && TO(key) == home -> start()
    :: break
    od;
    shard[SHARD(key)] = false
  }
runs:
  if
  :: atomic { id == 0 && may_block -> may_block = false; running[home]-- }
#ifndef BLOCK_BLINDLY
     something = KEYS_LISTED(home);
     something = something || TABLES_LISTED(home);
     if
     :: something -> something = false; start_worker(home)
     :: else
     fi;
#endif
     blocked = true;
     atomic { !blocked -> running[home]++; goto runs }
#ifdef LOOK_UNLOCKED
  :: something = SOME(waiting[key])
#else
  :: true
#endif
  fi;
  atomic {
    lock_shard(SHARD(key));
    inside[key] = false;
#ifndef LOOK_UNLOCKED
    something = SOME(waiting[key]);
#endif
    if
    :: something -> something = false; fresh = 1 << key; goto queue_again
    :: else -> erase(); shard[SHARD(key)] = false; key = 0; goto choose_next
    fi
  }
queue_again:
  atomic { queue_keys(); shard[SHARD(key)] = false; key = 0; goto choose_next }

idle:
  atomic {
    !account[home] -> account[home] = true;
    free[id] = true;
#ifndef COUNT_LATE
    running[home]--
#endif
  }
  atomic {
    account[home] = false;
    if
    :: KEYS_LISTED(home) || TABLES_LISTED(home) ->
       free[id] = false;
#ifndef COUNT_LATE
       running[home]++;
#endif
       goto choose_next
    :: else
    fi
  }
#ifdef COUNT_LATE
  running[home]--;
#endif
end_parked:
  atomic { permit[id] -> permit[id] = false; goto choose_next }
}

#ifdef LEAVE_LISTED
#define MOVES (SOME(waiting[key]) && TO(key) != queued_on[key])
#else
#ifdef LEAVE_FOREIGN
#define MOVES NONE(waiting[key])
#else
#define MOVES (NONE(waiting[key]) || TO(key) != queued_on[key])
#endif
#endif

proctype canceller() {
  byte key;
  byte k;
  byte n;
  byte fresh;
  byte to;
  bool concurrent;
  atomic {
    !order -> order = true;
    if
    :: key = 0
    :: key = 1
    fi;
    pour(inbox, arrived)
  }
  enter_arrived();
  atomic {
    lock_shard(SHARD(key));
    n = 1;
    do /* any of them */
    :: n < WORKS -> n++
    :: waiting[key]??[eval(n), _] -> waiting[key]??eval(n), _; over++; break
    :: n == WORKS -> goto unlock
    od;
    n = 0;
    if
    :: state[key] == queued && MOVES
    :: !(state[key] == queued && MOVES) -> goto unlock
    fi;
    !account[queued_on[key]];
    if
    :: listed[key] -> listed[key] = false
    :: !listed[key] -> /* claimed: the worker that has it will see what is left */
#ifdef ERASE_CLAIMED
       if
       :: NONE(waiting[key]) -> state[key] = absent
       :: SOME(waiting[key])
       fi;
#endif
       goto unlock
    fi;
    if
    :: NONE(waiting[key]) -> erase()
    :: SOME(waiting[key]) -> fresh = 1 << key; queue_keys()
    fi;
unlock:
    n = 0;
    shard[SHARD(key)] = false;
    order = false
  }
}

/* When nobody else can move. */
proctype end_of_all() {
  do
  :: timeout ->
     atomic {
       assert(!(SOMEBODY_FREE(0) && (KEYS_LISTED(0) || SOME(inbox))) && !(SOMEBODY_FREE(1) && KEYS_LISTED(1)));
       if
       :: blocked -> blocked = false
       :: else ->
          assert(over == WORKS && free[0] && free[1] && running[0] == 0 && running[1] == 0);
          assert(state[0] == absent && state[1] == absent && NONE(waiting[0]) && NONE(waiting[1]) && NONE(inbox));
          break
       fi
     }
  od
}

init {
  atomic {
    running[0] = 2;
    if
    :: may_block = true
    :: strange = 1; running[0] = 1; running[1] = 1; run canceller()
    :: run canceller()
    fi;
    if
    :: apart = 0
    :: apart = 1
    fi;
    run owner();
    run stranger();
    run worker(0);
    run worker(1);
    run end_of_all()
  }
}
