/* SPDX-License-Identifier: MIT
 * What the files about thread control blocks share: what a block looks like (found by tls_find.c), and how it is made.
 *
 * Model:     a fiber is a real glibc thread control block. A TLS block is static TLS below, struct pthread (the TCB) above the thread
 *            pointer. ld.so builds it (_dl_allocate_tls on our memory, as NPTL does with its stacks); we fill in what start_thread and
 *            allocate_stack of glibc would. All private names are resolved at start and the result is tested; where that fails,
 *            fibers share their worker's TLS (-ENOSYS, rt.shared_tls).
 * Files:     tls.c makes blocks and is there when a thread begins and ends, tls_reset.c recycles them, tls_find.c finds out how libc has them.
 * Offsets:   tid from _thread_db_pthread_tid, the size from _thread_db_sizeof_pthread, the robust list head from
 *            get_robust_list(2), the rseq area from __rseq_offset; the head of the TCB (self pointers, stack and pointer
 *            guard, the reserved area after it) is ABI, shared with compilers and sanitizers.
 */
#ifndef WEFT_RUNTIME_TLS_H
#define WEFT_RUNTIME_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/fiber.h"

/* What the ABI fixes at the thread pointer. */
struct tcb_head {
	void *tcb;
	union dtv *dtv;
	void *self;
	int multiple_threads;
	int gscope_flag;
	uintptr_t sysinfo;
	uintptr_t stack_guard;
	uintptr_t pointer_guard;
	uint64_t other[9];
	/* offset 128: reserved since the ABI's first days, unused by glibc */
	uint64_t magic;
	struct weft__fiber *fiber;
	struct weft__vp *vp;
};
_Static_assert(offsetof(struct tcb_head, fiber) == WEFT__TCB_FIBER, "read by number");
_Static_assert(offsetof(struct tcb_head, vp) == WEFT__TCB_VP, "read by number");
_Static_assert(offsetof(struct tcb_head, stack_guard) == 0x28, "compilers read %fs:0x28");
_Static_assert(offsetof(struct tcb_head, magic) == 128, "the reserved area starts there");

union dtv {
	size_t counter;
	struct {
		void *val;
		void *to_free;
	} pointer;
};

/* Bits of libc's own cancelhandling. It makes a thread cancellable at once while it waits inside one of its cancellation points. */
#define LIBC_DISABLED 1
#define LIBC_ASYNC 2

#define DTV_UNALLOCATED ((void *)-1l)

/* A piece of static TLS, counted from the thread pointer downwards. */
struct piece {
	size_t offset, size;
};

struct weft__tls_layout {
	bool full;
	size_t size, align, tcb_size, tid_offset;
	ptrdiff_t robust_offset, rseq_offset;
	ptrdiff_t self_offset, errno_offset, resp_offset, cancel_offset, cleanup_offset;
	void *(*allocate)(void *);
	void *(*initialise)(void *, bool);
	void (*get_static)(size_t *, size_t *);
	void (*ctype_init)(void);
	void (*call_dtors)(void);
	char *(*dlerror)(void);
	struct piece kept[2];		/* libc's, and ours, which holds only the pointer to the fiber; the lower one first */
	unsigned nkept;
};
extern struct weft__tls_layout weft__tls __attribute__((visibility("hidden")));	/* written at the start only */

/* --- tls.c --- */
/* A block in zeroed memory, as the loader and NPTL would make it, for `f`. 0, -EAGAIN. */
int weft__tls_build(char *tcb, struct weft__fiber *f);
/* A block that was just built: what those of workers are copied from. False: it cannot be. */
bool weft__tls_keep_pristine(const char *tcb);

/* --- tls_reset.c --- */
void weft__tls_reset_forked(void);	/* child: somebody else may have been at it */

#endif
