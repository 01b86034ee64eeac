/* SPDX-License-Identifier: MIT
 * Process-shared mutexes.
 */
#ifndef WEFT_PTHREAD_PSHARED_H
#define WEFT_PTHREAD_PSHARED_H

#include "pthread/sync.h"

/* As weft__ptm_lock_rare and weft__ptm_unlock_rare, for mutexes with WEFT__MTX_PSHARED. prio: what a ceiling must not be below. */
int weft__pshared_lock(struct weft__mutex *m, bool try, clockid_t clock, const struct timespec *ts, int prio);
int weft__pshared_unlock(struct weft__mutex *m);
int weft__pshared_consistent(struct weft__mutex *m);
/* The caller ends: robust ones that it holds say so. */
void weft__pshared_exit(struct weft__fiber *self);

/* Around libc's own pthread_cond_wait, which releases and takes the mutex: make the caller its owner as libc sees it (0, or EPERM: it is
 * not), and back, if libc has taken it. */
int weft__pshared_lend(struct weft__mutex *m);
void weft__pshared_take_back(struct weft__mutex *m);

/* The process as the owner of shared objects. */
uint32_t weft__pshared_pid(void);
void weft__pshared_forked(void);
/* On the first kernel thread, by main, when the runtime has started. Preemption disabled. */
void weft__pshared_start(void);

#endif
