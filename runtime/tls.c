/* SPDX-License-Identifier: MIT
 * A fiber is a real glibc thread control block: this file makes, recycles and retires them.
 *
 * Model:     a TLS block is static TLS below, struct pthread (the TCB) above the thread pointer. ld.so builds it
 *            (_dl_allocate_tls on our memory, as NPTL does with its stacks); we fill in what start_thread and allocate_stack
 *            of glibc would. All private names are resolved at start and the result is tested; where that fails, fibers
 *            share their worker's TLS (-ENOSYS, rt.shared_tls).
 * Offsets:   tid from _thread_db_pthread_tid, the size from _thread_db_sizeof_pthread, the robust list head from
 *            get_robust_list(2), the rseq area from __rseq_offset; the head of the TCB (self pointers, stack and pointer
 *            guard, the reserved area after it) is ABI, shared with compilers and sanitizers.
 * tid:       a constant number of the fiber's own, not the carrying worker's. libc compares it to tell owners of its
 *            recursive locks (dlopen's, held while constructors run): with the worker's tid a fiber that migrates could
 *            not unlock, and the next fiber on the old worker would walk in.
 * Recycling: libc's own segment is kept (malloc's cache, arena, resolver), its visible state reset; every other
 *            module's segment is initialised anew, lazily allocated ones are freed. The new contents come from a block that is kept fresh
 *            (`fresh`), anew after every dlopen and dlclose; while one is under way, from the loader itself (see modules.h).
 * Context:   make and reset call malloc and free: in thread context, preemption enabled or not, no lock held.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <linux/rseq.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/modules.h"
#include "runtime/runtime.h"

#define MAGIC 0x7765667466696265ull	/* "weftfibe" */

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

static struct {
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
} tls = { .size = 4096, .align = 64, .tcb_size = 1024 };

/* A block as it is before its thread runs: static TLS, and the dtv. Workers are copies of it, because a worker must be made without
 * taking any lock of libc's: malloc's, or the loader's, may be held by a preempted fiber that waits for just this worker. */
#define WORKER_DTV 4096u		/* so long that the loader never enlarges it, which would need malloc */
static struct {
	char *tcb;			/* below it the static TLS; of the control block only the list node is used */
	union dtv *dtv;			/* from dtv[-1] on */
	size_t n;			/* dtv[-1].counter */
	const char *made_at;		/* what the dtv's entries point below */
} pristine;

static __thread volatile int probe __attribute__((tls_model("initial-exec"))) = 0x77656674;

size_t weft__tls_size(size_t *align)
{
	*align = tls.align;
	return tls.size;
}

size_t weft__tcb_size(void)
{
	return tls.tcb_size;
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

static int see_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	char *tp = arg, *block = info->dlpi_tls_data;

	(void)size;
	if (info->dlpi_tls_modid == 0 || block == NULL || block >= tp ||
	    block < tp - (tls.size - tls.tcb_size))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const size_t n = info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type != PT_TLS ||
		    !((tp + tls.errno_offset >= block && tp + tls.errno_offset < block + n) ||
		      (tp + tls.self_offset >= block && tp + tls.self_offset < block + n)))
			continue;
		if (tls.nkept == 2)
			return 1;
		tls.kept[tls.nkept++] = (struct piece){ (size_t)(tp - block), n };
	}
	return 0;
}

/* Where the two modules are whose TLS is not reset. They are never unloaded. */
static bool see_modules(void)
{
	tls.nkept = 0;
	if (dl_iterate_phdr(see_module, weft__arch_tls()) != 0 || tls.nkept == 0)
		return false;
	if (tls.nkept == 2 && tls.kept[0].offset < tls.kept[1].offset) {
		struct piece p = tls.kept[0];

		tls.kept[0] = tls.kept[1];
		tls.kept[1] = p;
	}
	return true;
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
	*(int *)(tcb + tls.tid_offset) = (int)f->tid;
	if (tls.robust_offset) {
		/* struct robust_list_head, and before it NPTL's robust_prev */
		void **head = (void **)(tcb + tls.robust_offset);
		void **mine_head = (void **)((char *)mine + tls.robust_offset);

		head[0] = head;
		head[1] = mine_head[1];		/* offset of the lock word: the same for all */
		head[2] = NULL;
		head[-1] = head;
	}
	if (tls.rseq_offset) {
		/* the registration belongs to kernel threads; sched_getcpu then asks the kernel */
		struct rseq *rs = (struct rseq *)(tcb + tls.rseq_offset);

		rs->cpu_id_start = 0;
		rs->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;
		rs->rseq_cs = 0;
	}
	*(struct weft__fiber **)(tcb + tls.self_offset) = f;
	if (tls.resp_offset) {
		struct __res_state *res = weft__stack_resolver(f);

		if (res)
			*(struct __res_state **)(tcb + tls.resp_offset) = res;
	}
}

static int make(char *tcb, struct weft__fiber *f)
{
	if (!tls.allocate(tcb))
		return -EAGAIN;
	fill_head(tcb, f);
	f->ctx.tls = tcb;
	return 0;
}

int weft__tls_make(void *tcb, struct weft__fiber *f)
{
	if (!tls.full) {
		weft__tls_mark(tcb, f);
		f->ctx.tls = NULL;
		return 0;
	}
	weft__modules_add(tcb);
	return make(tcb, f);
}

/* --- resetting a pooled one --- */

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
	tls.initialise(tcb, true);
}

static void initialise_but_kept(char *tcb)
{
	char keep[tls.kept[0].size + (tls.nkept == 2 ? tls.kept[1].size : 0)], *p = keep;

	for (unsigned i = 0; i < tls.nkept; p += tls.kept[i++].size)
		memcpy(p, tcb - tls.kept[i].offset, tls.kept[i].size);
	initialise(tcb);
	p = keep;
	for (unsigned i = 0; i < tls.nkept; p += tls.kept[i++].size)
		memcpy(tcb - tls.kept[i].offset, p, tls.kept[i].size);
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
	size_t bytes = (tls.size + tls.align + 4095) & ~(size_t)4095, from = 0;
	union dtv *dtv;
	char *mem;

	/* [FRESH-1] acquire; pairs with release below: who had it before us */
	if (atomic_exchange_explicit(&fresh.busy, 1, memory_order_acquire))
		return false;
	if (!fresh.tcb) {
		mem = weft__stack_map(bytes);
		if (mem)
			fresh.tcb = (char *)((uintptr_t)(mem + bytes - tls.tcb_size) & ~(uintptr_t)(tls.align - 1));
		if (mem && !tls.allocate(fresh.tcb)) {
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
			if (val && val < fresh.tcb && val >= fresh.tcb - (tls.size - tls.tcb_size) &&
			    (size_t)(fresh.tcb - val) > from)
				from = (size_t)(fresh.tcb - val);
		}
		fresh.n = 0;
		for (unsigned i = 0; i < tls.nkept; i++) {
			add_piece(from, tls.kept[i].offset);
			from = tls.kept[i].offset - tls.kept[i].size;
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

	if (!tls.full)
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
	*(int *)(tcb + tls.errno_offset) = 0;
	*(int *)(tcb + tls.tid_offset) = (int)f->tid;
	f->ctx.tls = tcb;
	return 0;
}

void **weft__tls_libc_cleanup(void)
{
	return tls.full && tls.cleanup_offset ? (void **)((char *)weft__arch_tls() + tls.cleanup_offset) : NULL;
}

static int *cancel_word(void)
{
	return (int *)((char *)weft__arch_tls() + tls.cancel_offset);
}

bool weft__tls_libc_point(void)
{
	return tls.full && tls.cancel_offset && (*cancel_word() & (LIBC_DISABLED | LIBC_ASYNC)) == LIBC_ASYNC;
}

void weft__tls_libc_point_left(void)
{
	if (tls.full && tls.cancel_offset)
		*cancel_word() &= ~(LIBC_DISABLED | LIBC_ASYNC);
}

void weft__tls_start(void)
{
	if (tls.full)
		tls.ctype_init();
}

void weft__tls_dtors(void)
{
	if (tls.full)
		tls.call_dtors();
}

void weft__tls_exit(void)
{
	if (!tls.full)
		return;
	if (uselocale((locale_t)0) != LC_GLOBAL_LOCALE)
		uselocale(LC_GLOBAL_LOCALE);
	tls.dlerror();
}

static void unregister_rseq(char *tp)
{
	struct rseq *rs = (struct rseq *)(tp + tls.rseq_offset);

	if (!tls.full || !tls.rseq_offset)
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

	if (!tls.full)
		return;
	/* another fiber may have been at it */
	if (atomic_load_explicit(&fresh.busy, memory_order_relaxed))
		fresh.tcb = NULL;
	atomic_store_explicit(&fresh.busy, 0, memory_order_relaxed);
	atomic_store_explicit(&fresh.generation, UINT64_MAX, memory_order_relaxed);
	/* glibc counts the worker's stack, this block included, as free in the child */
	if (worker_tls && worker_tls != mine)
		unregister_rseq(worker_tls);
	if (tls.robust_offset)
		syscall(SYS_set_robust_list, mine + tls.robust_offset, 3 * sizeof(void *));
}

static bool keep_pristine(const char *tcb)
{
	const union dtv *dtv = ((const struct tcb_head *)tcb)->dtv;
	size_t bytes = tls.size - tls.tcb_size;
	char *mem;

	pristine.n = dtv[-1].counter;
	if (pristine.n > WORKER_DTV)
		return false;
	mem = weft__stack_map(tls.size);
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
	return tls.size + tls.align + (WORKER_DTV + 2) * sizeof(union dtv);
}

void *weft__tls_make_worker(void *mem, struct weft__fiber *sched)
{
	size_t bytes = tls.size - tls.tcb_size;
	union dtv *dtv = mem;
	char *tcb = (char *)(((uintptr_t)(dtv + WORKER_DTV + 2) + bytes + tls.align - 1) &
			     ~(uintptr_t)(tls.align - 1));

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
	if (!tls.full)
		return;
	/* A module that comes at this very moment is missed. Only a fiber that borrows this block could tell, and those live in programs
	 * whose dlopen goes past us in any case (libweft.so). */
	weft__modules_add(weft__arch_tls());
	/* what pthread_create does for a thread of its own; programs may ask for it (get_robust_list) */
	if (tls.robust_offset)
		syscall(SYS_set_robust_list, (char *)weft__arch_tls() + tls.robust_offset, 3 * sizeof(void *));
	tls.ctype_init();
}

/* Does a block that we make work as a thread's? Nothing in here may use TLS but on purpose. */
static __attribute__((noinline)) bool try_block(char *tcb)
{
	uint64_t all = ~0ull, old;
	void *mine = weft__arch_tls(), *self;
	int *(*volatile location)(void) = __errno_location;	/* declared const: not to be hoisted */
	int value, *err;
	uintptr_t guard, my_guard = ((struct tcb_head *)mine)->stack_guard;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	weft__arch_set_tls(tcb);
	self = weft__arch_tls();
	value = probe;
	err = location();
	guard = ((struct tcb_head *)self)->stack_guard;
	weft__arch_set_tls(mine);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	return self == tcb && value == 0x77656674 && (char *)err == tcb + tls.errno_offset &&
	       guard == my_guard;
}

static bool self_test(void)
{
	static struct weft__fiber fake;
	void (*deallocate)(void *, bool) = dlsym(RTLD_DEFAULT, "_dl_deallocate_tls");
	size_t bytes = (tls.size + tls.align + 4095) & ~(size_t)4095;
	char *mem = weft__stack_map(bytes), *tcb;
	bool works = false;

	if (!mem)
		return false;
	tcb = (char *)((uintptr_t)(mem + bytes - tls.tcb_size) & ~(uintptr_t)(tls.align - 1));
	fake.tid = WEFT__TID_LIFE;
	/* the main thread's block must look as we believe: its tid is where we would write */
	if (*(pid_t *)((char *)weft__arch_tls() + tls.tid_offset) == (pid_t)weft__gettid() &&
	    make(tcb, &fake) == 0) {
		works = keep_pristine(tcb) && try_block(tcb) && weft__tls_reset(tcb, &fake) == 0 && try_block(tcb);
		if (deallocate)
			deallocate(tcb, false);
	}
	munmap(mem, bytes);
	return works;
}

/* Where in the TCB libc keeps whether it may be cancelled: proved by changing it. 0: not as we know it. */
static ptrdiff_t find_cancel_word(void)
{
	const uint32_t *field = dlsym(RTLD_DEFAULT, "_thread_db_pthread_cancelhandling");
	int (*set_type)(int, int *) = dlsym(RTLD_NEXT, "pthread_setcanceltype");
	const int *word;
	int type, before, during;

	if (!field || !set_type || field[0] != 32 || field[2] + sizeof *word > tls.tcb_size)
		return 0;
	word = (const int *)((char *)weft__arch_tls() + field[2]);
	before = *(const volatile int *)word;
	if (before & ~LIBC_DISABLED || set_type(PTHREAD_CANCEL_ASYNCHRONOUS, &type) != 0)
		return 0;
	during = *(const volatile int *)word;
	set_type(type, NULL);
	return during == (before | LIBC_ASYNC) ? (ptrdiff_t)field[2] : 0;
}

/* Where in the TCB libc keeps the list of its own cleanup handlers: where the newest one's address turns up. 0: nowhere. */
static ptrdiff_t find_cleanup_word(void)
{
	void (*push)(void *, void (*)(void *), void *) = dlsym(RTLD_NEXT, "_pthread_cleanup_push");
	void (*pop)(void *, int) = dlsym(RTLD_NEXT, "_pthread_cleanup_pop");
	void *const volatile *word = weft__arch_tls();
	void *buffer[4];
	ptrdiff_t found = 0;
	unsigned n = 0;

	if (!push || !pop)
		return 0;
	push(buffer, NULL, NULL);
	for (size_t i = 0; i < tls.tcb_size / sizeof *word; i++)
		if (word[i] == buffer) {
			found = (ptrdiff_t)(i * sizeof *word);
			n++;
		}
	pop(buffer, 0);
	return n == 1 ? found : 0;
}

static bool resolve(void)
{
	const uint32_t *size = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
	const uint32_t *tid = dlsym(RTLD_DEFAULT, "_thread_db_pthread_tid");	/* bits, count, offset */
	const uint32_t *list = dlsym(RTLD_DEFAULT, "_thread_db_pthread_list");
	const ptrdiff_t *rseq = dlsym(RTLD_DEFAULT, "__rseq_offset");
	char *tp = weft__arch_tls();
	char *resp = dlsym(RTLD_DEFAULT, "__resp");
	void *robust = NULL;
	size_t len = 0, list_offset;

	tls.allocate = dlsym(RTLD_DEFAULT, "_dl_allocate_tls");
	tls.initialise = dlsym(RTLD_DEFAULT, "_dl_allocate_tls_init");
	tls.get_static = dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info");
	tls.ctype_init = dlsym(RTLD_DEFAULT, "__ctype_init");
	tls.call_dtors = dlsym(RTLD_DEFAULT, "__call_tls_dtors");
	tls.dlerror = dlsym(RTLD_DEFAULT, "dlerror");
	if (!size || !tid || !tls.allocate || !tls.initialise || !tls.get_static || !tls.ctype_init ||
	    !tls.call_dtors || !tls.dlerror || tid[0] != 32)
		return false;
	tls.get_static(&tls.size, &tls.align);
	if (tls.align < 64)
		tls.align = 64;
	tls.tcb_size = *size;
	tls.tid_offset = weft__tcb_tid = tid[2];
	list_offset = list && list[2] + 2 * sizeof(void *) <= *size ? list[2] : 0;
	if (tls.tcb_size < sizeof(struct tcb_head) || tls.size < tls.tcb_size ||
	    tls.tid_offset >= tls.tcb_size)
		return false;
	tls.errno_offset = (char *)__errno_location() - tp;
	tls.self_offset = (char *)&weft__tls_self - tp;
	tls.resp_offset = resp ? resp - tp : 0;
	tls.cancel_offset = find_cancel_word();
	tls.cleanup_offset = find_cleanup_word();
	tls.rseq_offset = rseq && *rseq > 0 && *rseq < (ptrdiff_t)tls.tcb_size ? *rseq : 0;
	if (syscall(SYS_get_robust_list, 0, &robust, &len) == 0 && robust &&
	    (char *)robust > tp && (char *)robust + len <= tp + tls.tcb_size)
		tls.robust_offset = (char *)robust - tp;
	/* main's block stays on glibc's list; without the list modules with static TLS must be there from the start */
	weft__modules_init(list_offset, weft__rt.main ? weft__rt.main->tcb : tp);
	return true;
}

int weft__tls_init(bool force_shared)
{
	if (force_shared)
		return -ENOSYS;
	if (tls.full)
		return 0;		/* again, in the child of a fork */
	if (resolve()) {
		tls.full = true;
		if (see_modules() && self_test())
			return 0;
	}
	tls.full = false;
	tls.size = 4096;
	tls.align = 64;
	tls.tcb_size = 1024;
	return -ENOSYS;
}
