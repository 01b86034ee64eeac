/* SPDX-License-Identifier: MIT
 * weft/weft.h: fibers. The native API of weft, an N:M threading runtime.
 *
 * Unmodified pthread programs do not need it (weft(1)). It is for programs that want
 * fibers by name, thread-local storage shared with the worker (cheaper), or channels.
 *
 * Errors:    functions return 0 or a negative errno value unless they say otherwise.
 * Context:   "fiber" = may be called from a fiber (main is one after weft_init);
 *            "foreign" = from any other kernel thread. Nothing here but weft_self() may be
 *            called from a signal handler.
 */
#ifndef WEFT_WEFT_H
#define WEFT_WEFT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1

typedef struct weft_fiber weft_fiber;

enum weft_tls {
	WEFT_TLS_FULL,		/* own errno, thread_local, malloc cache, pthread_self(): runs any code */
	WEFT_TLS_SHARED,	/* borrows the worker's: cheaper; the fiber is not preempted by
				 * signal and must not keep thread-local addresses across a wait */
};

struct weft_attr {
	size_t stack_size;	/* bytes; 0 = default (weft/config.h). Rounded up to pages */
	void *stack_addr;	/* lowest byte of a stack that the caller owns, stack_size bytes (at
				 * least 16384), or NULL */
	enum weft_tls tls;
	int prio;		/* 0 .. 99, for policies with priorities */
	int detached;		/* nonzero: nobody will join it */
	const char *name;	/* at most 15 bytes are kept; NULL = none */
};
#define WEFT_ATTR_INIT { 0, 0, WEFT_TLS_FULL, 0, 0, 0 }

/* Start the runtime with the settings of the environment (weft/config.h). The calling thread
 * becomes the main fiber. Idempotent. Context: the process's main thread, or any one thread.
 * -EINVAL: a setting is wrong (a message is on standard error); -EAGAIN: no kernel thread or
 * memory; -ENOSYS: this machine cannot run weft. */
int weft_init(void);

/* Stop the runtime: waits until every other fiber has ended, then parks the workers.
 * Context: the main fiber. Returns 0 or -EBUSY when called by another fiber. */
int weft_fini(void);

/* Create a fiber that runs fn(arg). `attr` may be NULL. `out` may be NULL for a detached one.
 * -EAGAIN: no memory, or a limit; -EINVAL: attr is wrong. Does not block. Context: fiber, foreign. */
int weft_spawn(weft_fiber **out, const struct weft_attr *attr, void *(*fn)(void *), void *arg);

/* Wait for the end of `f`, take its result and free it. -EDEADLK: f is the caller;
 * -EINVAL: detached, or somebody else joins it. Blocks. Context: fiber, foreign. */
int weft_join(weft_fiber *f, void **result);

/* Free `f` by itself when it ends. -EINVAL: already detached. */
int weft_detach(weft_fiber *f);

/* End the calling fiber. Frames are not unwound. Context: fiber. */
_Noreturn void weft_exit(void *result);

/* Let another runnable fiber of this VP run. Context: fiber (elsewhere: sched_yield(2)). */
void weft_yield(void);

/* Sleep at least `ns` nanoseconds (CLOCK_MONOTONIC). Context: fiber, foreign. */
void weft_sleep(uint64_t ns);

/* The calling fiber; in a foreign thread, an object that stands for it. */
weft_fiber *weft_self(void);

/* A small number that names the fiber in messages; unique among the living. */
uint32_t weft_id(const weft_fiber *f);

/* Set or read (into 16 bytes) the name. */
void weft_set_name(weft_fiber *f, const char *name);
void weft_get_name(const weft_fiber *f, char name[16]);

/* VPs in use. */
unsigned weft_vps(void);

#ifdef __cplusplus
}
#endif
#endif
