/* SPDX-License-Identifier: MIT
 * Recycling thread control blocks. libc's own segment is kept (malloc's cache, arena, resolver), its visible state reset; every other
 * module's segment is initialised anew, lazily allocated ones are freed. The new contents come from a block that is kept fresh
 * (`fresh`), anew after every dlopen and dlclose; while one is under way, from the loader itself (see modules.h).
 * Context: calls malloc and free: in thread context, preemption enabled or not, no lock held.
 */
#include "runtime/tls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/modules.h"
#include "runtime/runtime.h"

/* A block that nobody runs on, for its contents, and what of it a pooled one gets: all static TLS in use but what is kept. */
static struct {
	char *tcb;
	struct piece piece[3];
	unsigned n;
	size_t dtv_generation;		/* the loader's, as it was then */
	bool dynamic;			/* there were modules whose TLS is not in the block, or may have been (after a dlopen: always) */
	_Atomic uint64_t generation;	/* of modules.h that it is from */
	_Atomic uint32_t busy;		/* somebody makes it */
} fresh = { .generation = UINT64_MAX };

/* What its last owner had of modules whose TLS is not in the block. Is there anything? The loader brings the generation in dtv[0] up to date before a
 * thread gets the first such piece of a module that was loaded since. So where it is that of `fresh`, and then there was no such module, there is
 * nothing, and the table need not be gone through: a page and four cache lines. */
static bool has_dynamic(const char *tcb)
{
	return fresh.dynamic || ((const struct tcb_head *)tcb)->dtv[0].counter != fresh.dtv_generation;
}

static void forget_dynamic(char *tcb)
{
	union dtv *dtv = ((struct tcb_head *)tcb)->dtv;

	for (size_t i = 1; i <= dtv[-1].counter; i++)
		if (weft__unlikely(dtv[i].pointer.to_free != NULL)) {
			free(dtv[i].pointer.to_free);
			dtv[i].pointer.to_free = NULL;
			dtv[i].pointer.val = DTV_UNALLOCATED;
		}
}

/* The loader's own initialisation, which waits for a dlopen that is at it: always right, ten times as slow. */
static void initialise(char *tcb)
{
	union dtv *dtv = ((struct tcb_head *)tcb)->dtv;

	/* the entries of modules that are gone would stay */
	for (size_t i = 1; i <= dtv[-1].counter; i++)
		dtv[i].pointer.val = DTV_UNALLOCATED;
	weft__tls.initialise(tcb, true);
}

static void initialise_but_kept(char *tcb)
{
	char keep[weft__tls.kept[0].size + (weft__tls.nkept == 2 ? weft__tls.kept[1].size : 0)], *p = keep;

	for (unsigned i = 0; i < weft__tls.nkept; p += weft__tls.kept[i++].size)
		memcpy(p, tcb - weft__tls.kept[i].offset, weft__tls.kept[i].size);
	initialise(tcb);
	p = keep;
	for (unsigned i = 0; i < weft__tls.nkept; p += weft__tls.kept[i++].size)
		memcpy(tcb - weft__tls.kept[i].offset, p, weft__tls.kept[i].size);
}

/* What is above `from` and below `to`, both counted downwards from the thread pointer. */
static void add_piece(size_t from, size_t to)
{
	if (from > to)
		fresh.piece[fresh.n++] = (struct piece){ from, from - to };
}

/* Make `fresh` as of `generation`. False: it could not be. */
static bool refresh(uint64_t generation)
{
	size_t bytes = (weft__tls.size + weft__tls.align + 4095) & ~(size_t)4095, from = 0;
	union dtv *dtv;
	char *mem;

	/* [FRESH-1] acquire; pairs with release below: who had it before us */
	if (atomic_exchange_explicit(&fresh.busy, 1, memory_order_acquire))
		return false;
	if (!fresh.tcb) {
		mem = weft__stack_map(bytes);
		if (mem)
			fresh.tcb = (char *)((uintptr_t)(mem + bytes - weft__tls.tcb_size) & ~(uintptr_t)(weft__tls.align - 1));
		if (mem && !weft__tls.allocate(fresh.tcb)) {
			munmap(mem, bytes);
			fresh.tcb = NULL;
		}
	} else {
		initialise(fresh.tcb);
	}
	if (fresh.tcb) {
		dtv = ((struct tcb_head *)fresh.tcb)->dtv;
		fresh.dtv_generation = dtv[0].counter;
		fresh.dynamic = false;
		for (size_t i = 1; i <= dtv[-1].counter; i++) {
			const char *val = dtv[i].pointer.val;

			if (val == DTV_UNALLOCATED)
				fresh.dynamic = true;
			if (val && val < fresh.tcb && val >= fresh.tcb - (weft__tls.size - weft__tls.tcb_size) &&
			    (size_t)(fresh.tcb - val) > from)
				from = (size_t)(fresh.tcb - val);
		}
		fresh.n = 0;
		for (unsigned i = 0; i < weft__tls.nkept; i++) {
			add_piece(from, weft__tls.kept[i].offset);
			from = weft__tls.kept[i].offset - weft__tls.kept[i].size;
		}
		add_piece(from, 0);
		/* [FRESH-2] release; pairs with acquire in weft__tls_reset: the contents */
		atomic_store_explicit(&fresh.generation, generation, memory_order_release);
	}
	/* [FRESH-1] release; pairs with acquire above */
	atomic_store_explicit(&fresh.busy, 0, memory_order_release);
	return fresh.tcb != NULL;
}

int weft__tls_reset(void *tcb_, struct weft__fiber *f)
{
	char *tcb = tcb_;

	if (!weft__tls.full)
		return 0;
	for (;;) {
		uint64_t generation = weft__modules_generation();	/* P1 in modules.c */

		/* [FRESH-2] acquire; pairs with release in refresh */
		if (weft__likely(atomic_load_explicit(&fresh.generation, memory_order_acquire) == generation)) {
			if (weft__unlikely(has_dynamic(tcb)))
				forget_dynamic(tcb);
			for (unsigned i = 0; i < fresh.n; i++)
				memcpy(tcb - fresh.piece[i].offset, fresh.tcb - fresh.piece[i].offset,
				       fresh.piece[i].size);		/* P2 */
			weft__fence_light();				/* P3 */
			if (weft__likely(weft__modules_generation() == generation))	/* P4 */
				break;
		} else if ((generation & 1) || !refresh(generation)) {
			forget_dynamic(tcb);
			initialise_but_kept(tcb);
			break;
		}
	}
	*(int *)(tcb + weft__tls.errno_offset) = 0;
	*(int *)(tcb + weft__tls.tid_offset) = (int)f->tid;
	f->ctx.tls = tcb;
	return 0;
}

void weft__tls_reset_forked(void)
{
	if (atomic_load_explicit(&fresh.busy, memory_order_relaxed))
		fresh.tcb = NULL;
	atomic_store_explicit(&fresh.busy, 0, memory_order_relaxed);
	atomic_store_explicit(&fresh.generation, UINT64_MAX, memory_order_relaxed);
}
