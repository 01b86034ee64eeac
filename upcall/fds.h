/* SPDX-License-Identifier: MIT
 * Descriptors of the runtime's own, which the program must not close.
 *
 * Context: any thread; async-signal-safe.
 */
#ifndef WEFT_UPCALL_FDS_H
#define WEFT_UPCALL_FDS_H

#include <stdbool.h>

/* Move `fd` to a high number, close-on-exec, out of the program's way, and refuse the program's
 * closing of it from now on. Returns the new number (the old one if there is no room above). Any
 * thread. */
int weft__fd_protect(int fd);
/* [LOW] Around what makes a descriptor, until it is protected, or closed again: see fds.c. May nest. Waits for a millisecond at most. */
void weft__fd_low_begin(void);
void weft__fd_low_end(void);
/* Around the program's dup2 and dup3. Waits for some milliseconds at most. */
void weft__fd_dup_begin(void);
void weft__fd_dup_end(void);
/* Child of fork. */
void weft__fd_low_forked(void);
bool weft__fd_protected(int fd);
/* The lowest protected descriptor that is >= fd, or -1: for close_range. */
int weft__fd_next_protected(int fd);
/* The owner has found that the program closed it all the same: the number is the program's
 * again. */
void weft__fd_lost(int fd);
/* Close a protected descriptor. fd < 0: nothing. */
void weft__fd_release(int fd);

#endif
