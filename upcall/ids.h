/* SPDX-License-Identifier: MIT
 * User and group ids: Linux keeps them per kernel thread, POSIX per process.
 *
 * Model:     libc's setuid() and the like have every thread on libc's list make the system call in a signal handler, and find out by the
 *            thread control block who has: on a worker the handler would run with a fiber's block, and libc would wait for ever. So we do
 *            it: the caller's kernel thread makes the call; if that succeeds the workers follow in the handler of the preemption signal,
 *            and the monitor when it is woken. Workers that are made later are clones of the monitor and have its ids. No thread makes a call twice.
 * Limits:    foreign threads (libc's own helpers for aio and timers) keep their ids.
 * Context:   a fiber or foreign thread; waits until every worker has followed. One change at a time.
 */
#ifndef WEFT_UPCALL_IDS_H
#define WEFT_UPCALL_IDS_H

#include <stdbool.h>

struct weft__worker;

/* Make system call `nr` with these arguments on every kernel thread of the runtime. 0, -errno (nothing changed), -ENOSYS while
 * the runtime does not run: call libc's function. */
long weft__ids_change(long nr, long a, long b, long c);

/* In the handler, and in the monitor (w NULL): make the call if this thread has not yet. */
void weft__ids_catch_up(struct weft__worker *w);

/* The monitor, before it makes a worker: 1, and if it could not: -1. */
void weft__ids_born(int more);
/* Are all on the list that were made? */
bool weft__ids_all_here(void);
/* The worker, before it is on the list. */
void weft__ids_worker_starts(struct weft__worker *w);
void weft__ids_forked(void);

#endif
