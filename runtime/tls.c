/* SPDX-License-Identifier: MIT
 * Thread control blocks: this file makes them, for fibers and for workers, and does what libc would at the begin and the end of a thread. See tls.h.
 *
 * tid:       a constant number of the fiber's own, not the carrying worker's. libc compares it to tell owners of its
 *            recursive locks (dlopen's, held while constructors run): with the worker's tid a fiber that migrates could
 *            not unlock, and the next fiber on the old worker would walk in.
 * Context:   making one calls malloc: in thread context, preemption enabled or not, no lock held.
 */
#include "runtime/tls.h"

#include <errno.h>
#include <linux/rseq.h>
#include <locale.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/modules.h"
#include "runtime/runtime.h"

#define MAGIC 0x7765667466696265ull	/* "weftfibe" */

struct weft__tls_layout weft__tls = { .size = 4096, .align = 64, .tcb_size = 1024 };

/* A block as it is before its thread runs: static TLS, and the dtv. Workers are copies of it, because a worker must be made without
 * taking any lock of libc's: malloc's, or the loader's, may be held by a preempted fiber that waits for just this worker. */
#define WORKER_DTV 4096u		/* so long that the loader never enlarges it, which would need malloc */
static struct {
	char *tcb;			/* below it the static TLS; of the control block only the list node is used */
	union dtv *dtv;			/* from dtv[-1] on */
	size_t n;			/* dtv[-1].counter */
	const char *made_at;		/* what the dtv's entries point below */
} pristine;

size_t weft__tls_size(size_t *align)
{
	*align = weft__tls.align;
	return weft__tls.size;
}

size_t weft__tcb_size(void)
{
	return weft__tls.tcb_size;
}

void weft__tls_mark(void *tcb, struct weft__fiber *f)
{
	struct tcb_head *h = tcb;

	h->magic = MAGIC;
	h->fiber = f;
	h->vp = NULL;
}

struct weft__fiber *weft__fiber_of(const void *handle)
{
	const struct tcb_head *h = handle;

	return h && h->magic == MAGIC ? h->fiber : NULL;
}

static void fill_head(char *tcb, struct weft__fiber *f)
{
	const struct tcb_head *mine = weft__arch_tls();
	struct tcb_head *h = (struct tcb_head *)tcb;

	h->tcb = tcb;
	h->self = tcb;
	h->multiple_threads = 1;
	h->sysinfo = mine->sysinfo;
	h->stack_guard = mine->stack_guard;
	h->pointer_guard = mine->pointer_guard;
	weft__tls_mark(tcb, f);
	*(int *)(tcb + weft__tls.tid_offset) = (int)f->tid;
	if (weft__tls.robust_offset) {
		/* struct robust_list_head, and before it NPTL's robust_prev */
		void **head = (void **)(tcb + weft__tls.robust_offset);
		void **mine_head = (void **)((char *)mine + weft__tls.robust_offset);

		head[0] = head;
		head[1] = mine_head[1];		/* offset of the lock word: the same for all */
		head[2] = NULL;
		head[-1] = head;
	}
	if (weft__tls.rseq_offset) {
		/* the registration belongs to kernel threads; sched_getcpu then asks the kernel */
		struct rseq *rs = (struct rseq *)(tcb + weft__tls.rseq_offset);

		rs->cpu_id_start = 0;
		rs->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;
		rs->rseq_cs = 0;
	}
	*(struct weft__fiber **)(tcb + weft__tls.self_offset) = f;
	if (weft__tls.resp_offset) {
		struct __res_state *res = weft__stack_resolver(f);

		if (res)
			*(struct __res_state **)(tcb + weft__tls.resp_offset) = res;
	}
}

int weft__tls_build(char *tcb, struct weft__fiber *f)
{
	if (!weft__tls.allocate(tcb))
		return -EAGAIN;
	fill_head(tcb, f);
	f->ctx.tls = tcb;
	return 0;
}

int weft__tls_make(void *tcb, struct weft__fiber *f)
{
	if (!weft__tls.full) {
		weft__tls_mark(tcb, f);
		f->ctx.tls = NULL;
		return 0;
	}
	weft__modules_add(tcb);
	return weft__tls_build(tcb, f);
}

void **weft__tls_libc_cleanup(void)
{
	return weft__tls.full && weft__tls.cleanup_offset ? (void **)((char *)weft__arch_tls() + weft__tls.cleanup_offset) : NULL;
}

static int *cancel_word(void)
{
	return (int *)((char *)weft__arch_tls() + weft__tls.cancel_offset);
}

bool weft__tls_libc_point(void)
{
	return weft__tls.full && weft__tls.cancel_offset && (*cancel_word() & (LIBC_DISABLED | LIBC_ASYNC)) == LIBC_ASYNC;
}

void weft__tls_libc_point_left(void)
{
	if (weft__tls.full && weft__tls.cancel_offset)
		*cancel_word() &= ~(LIBC_DISABLED | LIBC_ASYNC);
}

void weft__tls_start(void)
{
	if (weft__tls.full)
		weft__tls.ctype_init();
}

void weft__tls_dtors(void)
{
	if (weft__tls.full)
		weft__tls.call_dtors();
}

void weft__tls_exit(void)
{
	if (!weft__tls.full)
		return;
	if (uselocale((locale_t)0) != LC_GLOBAL_LOCALE)
		uselocale(LC_GLOBAL_LOCALE);
	weft__tls.dlerror();
}

static void unregister_rseq(char *tp)
{
	struct rseq *rs = (struct rseq *)(tp + weft__tls.rseq_offset);

	if (!weft__tls.full || !weft__tls.rseq_offset)
		return;
	/* glibc registers 32 bytes, later ones what AT_RSEQ_FEATURE_SIZE rounds up to: try both */
	if (syscall(SYS_rseq, rs, 32, RSEQ_FLAG_UNREGISTER, 0x53053053) != 0)
		syscall(SYS_rseq, rs, sizeof *rs, RSEQ_FLAG_UNREGISTER, 0x53053053);
	rs->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;
}

void weft__tls_unregister_rseq(void)
{
	unregister_rseq(weft__arch_tls());
}

void weft__tls_forked(void *worker_tls)
{
	char *mine = weft__arch_tls();

	if (!weft__tls.full)
		return;
	weft__tls_reset_forked();
	/* glibc counts the worker's stack, this block included, as free in the child */
	if (worker_tls && worker_tls != mine)
		unregister_rseq(worker_tls);
	if (weft__tls.robust_offset)
		syscall(SYS_set_robust_list, mine + weft__tls.robust_offset, 3 * sizeof(void *));
}

bool weft__tls_keep_pristine(const char *tcb)
{
	const union dtv *dtv = ((const struct tcb_head *)tcb)->dtv;
	size_t bytes = weft__tls.size - weft__tls.tcb_size;
	char *mem;

	pristine.n = dtv[-1].counter;
	if (pristine.n > WORKER_DTV)
		return false;
	mem = weft__stack_map(weft__tls.size);
	pristine.dtv = weft__stack_map((pristine.n + 2) * sizeof *dtv);
	if (!mem || !pristine.dtv)
		return false;
	memcpy(mem, tcb - bytes, bytes);
	memcpy(pristine.dtv, &dtv[-1], (pristine.n + 2) * sizeof *dtv);
	pristine.made_at = tcb;
	pristine.tcb = mem + bytes;
	weft__modules_add(pristine.tcb);	/* modules that come later, for workers made later */
	return true;
}

size_t weft__tls_worker_size(void)
{
	return weft__tls.size + weft__tls.align + (WORKER_DTV + 2) * sizeof(union dtv);
}

void *weft__tls_make_worker(void *mem, struct weft__fiber *sched)
{
	size_t bytes = weft__tls.size - weft__tls.tcb_size;
	union dtv *dtv = mem;
	char *tcb = (char *)(((uintptr_t)(dtv + WORKER_DTV + 2) + bytes + weft__tls.align - 1) &
			     ~(uintptr_t)(weft__tls.align - 1));

	memcpy(tcb - bytes, pristine.tcb - bytes, bytes);
	memcpy(dtv, pristine.dtv, (pristine.n + 2) * sizeof *dtv);
	for (size_t i = 2; i < pristine.n + 2; i++) {
		const char *val = dtv[i].pointer.val;

		dtv[i].pointer.to_free = NULL;
		if (val >= pristine.made_at - bytes && val < pristine.made_at)
			dtv[i].pointer.val = tcb + (val - pristine.made_at);
		else
			dtv[i].pointer.val = DTV_UNALLOCATED;
	}
	dtv[0].counter = WORKER_DTV;
	((struct tcb_head *)tcb)->dtv = dtv + 1;
	fill_head(tcb, sched);
	sched->tcb = tcb;
	sched->ctx.tls = tcb;
	return tcb;
}

void weft__tls_worker_start(void)
{
	if (!weft__tls.full)
		return;
	/* A module that comes at this very moment is missed. Only a fiber that borrows this block could tell, and those live in programs
	 * whose dlopen goes past us in any case (libweft.so). */
	weft__modules_add(weft__arch_tls());
	/* what pthread_create does for a thread of its own; programs may ask for it (get_robust_list) */
	if (weft__tls.robust_offset)
		syscall(SYS_set_robust_list, (char *)weft__arch_tls() + weft__tls.robust_offset, 3 * sizeof(void *));
	weft__tls.ctype_init();
}
