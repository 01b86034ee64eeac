/* SPDX-License-Identifier: MIT
 * What must not be half done in another thread when the process forks: the child would have it like that for ever.
 *
 * Model:     our own locks are made anew in the child. Those of libraries that our threads call (hwloc, in the monitor: its mutex, and libc's
 *            lock of the atexit list) cannot be. So a thread of ours is inside the gate while it calls them, and a fork waits until nobody is, and
 *            keeps the gate closed until it is done.
 *            It waits for a second at most: who forks may hold the loader's lock (in a constructor), for which the one inside waits.
 * Context:   kernel threads that may wait: the monitor; fork's handlers, on the worker of the fiber that forks.
 */
#ifndef WEFT_UPCALL_FORKGATE_H
#define WEFT_UPCALL_FORKGATE_H

/* Wait until no fork is under way, and keep them waiting. One thread at a time. */
void weft__forkgate_enter(void);
void weft__forkgate_leave(void);

/* pthread_atfork's three. Several may be under way. */
void weft__forkgate_prepare(void);
void weft__forkgate_parent(void);
void weft__forkgate_child(void);

#endif
