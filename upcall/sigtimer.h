/* SPDX-License-Identifier: MIT
 * Timers that signal one thread (SIGEV_THREAD_ID).
 *
 * Model:     to the kernel a fiber's id is nobody's. So such a timer is made to signal the process, with the address of a record in place
 *            of the program's value: who receives SI_TIMER with an address of ours puts the value back and passes it to the fiber.
 * Lifetime:  records are never unmapped and made anew only when there is no other, so that a signal still on its way after timer_delete
 *            finds one; it is then dropped, as Linux does since 6.13. So are those that are in the table of signals (sigtable.h):
 *                delete                             queue
 *                T1 the kernel's timer              Q1 put it into the table
 *                T2 record->timer = 0               Q2 fence
 *                T3 fence                           Q3 record->timer is another: take it out
 *                T4 take them out of the table
 *            One of T4 and Q3 finds it. [TIMER-2] One that is for the process, and so has no record, the monitor puts there: it is
 *            waited for before T4.
 */
#ifndef WEFT_UPCALL_SIGTIMER_H
#define WEFT_UPCALL_SIGTIMER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct weft__fiber;

/* What the kernel is to be given as the timer's value. NULL: no memory. Thread context. */
void *weft__sigtimer_new(struct weft__fiber *f, union sigval value);

/* The timer exists, under this name; the record of that name, or NULL; it does not exist (any more). */
void weft__sigtimer_made(void *record, uintptr_t timer);
void *weft__sigtimer_find(uintptr_t timer);
void weft__sigtimer_drop(void *record);		/* was never made */
void weft__sigtimer_deleted(void *record, uintptr_t timer);	/* record: NULL if it has none */

/* Is it from such a timer? Then the program's value is put back, and *f is whom it is for; NULL: nobody any more. Handlers too.
 * Returns the record; NULL: it is not. */
void *weft__sigtimer_take(siginfo_t *info, struct weft__fiber **f);

/* Put what was taken into the table, for that fiber, unless the timer is deleted meanwhile: [TIMER-2]. Handlers too. */
void weft__sigtimer_queue(void *record, struct weft__fiber *f, const siginfo_t *info);

/* Child of fork: timers are not inherited. */
void weft__sigtimer_forked(void);

#endif
