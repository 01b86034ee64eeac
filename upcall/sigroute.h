/* SPDX-License-Identifier: MIT
 * Which fiber gets a signal, and how it is told.
 *
 * Model:     a signal that is for the process, or that came where it could not be taken, is in the table (sigtable.h); a fiber that accepts it
 *            is looked for, told, and takes it there. It is told again when the one that was told has blocked it or ended, by the monitor.
 * Signalfd:  what every kernel thread blocks the monitor reads by a signalfd of its own, except what the program itself reads so.
 */
#ifndef WEFT_UPCALL_SIGROUTE_H
#define WEFT_UPCALL_SIGROUTE_H

#include "runtime/runtime.h"
#include "upcall/sigtable.h"

static inline bool weft__signal_accepts(struct weft__fiber *f, int sig)
{
	return !(*(volatile uint32_t *)&f->flags & WEFT__F_ENDING) && !(*(volatile uint64_t *)&f->sigmask & WEFT__SIGBIT(sig));
}

/* The first thread takes what is for the process if it accepts it: so does the kernel, and programs count on it (alarm and pause). */
static inline bool weft__signal_main_accepts(int sig)
{
	return weft__rt.main && weft__signal_accepts(weft__rt.main, sig);
}

/* The fiber has something in the table: make it look, wherever it is. Preemption disabled, no handler of a fiber that is inside the
 * runtime: it may be enqueued. */
void weft__signal_notify(struct weft__fiber *f, int sig);
/* From a handler on `self`: of a fiber in ordinary code at once, else by the monitor. */
void weft__signal_notify_from_handler(struct weft__fiber *self, struct weft__fiber *f, int sig);

/* One for the process: into the table, and tell a fiber. Preemption disabled. */
void weft__signal_route(const siginfo_t *info);

/* A fiber that waits for it (sigwait), or else one that does not block it; main first. NULL: none. */
struct weft__fiber *weft__signal_find(int sig, bool waiting);

/* Does the program read it by signalfd? */
bool weft__signal_left(int sig);

#endif
