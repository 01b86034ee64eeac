/* SPDX-License-Identifier: MIT
 * How much memory is left for more threads.
 *
 * Model:     what the machine has available (MemAvailable and free swap), and below the limits of our
 *            memory cgroup and its ancestors what is not used, page cache counted as unused; the
 *            least of them, less a reserve for all else that the program does.
 * Why:       memory is overcommitted: without asking, a program that leaks parked threads is killed
 *            at some page fault. NPTL never comes that far, it ends at the kernel's limits of threads.
 * Limits:    a process that is moved to another cgroup later is not followed.
 */
#ifndef WEFT_UPCALL_MEMORY_H
#define WEFT_UPCALL_MEMORY_H

#include <stdint.h>

/* Learn which cgroups limit us. `root` stands before every path: "" is the real system. About 11 KB
 * of stack; errno kept. */
void weft__memory_find(const char *root);

/* Bytes that more threads may take now, UINT64_MAX if nothing is known. A few system calls, 6 KB
 * of stack, no lock; errno kept. */
uint64_t weft__memory_spare(const char *root);

#endif
