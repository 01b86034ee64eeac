/* SPDX-License-Identifier: MIT
 * weft/sync.h: mutex, condition variable, semaphore, channel for fibers.
 *
 * Waiting parks the fiber, never its VP. Foreign threads may use every object too; they wait in
 * the kernel. None of this may be called from a signal handler but weft_sem_post().
 * Objects are zero-initialised by their INIT macros and need no destroy call, channels excepted.
 */
#ifndef WEFT_SYNC_H
#define WEFT_SYNC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct { uint32_t word; } weft_mutex;		/* not recursive */
typedef struct { uint32_t seq; uint32_t waiters; } weft_cond;
typedef struct { uint32_t value; uint32_t waiters; } weft_sem;
typedef struct weft_chan weft_chan;

#define WEFT_MUTEX_INIT { 0 }
#define WEFT_COND_INIT { 0, 0 }
#define WEFT_SEM_INIT(n) { (n), 0 }
#define WEFT_FOREVER UINT64_MAX

/* To be released by the fiber that took it. */
void weft_mutex_lock(weft_mutex *m);
int weft_mutex_trylock(weft_mutex *m);			/* 0 or -EBUSY */
void weft_mutex_unlock(weft_mutex *m);

/* Release `m`, wait, take `m` again. Spurious wake-ups are possible.
 * `timeout_ns` is relative, CLOCK_MONOTONIC; WEFT_FOREVER = none. 0 or -ETIMEDOUT. */
int weft_cond_wait(weft_cond *c, weft_mutex *m, uint64_t timeout_ns);
void weft_cond_signal(weft_cond *c);
void weft_cond_broadcast(weft_cond *c);

int weft_sem_wait(weft_sem *s, uint64_t timeout_ns);	/* 0 or -ETIMEDOUT */
int weft_sem_trywait(weft_sem *s);			/* 0 or -EAGAIN */
int weft_sem_post(weft_sem *s);				/* 0 or -EOVERFLOW; async-signal-safe */

/* A channel of `cap` messages of `size` bytes, copied. cap 0: sender and receiver meet.
 * NULL with errno set when there is no memory or size is 0. */
weft_chan *weft_chan_new(size_t size, size_t cap);
/* Nobody may be using it. Who got -EPIPE may free it, if no other fiber has business with it: the
 * closer is done by then. */
void weft_chan_free(weft_chan *c);
int weft_chan_send(weft_chan *c, const void *msg, uint64_t timeout_ns);	/* 0, -ETIMEDOUT, -EPIPE when closed */
int weft_chan_recv(weft_chan *c, void *msg, uint64_t timeout_ns);	/* 0, -ETIMEDOUT, -EPIPE when closed and empty */
void weft_chan_close(weft_chan *c);			/* wakes everybody; messages inside can still be received */

#ifdef __cplusplus
}
#endif
#endif
