/* SPDX-License-Identifier: MIT
 * Marks around system calls that may stall their worker.
 *
 * Model:     a wrapper brackets the real call:
 *                struct weft__fiber *self = weft__block_enter();
 *                r = real call;
 *                weft__block_exit(self);          (keeps errno)
 *            Between the two the monitor may hand the VP to another worker. weft__block_exit notices that and takes
 *            an idle VP, or queues the fiber and parks the worker; it may thus resume on another one.
 * Cost:      two plain stores and a load when nothing happened.
 * Context:   any thread; nothing happens outside of fibers. Preemption enabled.
 */
#ifndef WEFT_UPCALL_BLOCK_H
#define WEFT_UPCALL_BLOCK_H

struct weft__fiber;

struct weft__fiber *weft__block_enter(void);
void weft__block_exit(struct weft__fiber *self);

/* The call is known to stall (an O_DIRECT read, flock that was refused once): hand the VP on at once. Use instead of weft__block_enter. */
struct weft__fiber *weft__block_enter_long(void);

#endif
