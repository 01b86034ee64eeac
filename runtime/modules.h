/* SPDX-License-Identifier: MIT
 * Modules that the loader brings and takes away while fibers live (dlopen, dlclose).
 *
 * Model:     glibc keeps a list of its threads. When a module with static TLS (initial-exec) comes, dlopen writes its initial image
 *            into the block of every thread on the list, before the module's constructors run; and before it frees what a symbol
 *            lookup may still be reading, it waits for every thread on the list that is in one. Our blocks are not on that list, since
 *            other things are done with it (setxid, fork, debuggers). So they hang on a chain of our own, by the same node, and for the time
 *            of a dlopen or dlclose the chain as a whole is spliced into glibc's list, behind the main thread's node: three stores,
 *            however many fibers there are.
 * Chain:     every block ever made: its memory is never unmapped, and a pooled block gets the images like any other.
 * Generation: counts the times that the modules may have changed; odd while they may be changing. What was learnt about them is valid
 *            for the generation it was learnt in (tls_reset.c resets pooled blocks from a copy).
 * Locking:   `lock` (rank POOL) for the chain and the generation's writers. glibc reads the chain under a lock of its own, with one of
 *            ours never held: stores are in an order that a reader survives, see the code.
 * Not covered: modules that libc loads by itself (name services, iconv) come past us. Their zero-initialised static TLS works, since fresh
 *            blocks are zero; initialised static TLS in such a module is not there in fibers that lived before.
 */
#ifndef WEFT_RUNTIME_MODULES_H
#define WEFT_RUNTIME_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Around the loader's work; by the same thread, they nest. Thread context, no lock held. */
void weft__modules_begin(void);
void weft__modules_end(void);
/* It is under way and nobody will tell when it is over: always correct, but every pooled block is reset the slow way from now on. */
void weft__modules_begin_for_good(void);

/* --- for tls.c, tls_find.c and tls_reset.c --- */
/* Where the list node is in a thread control block, and the block of a thread on glibc's list. False: the list is not as we believe. */
bool weft__modules_init(size_t node_offset, char *listed_tcb);
/* A block that is about to be initialised by the loader. Zeroed or made before; any thread, no lock of the loader's or malloc's taken. */
void weft__modules_add(char *tcb);
uint64_t weft__modules_generation(void);
/* Child of fork: the caller's block is the only one, and on glibc's list. */
void weft__modules_forked(char *tcb);

#endif
