/* SPDX-License-Identifier: MIT
 * What the files of the shim share.
 *
 * Model:     libweft-pthread.so defines the names of pthread.h, semaphore.h, threads.h and of the system calls that
 *            may wait, ahead of libc. Each wrapper works in every caller: a fiber, the main thread before the first
 *            pthread_create, a foreign thread, the child of fork.
 * Rule:      the libc function behind a wrapper is reached by weft__real(NAME), which resolves it once
 *            (dlsym RTLD_NEXT) before main.
 */
#ifndef WEFT_PTHREAD_SHIM_H
#define WEFT_PTHREAD_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/fiber.h"
#include "runtime/futex.h"
#include "runtime/wait.h"

#define WEFT__EXPORT __attribute__((visibility("default")))

/* enum of fiber->slot */
enum weft__slot {
	WEFT__SLOT_KEYS,		/* keys.c */
	WEFT__SLOT_CLEANUP,		/* cleanup.c */
	WEFT__SLOT_ROBUST,		/* robust.c: mutexes held */
	WEFT__SLOT_PSHARED = 7,		/* pshared.c: how many robust ones are held */
	WEFT__SLOT_UNWIND = 5,		/* cleanup.c: pthread_exit is under way */
};

/* The next definition of a symbol after ours: dlsym(RTLD_NEXT). Dies with a message if there is none. */
void *weft__next_symbol(const char *name);

/* Declares a lazily resolved pointer to libc's NAME. Usage: `WEFT__REAL(read);` at file scope, then weft__real(read)(fd, …).
 * The race of two first callers is harmless: both store the same value. */
#define WEFT__REAL(name) static __typeof__(&name) real_##name
#define weft__real(name) ({ \
	if (weft__unlikely(real_##name == NULL)) \
		real_##name = (__typeof__(&name))weft__next_symbol(#name); \
	real_##name; })

/* keys.c: run the destructors of the calling thread's keys (up to PTHREAD_DESTRUCTOR_ITERATIONS rounds) and free its table. */
void weft__keys_exit(struct weft__fiber *self);
/* Child of fork: values of the caller stay, tables of others are gone. */
void weft__keys_forked(void);

#endif
