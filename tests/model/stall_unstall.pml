/* stall_unstall: one key between submitters, workers and a canceller (src/wq/key_table.h).
 *
 * What is modelled: the shard's lock around the waiting works and the key's state, the account's lock around the list
 * of runnable keys, and that a worker holds the first after the second, never in that order. What is checked: one run of
 * the key at a time (H1), in submit order (H2); whenever nothing can move any more, no work waits and no entry is left
 * (H4 H6).
 *
 * bug: ERASE_CLAIMED     a canceller that took the last work erases the entry although a worker is on its way to it
 * bug: LOOK_UNLOCKED     the end of a run looks for waiting works before it takes the shard's lock
 * bug: LIST_TWICE        a submitter lists the key although somebody owns it
 */
#define SUBMITTERS 2
#define EACH 2
#define WORKERS 2

mtype = { absent, queued, busy };

mtype state = absent;
bool listed;                           /* in the account's queue */
chan waiting = [4] of { byte };        /* numbers, in submit order */
bool shard;
bool account;
byte next_number = 1;
byte last_started;
byte inside;
byte over;                             /* run or cancelled */

inline lock(what) { atomic { !what -> what = true } }
inline unlock(what) { what = false }
inline list() { state = queued; lock(account); listed = true; unlock(account) }

proctype submitter() {
  byte i;
  for (i : 1 .. EACH) {
    lock(shard);
    waiting!next_number;
    next_number++;
    if
#ifdef LIST_TWICE
    :: true -> list()
#else
    :: state == absent -> list()
    :: else
#endif
    fi;
    unlock(shard)
  }
}

proctype worker() {
  byte number;
  bool more;
end_idle:
  do
  :: listed ->
     lock(account);
     if
     :: !listed -> unlock(account)
     :: else ->
        listed = false; /* claimed */
        unlock(account);
        lock(shard);
        if
        :: empty(waiting) -> assert(state == queued); state = absent; unlock(shard)
        :: else ->
           state = busy;
           waiting?number;
           unlock(shard);
           inside++;
           assert(inside == 1 && number > last_started);
           last_started = number;
           inside--;
           over++;
#ifdef LOOK_UNLOCKED
           more = nempty(waiting);
           lock(shard);
#else
           lock(shard);
           more = nempty(waiting);
#endif
           if
           :: more -> list()
           :: else -> state = absent
           fi;
           unlock(shard)
        fi
     fi
  od
}

proctype canceller() {
  byte number;
  lock(shard);
  number = 1;
  do /* any of them */
  :: number < next_number -> number++
  :: break
  od;
  if
  :: waiting??[eval(number)] -> waiting??eval(number); over++
  :: else
  fi;
  if
  :: state == queued && empty(waiting) ->
     lock(account);
#ifdef ERASE_CLAIMED
     listed = false;
     state = absent;
#else
     if
     :: listed -> listed = false; state = absent
     :: else
     fi;
#endif
     unlock(account)
  :: else
  fi;
  unlock(shard)
}

proctype end_of_all() {
  timeout -> assert(over == SUBMITTERS * EACH && empty(waiting) && state == absent && !listed)
}

init {
  byte i;
  atomic {
    for (i : 1 .. SUBMITTERS) { run submitter() }
    for (i : 1 .. WORKERS) { run worker() }
    run canceller();
    run end_of_all()
  }
}
