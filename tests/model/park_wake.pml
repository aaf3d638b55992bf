/* park_wake: submitters against workers that fall idle, leave and are created again (src/wq/account.h).
 *
 * What is modelled: put, see to the inbox's bit, then look who runs, and if nobody does whether anybody could; take the bit
 * away, then the works; be listed as free, stop running, then look for work; a free list and reserved creations under the
 * account's lock; one permit per worker; an idle time-out at any moment; a worker that hands over what there is to do to a
 * free one, and falls idle. What is checked: whenever nothing can move any more, every work was run (P5 P4), and running
 * never exceeds the workers there are (P2), nor they the limit (P1).
 *
 * bug: TAKE_FIRST       a worker takes the works before the inbox's bit
 * bug: LOOK_FIRST       a submitter looks who runs before it puts its work
 * bug: LIST_LATE        a worker is listed as free after it stopped running
 * bug: NO_SECOND_LOOK   a worker sleeps without looking for work after it stopped running
 * bug: LEAVE_BLINDLY    a worker that timed out leaves without looking for work
 * bug: HAND_OVER_BLINDLY  a worker that handed over sleeps, though whoever took over may have stopped running
 * bug: FORGET_CHOSEN    a worker that timed out although it was chosen does not count as running
 */
#define SUBMITTERS 2
#define EACH 2
#define CREATIONS 3 /* worker records, and so creations: it bounds the search */

byte max;        /* the limit: 1 or 2 */
byte queue;      /* works in the inbox */
bool filled;     /* its bit */
byte listed;     /* works that were taken out of it, and wait */
byte running;    /* workers not known to be idle, chosen and reserved ones included */
byte workers;    /* there or reserved */
byte spawns;     /* reserved, for the manager to create */
byte created;
bool lock;
bool on_free_list[CREATIONS];
bool permit[CREATIONS];
byte done;

#define SOMETHING (filled || listed != 0)

inline acquire() { atomic { !lock -> lock = true } }
inline release() { lock = false }

/* Under the lock. Sets chosen to a worker to wake, or to CREATIONS. */
inline choose() {
  chosen = CREATIONS;
  if
  :: SOMETHING && running == 0 ->
     if
     :: on_free_list[0] -> chosen = 0
     :: else ->
        if
        :: on_free_list[1] -> chosen = 1
        :: else -> if :: on_free_list[2] -> chosen = 2 :: else fi
        fi
     fi;
     if
     :: chosen != CREATIONS -> on_free_list[chosen] = false; running++
     :: chosen == CREATIONS && workers < max && created + spawns < CREATIONS -> workers++; running++; spawns++
     :: else
     fi;
     assert(running <= workers && workers <= max)
  :: else
  fi
}
inline wake() { if :: chosen != CREATIONS -> permit[chosen] = true :: else fi }

proctype submitter() {
  byte i;
  byte chosen;
  bool idle;
  bool saturated;
  for (i : 1 .. EACH) {
#ifdef LOOK_FIRST
    idle = (running == 0);
#endif
    queue++;
    if
    :: !filled -> filled = true
    :: else
    fi;
#ifndef LOOK_FIRST
    idle = (running == 0);
#endif
    /* Without the lock, one after the other: all there, and nobody free (a count, read at once)? */
    saturated = idle && workers >= max;
    saturated = saturated && !on_free_list[0] && !on_free_list[1] && !on_free_list[2];
    if
    :: idle && !saturated -> acquire(); choose(); release(); wake()
    :: else
    fi
  }
}

proctype worker(byte id) {
  byte chosen;
  bool leave;
  bool handed;
take:
  handed = false;
  acquire();
  if
  :: filled ->
#ifdef TAKE_FIRST
     d_step { listed = listed + queue; queue = 0 };
     filled = false
#else
     filled = false;
     d_step { listed = listed + queue; queue = 0 }
#endif
  :: else
  fi;
  if
  :: listed != 0 -> listed--; release(); done++; goto take
  :: listed != 0 && (on_free_list[0] || on_free_list[1] || on_free_list[2]) ->
     if
     :: on_free_list[0] -> chosen = 0
     :: on_free_list[1] -> chosen = 1
     :: on_free_list[2] -> chosen = 2
     fi;
     on_free_list[chosen] = false;
     running++;
     handed = true;
     release();
     wake()
  :: else -> release()
  fi;
  acquire();
#ifndef LIST_LATE
  on_free_list[id] = true;
#endif
  running--;
#ifndef HAND_OVER_BLINDLY
  handed = handed && running != 0;
#endif
#ifndef NO_SECOND_LOOK
  if
  :: SOMETHING && !handed -> on_free_list[id] = false; running++; release(); goto take
  :: else
  fi;
#endif
  on_free_list[id] = true;
  release();
end_parked:
  if
  :: atomic { permit[id] -> permit[id] = false }; goto take
  :: created + spawns < CREATIONS -> /* times out; the last one stays, as the fixed worker does */
     acquire();
     if
     :: on_free_list[id] ->
        on_free_list[id] = false;
        running++;
#ifdef LEAVE_BLINDLY
        leave = true;
#else
        leave = !SOMETHING;
#endif
        release()
     :: else ->
        release();
#ifdef FORGET_CHOSEN
        acquire(); running--; workers--; release(); goto gone;
#endif
        atomic { permit[id] -> permit[id] = false };
        leave = false
     fi;
     if
     :: !leave -> goto take
     :: else ->
        acquire();
        running--;
        workers--;
#ifdef LEAVE_BLINDLY
        chosen = CREATIONS;
#else
        choose();
#endif
        release();
        wake()
     fi
  fi;
gone:
  skip
}

proctype manager() {
end_waits:
  do
  :: spawns != 0 -> acquire(); spawns--; created++; release(); run worker(created - 1)
  od
}

/* When nobody else can move. */
proctype end_of_all() {
  timeout -> assert(done == SUBMITTERS * EACH && queue == 0 && listed == 0)
}

init {
  byte i;
  atomic {
    if
    :: max = 1
    :: max = 2
    :: max = 2; workers = 2; running = 2; created = CREATIONS; run worker(0); run worker(1) /* and nobody times out */
    fi;
    run manager();
    for (i : 1 .. SUBMITTERS) { run submitter() }
    run end_of_all()
  }
}
