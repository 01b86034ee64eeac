/* SPDX-License-Identifier: MIT
 * What the files of upcall/ share.
 */
#ifndef WEFT_UPCALL_UPCALL_H
#define WEFT_UPCALL_UPCALL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/runtime.h"

/* --- preempt.c --- */
int weft__preempt_start(void);			/* install the handler */
void weft__preempt_moved(void);			/* weft__fault_moves() has become true */
/* Ask the worker's fiber to make way; it looks for signals, too. Not if it has no room for that, or one is on its way that has not been seen. */
void weft__kick(struct weft__worker *w, uint64_t now);
/* The same, whatever it runs, and however long ago the last one was. It comes when it is not masked. */
void weft__nudge(struct weft__worker *w);
/* Have its fiber look for signals, wherever it is, and end the system call that it is in as a handler without SA_RESTART does. */
void weft__interrupt(struct weft__worker *w);

bool weft__in_libc(uintptr_t pc);		/* or in ld.so */

/* --- records.c: perf switch records --- */
bool weft__records_allowed(void);		/* may we? */
bool weft__records_work(void);			/* do they? Opens and closes one. As any open may, it may wait: recstart.c */
int weft__records_event(pid_t tid);		/* a descriptor of an event for that thread, 0: for the caller; or -errno. Does not touch errno */
int weft__records_open(struct weft__worker *w, int epfd);	/* by the worker, or the monitor */
void weft__records_arm(struct weft__worker *w);
void weft__records_mute(struct weft__worker *w);
bool weft__records_runs(const struct weft__worker *w);	/* it is armed, and has not left its CPU since. False: not known */
void weft__records_forked(struct weft__worker *workers);

/* --- recstart.c: when they begin --- */
void weft__records_later(bool wanted);	/* before there is a monitor: are they to begin? */
void weft__records_begin(uint64_t now, int epfd);	/* monitor, with something queued: if it is time */

enum weft__seen {
	WEFT__SEEN_NOTHING,
	WEFT__SEEN_BLOCKED,		/* it left the CPU to wait and has not come back */
	WEFT__SEEN_BACK,		/* it waited, and runs again */
	WEFT__SEEN_PREEMPTED,		/* the kernel runs somebody else there */
};
enum weft__seen weft__records_read(struct weft__worker *w);	/* monitor */

/* --- state.c: /proc/self/task/TID/stat --- */
bool weft__state_blocked(struct weft__worker *w);
void weft__state_forked(struct weft__worker *workers);

/* --- block.c --- */
void weft__blocked_note(uint64_t ns);		/* monitor: one hand-off took that long from the block */
void weft__blocked_percentiles(uint64_t *p50, uint64_t *p99);

/* --- sigaction.c --- */
void weft__signals_start(void);			/* the runtime starts: signals that are entered differently now */
/* for fault.c: has the program a handler, and does it want the alternate stack? The kernel's default from now on. */
bool weft__signal_handled(int sig, bool *onstack);
void weft__signal_default(int sig);

/* --- signals.c --- */
struct weft__fiber;
void weft__signals_deferred(struct weft__fiber *self);	/* run what was put off; preemption enabled */
void weft__signals_taken_at(struct weft__fiber *self, void *frame);	/* the same, from a signal handler with that frame */
/* for fault.c: call the handler, whose frame is on this stack and during which everything is blocked, with the mask that it is to have.
 * `held`: on an alternate stack. */
void weft__signal_fault(int sig, siginfo_t *info, void *context, bool held);

/* --- sigroute.c --- */
int weft__signals_fd(void);			/* a signalfd for what no thread of the process accepts; -1: none */
void weft__signals_route(void);			/* monitor: read it and find a fiber that accepts */
bool weft__signals_waiting(void);		/* there is something in the table */
bool weft__signals_routing(void);		/* the monitor has one that is not in the table yet */

/* --- look.c: what the monitor does about busy VPs --- */
extern enum weft_blocked_source weft__source;	/* the one in use */
void weft__look_start(void);
bool weft__look_queued(void);			/* is any fiber in a queue, or any operation prepared? */
enum weft__mood {
	WEFT__BUSY,
	WEFT__LIVELY,			/* all VPs have fibers that take short turns: up to weft__look_soon() before its time will do for the next look */
	WEFT__CALM,			/* all run hogs, and nobody waits but hogs: until the next look there is nothing to see */
};
/* Look at all busy VPs, with something queued somewhere. `urgent`: we have just put fibers into the common queue ourselves, timers or
 * descriptors that the VPs should have attended to: so they are not looking around, and need not be given time to do so. Returns
 * when to look again, at the latest. */
uint64_t weft__look(uint64_t now, bool urgent, enum weft__mood *mood);
bool weft__look_same(void);			/* [REST] R3: after a calm look, do the same hogs still run? */
uint64_t weft__look_soon(uint64_t now);		/* when it looks again while something is queued */
void weft__look_record(struct weft__worker *w, uint64_t now);	/* a record of w was written */
/* Workers that came back without a VP: those that the records tell of; and, where there are no records, all. */
void weft__look_back(uint64_t now, uint64_t *next);
void weft__look_free_worker(uint64_t now);	/* no kernel thread can be made: see [SHORT] */
void weft__look_for_returned(uint64_t now);

/* --- monitor.c --- */
void weft__monitor_adopt(void);			/* make workers for VPs that no sleeping one carries */

static inline unsigned weft__idle_vps(void)
{
	return *(volatile unsigned *)&weft__rt.nidle;
}

static inline void weft__min_of(uint64_t *a, uint64_t b)
{
	if (b < *a)
		*a = b;
}

#endif
