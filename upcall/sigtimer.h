/* SPDX-License-Identifier: MIT
 * Timers that signal one thread (SIGEV_THREAD_ID).
 *
 * Model:     to the kernel a fiber's id is nobody's. So such a timer is made to signal the process, with the address of a record in place
 *            of the program's value: who receives SI_TIMER with an address of ours puts the value back and passes it to the fiber.
 * Lifetime:  records are never unmapped and made anew only when there is no other, so that a signal still on its way after timer_delete
 *            finds one; it is then dropped, as Linux does since 6.13.
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
void weft__sigtimer_drop(void *record);

/* Is it from such a timer? Then the program's value is put back, and *f is whom it is for; NULL: nobody any more. Handlers too. */
bool weft__sigtimer_take(siginfo_t *info, struct weft__fiber **f);

/* Child of fork: timers are not inherited. */
void weft__sigtimer_forked(void);

#endif
