/* SPDX-License-Identifier: MIT
 * Descriptors of the runtime's own, which the program must not close.
 *
 * Context: any thread; async-signal-safe.
 */
#ifndef WEFT_UPCALL_FDS_H
#define WEFT_UPCALL_FDS_H

#include <stdbool.h>
#include <stdint.h>

/* Move `fd` to a high number, close-on-exec, out of the program's way, and refuse the program's
 * closing of it from now on. Returns the new number (the old one if there is no room above). Any
 * thread. */
int weft__fd_protect(int fd);
/* [LOW] Around what makes a descriptor, until it is protected, or closed again: see fds.c. May nest. Waits for some milliseconds at most, seldom. */
void weft__fd_low_begin(void);
void weft__fd_low_end(void);
/* [LOW] Around a call by which the program gets a descriptor, or a process that has what we have. Waits seldom, and for a tenth of a
 * second at most. May be left by longjmp. */
uint32_t weft__fd_take_begin(void);
void weft__fd_take_end(uint32_t begun);		/* what the beginning returned */
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
