/* SPDX-License-Identifier: MIT
 * Stacks, and the fiber structs on top of them.
 *
 * Model:     memory comes in slabs of equal slots, one anonymous mapping each. A slot is, upwards: guard, stack, static TLS,
 *            struct pthread (the TCB), struct weft__stack, struct weft__fiber. Slots of one class (size, guard) are
 *            interchangeable. A free slot is on its class's list, or, for the default class, in the pool of the VP that freed it.
 * Nodes:     the kernel takes a page's memory from the NUMA node where it is touched first: that of the VP that makes the slot. From then on
 *            VPs of that node come first: a VP of another, where its fiber ended, gives it to the class's list for the node.
 * Lifetime:  slabs are never unmapped: struct weft__fiber is type-stable (wait.h needs that). The pages of a free stack
 *            beyond the pool's limit are given back with MADV_DONTNEED.
 * Guards:    MADV_GUARD_INSTALL (Linux 6.13) costs no VMA; where it is missing mprotect does it, until 45 % of
 *            vm.max_map_count; beyond that stacks are refused (EAGAIN) with one message. Where they cost nothing there is one
 *            even if the program asks for none.
 * Memory:    it is overcommitted, so new stacks are made only while memory is left (upcall/memory.h):
 *            pthread_create fails instead of the process at some page fault.
 * Locking:   classes.lock for the table and the shared lists (rank POOL); the VP's pool by its owner.
 * Not for:   stacks that the program provides: those get a slot with the smallest stack for their TLS and fiber struct.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <resolv.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/runtime.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

size_t weft__tcb_span, weft__tcb_tid, weft__top_span;

#define PAGE 4096ul
#define MAX_CLASSES 64
#define POOL_KEEP 1024u		/* free fibers a VP keeps, pages and all */
#define HOT_KEEP 2048u		/* and the shared lists of all classes together */
#define COLOURS 16u
#define COLOUR 128u
#define HOT_TOP (16 * 1024ul)	/* what is kept of a stack whose pages are given back */
#define RESIDENT (16 * 1024ul)	/* what a thread is taken to need: a little more than a parked one has */
#define ADMIT_MAX 4096u
#define SLAB_BYTES (64ul << 20)	/* first slabs; virtual, not memory */
#define SLAB_MAX_SLOTS 4096u

struct weft__stack {
	void *slot;
	size_t slot_size, guard;
	struct weft__fiber *all;	/* the next of its class; constant */
	bool hot;			/* on a shared list, pages kept; guarded by pool.lock */
	struct __res_state resolver;	/* in place of struct pthread's, whose offset is private */
};

struct class {
	size_t slot_size, guard;
	struct weft__fiber *free[WEFT__NODES];	/* by fiber->next; where the memory is */
	struct weft__fiber *_Atomic all;	/* every slot ever handed out, by stack->all; push only */
	char *slab;			/* slots not handed out yet */
	unsigned left;
	unsigned made;			/* slots ever handed out */
};

static struct {
	struct weft__lock lock;
	unsigned n;
	struct class class[MAX_CLASSES];
	uint32_t next_id;
	uint32_t made;
	size_t default_size, default_guard;
	size_t signal_room;
	unsigned default_class;		/* index, or MAX_CLASSES while unknown */
	bool mprotect_guards;
	unsigned guards_left;		/* mprotect: how many the kernel still allows us */
	bool told;
	bool executable;		/* code may be run on stacks */
	unsigned hot;			/* on the shared lists with their pages */
	unsigned admitted;		/* stacks that there was memory for when it was last asked */
} pool;

/* Fibers by id, in chunks that are mapped when the first of them is made. */
#define CHUNK 8192u
#define JOIN_AHEAD 2u
static struct weft__fiber *_Atomic *_Atomic by_id[WEFT__TID_LIFE / CHUNK];

/* pool.lock held. Without memory for the chunk the fiber is only not found by its id. */
static void remember(struct weft__fiber *f)
{
	struct weft__fiber *_Atomic *chunk;

	chunk = atomic_load_explicit(&by_id[f->id / CHUNK], memory_order_relaxed);
	if (!chunk) {
		chunk = weft__stack_map(CHUNK * sizeof *chunk);
		/* [SLAB-2] release; pairs with acquire in weft__fiber_by_tid */
		atomic_store_explicit(&by_id[f->id / CHUNK], chunk, memory_order_release);
	}
	if (chunk)
		/* [SLAB-3] release; pairs with acquire in weft__fiber_by_tid */
		atomic_store_explicit(&chunk[f->id % CHUNK], f, memory_order_release);
}

/* Processes that share locks compare these numbers, so each begins elsewhere: those of neighbours in the table of processes are 65536 apart. */
static uint32_t tid_of(uint32_t id)
{
	return (id + ((uint32_t)weft__rt.pid << 16)) & (WEFT__TID_LIFE - 1);
}

struct weft__fiber *weft__fiber_by_tid(uint32_t tid)
{
	struct weft__fiber *_Atomic *chunk;
	uint32_t id = (tid - ((uint32_t)weft__rt.pid << 16)) & (WEFT__TID_LIFE - 1);
	struct weft__fiber *f;

	/* [SLAB-2] acquire; pairs with release in remember */
	chunk = atomic_load_explicit(&by_id[id / CHUNK], memory_order_acquire);
	/* [SLAB-3] acquire; pairs with release in remember */
	f = chunk ? atomic_load_explicit(&chunk[id % CHUNK], memory_order_acquire) : NULL;
	return f && *(volatile uint32_t *)&f->tid == tid ? f : NULL;
}

/* Threads are joined in the order in which they were made, as a rule. What the join of one of the next will touch has been touched by nobody
 * since it ended: of 100,000 threads a join takes 1.35 us, and 1.70 without this. */
void weft__fetch_for_join(const struct weft__fiber *joined)
{
	uint32_t id = (joined->id + JOIN_AHEAD) & (WEFT__TID_LIFE - 1);
	/* relaxed, both: only addresses to fetch from, and a fiber's memory is mapped for ever */
	struct weft__fiber *_Atomic *chunk = atomic_load_explicit(&by_id[id / CHUNK], memory_order_relaxed);
	const struct weft__fiber *f = chunk ? atomic_load_explicit(&chunk[id % CHUNK], memory_order_relaxed) : NULL;

	if (!f)
		return;
	__builtin_prefetch((const char *)f - weft__tcb_span);
	__builtin_prefetch(&f->next, 1);
	__builtin_prefetch((const void *)&f->join, 1);
	__builtin_prefetch(&f->stack);
	__builtin_prefetch((const char *)f - sizeof(struct weft__stack), 1);
}

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static unsigned map_count_limit(void)
{
	char text[32] = "";
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
	unsigned limit = 65530;

	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) > 0)
			limit = (unsigned)strtoul(text, NULL, 10);
		close(fd);
	}
	/* a guard splits a mapping: two areas each; and leave the program more than half */
	return (unsigned)((uint64_t)limit * 45 / 100 / 2);
}

static bool guard_install_works(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool works = p != MAP_FAILED && madvise(p, PAGE, MADV_GUARD_INSTALL) == 0;

	if (p != MAP_FAILED)
		munmap(p, PAGE);
	return works;
}

void weft__stack_config(bool mprotect_guards, size_t default_stack)
{
	struct rlimit rl;

	/* The frame of a preemption signal and what its handler calls, and once more for the program's own handlers. */
	pool.signal_room = round_up(2 * (getauxval(AT_MINSIGSTKSZ) + 1024), PAGE);
	if (default_stack == 0) {
		default_stack = 8ul << 20;
		if (getrlimit(RLIMIT_STACK, &rl) == 0 && rl.rlim_cur != RLIM_INFINITY)
			default_stack = rl.rlim_cur;
		if (default_stack < 16384)
			default_stack = 16384;
	}
	pool.default_size = default_stack;
	pool.default_guard = PAGE;
	pool.default_class = MAX_CLASSES;
	pool.mprotect_guards = mprotect_guards || !guard_install_works();
	pool.guards_left = map_count_limit();
}

size_t weft__stack_default(void)
{
	return pool.default_size;
}

struct __res_state *weft__stack_resolver(struct weft__fiber *f)
{
	return f->stack ? &f->stack->resolver : NULL;
}

uint32_t weft__fibers_max(void)
{
	return pool.made;
}

void *weft__stack_map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static bool make_executable(char *lo, size_t size)
{
	static atomic_bool told;

	if (!size || mprotect(lo, size, PROT_READ | PROT_WRITE | PROT_EXEC) == 0)
		return true;
	if (!atomic_exchange_explicit(&told, true, memory_order_relaxed))
		weft__warn("stacks cannot be made executable, as a module needs them: %s", strerror(errno));
	return false;
}

bool weft__stack_has(const struct weft__fiber *f, uintptr_t p)
{
	const struct weft__stack *s = f->stack;

	return s && p - ((uintptr_t)s->slot + s->guard) < s->slot_size - s->guard;
}

bool weft__stack_executable(const struct weft__fiber *f)
{
	const struct weft__stack *s = f->stack;

	return make_executable((char *)s->slot + s->guard, s->slot_size - s->guard);
}

bool weft__stacks_are_executable(void)
{
	return pool.executable;		/* a stale no costs some system calls */
}

void weft__stacks_executable(void)
{
	struct weft__fiber *self = weft__self();

	weft__preempt_disable(self);
	weft__lock(&pool.lock, WEFT__RANK_POOL);
	pool.executable = true;
	for (struct class *c = pool.class; c < pool.class + pool.n; c++) {
		char *lo = c->slab, *hi = c->slab + c->left * c->slot_size;

		/* Neighbours in one call: the newest come first, each below the one before. Guards that are pages of their own must stay what
		 * they are; the others do not mind. */
		for (struct weft__fiber *f = atomic_load_explicit(&c->all, memory_order_relaxed); f; f = f->stack->all) {
			char *slot = f->stack->slot, *from = slot + (pool.mprotect_guards ? c->guard : 0);

			if (slot + c->slot_size != lo || pool.mprotect_guards) {
				make_executable(lo, (size_t)(hi - lo));
				hi = slot + c->slot_size;
			}
			lo = from;
		}
		make_executable(lo, (size_t)(hi - lo));
	}
	weft__unlock(&pool.lock, WEFT__RANK_POOL);
	weft__preempt_enable(self);
}

static bool slab_new(struct class *c)
{
	/* Slabs grow with the class, so that few threads cost little address space and many few mappings. */
	unsigned slots = (unsigned)(SLAB_BYTES / c->slot_size);

	if (slots < 8)
		slots = 8;
	if (slots < c->made)
		slots = c->made;
	if (slots > SLAB_MAX_SLOTS)
		slots = SLAB_MAX_SLOTS;
	for (; slots > 0; slots /= 4) {
		char *p = weft__stack_map(slots * c->slot_size);

		if (p) {
			/* a huge page under the top of a stack would cost 2 MiB a fiber */
			madvise(p, slots * c->slot_size, MADV_NOHUGEPAGE);
			if (pool.executable)
				make_executable(p, slots * c->slot_size);
			c->slab = p;
			c->left = slots;
			return true;
		}
	}
	return false;
}

static bool guard_make(char *slot, size_t guard)
{
	if (guard == 0)
		return true;
	if (!pool.mprotect_guards)
		return madvise(slot, guard, MADV_GUARD_INSTALL) == 0;
	if (pool.guards_left == 0) {
		if (!pool.told)
			weft__warn("no more guard pages: vm.max_map_count would be exceeded; "
				   "raise it (sysctl vm.max_map_count) or use Linux 6.13 or later");
		pool.told = true;
		return false;
	}
	if (mprotect(slot, guard, PROT_NONE) != 0)
		return false;
	pool.guards_left--;
	return true;
}

/* pool.lock held */
static struct weft__fiber *carve(unsigned class)
{
	struct class *c = &pool.class[class];
	struct weft__stack *stack;
	struct weft__fiber *f;
	char *slot, *end, *tcb;
	size_t align, tls = weft__tls_size(&align);

	if (pool.next_id + 1 >= WEFT__TID_LIFE || (c->left == 0 && !slab_new(c)))
		return NULL;
	slot = c->slab;
	if (!guard_make(slot, c->guard))
		return NULL;
	c->slab += c->slot_size;
	c->left--;
	c->made++;
	pool.made++;
	/* tops at different offsets: equal ones would compete for the same cache sets */
	end = slot + c->slot_size - (pool.made & (COLOURS - 1)) * COLOUR;
	/* aligned as the block has to be, for the same distance everywhere */
	f = (struct weft__fiber *)((uintptr_t)(end - sizeof *f) & ~(uintptr_t)((align > 64 ? align : 64) - 1));
	stack = (struct weft__stack *)((uintptr_t)((char *)f - sizeof *stack) & ~(uintptr_t)15);
	tcb = (char *)((uintptr_t)((char *)stack - weft__tcb_size()) & ~(uintptr_t)(align - 1));
	stack->slot = slot;
	stack->slot_size = c->slot_size;
	stack->guard = c->guard;
	f->stack = stack;
	f->stack_class = class;
	stack->all = atomic_load_explicit(&c->all, memory_order_relaxed);
	f->tcb = tcb;
	weft__tcb_span = (size_t)((char *)f - tcb);
	f->id = ++pool.next_id;
	f->tid = tid_of(f->id);		/* of no life yet */
	remember(f);
	f->guard_size = c->guard;
	f->stack_lo = slot + c->guard;
	f->sigmask = ~0ull;
	/* [SLAB-1] release; pairs with acquire in weft__fibers_each */
	atomic_store_explicit(&c->all, f, memory_order_release);
	f->stack_size = (size_t)(tcb - (tls - weft__tcb_size()) - slot - c->guard) & ~(size_t)63;
	weft__top_span = (size_t)((char *)f - ((char *)f->stack_lo + f->stack_size));
	return f;
}

/* pool.lock held. The class of that geometry; a new one, or MAX_CLASSES if the table is full of others. */
static unsigned class_of(size_t slot_size, size_t guard)
{
	for (unsigned i = 0; i < pool.n; i++)
		if (pool.class[i].slot_size == slot_size && pool.class[i].guard == guard)
			return i;
	if (pool.n == MAX_CLASSES) {
		/* Use the smallest existing class that is large enough. */
		unsigned best = MAX_CLASSES;

		for (unsigned i = 0; i < pool.n; i++)
			if (pool.class[i].slot_size >= slot_size && pool.class[i].guard >= guard &&
			    (best == MAX_CLASSES || pool.class[i].slot_size < pool.class[best].slot_size))
				best = i;
		return best;
	}
	pool.class[pool.n] = (struct class){ .slot_size = slot_size, .guard = guard };
	return pool.n++;
}

/* How many stacks may be made before it is asked again; 0: no memory for one. System calls. */
static unsigned admit(void)
{
	static atomic_bool told;
	uint64_t n = weft__hook_memory_spare() / RESIDENT;

	if (n == 0 && !atomic_exchange_explicit(&told, true, memory_order_relaxed))
		weft__warn("no more threads: memory is nearly used up");
	/* only a part of it: others take memory, too, and threads grow */
	n = (n + 3) / 4;
	return n < ADMIT_MAX ? (unsigned)n : ADMIT_MAX;
}

/* One that is not empty, of the node itself if there is one; NULL: they all are. */
static struct weft__fiber **free_list(struct class *c, unsigned node)
{
	for (unsigned i = 0; i < WEFT__NODES; i++)
		if (c->free[(node + i) % WEFT__NODES])
			return &c->free[(node + i) % WEFT__NODES];
	return NULL;
}

/* For a VP of that node. pool.lock held, and let go of in between where memory has to be asked for. */
static struct weft__fiber *take(unsigned class, unsigned node)
{
	struct class *c = &pool.class[class];
	struct weft__fiber *f, **list;

	/* a free stack has what is kept at its top (HOT_TOP): it needs no more than it has */
	while (!(list = free_list(c, node)) && pool.admitted == 0) {
		unsigned n;

		weft__unlock(&pool.lock, WEFT__RANK_POOL);
		n = admit();
		weft__lock(&pool.lock, WEFT__RANK_POOL);
		if (n == 0)
			return NULL;
		pool.admitted = n;
	}
	if (list) {
		f = *list;
		*list = f->next;
		pool.hot -= f->stack->hot;
	} else {
		f = carve(class);
		if (f)
			f->memory_node = (uint8_t)node;
		pool.admitted--;
	}
	return f;
}

struct weft__fiber *weft__fiber_alloc(size_t size, size_t guard, bool user_stack)
{
	struct weft__fiber *self = weft__self(), *f = NULL;
	struct weft__vp *vp;
	size_t align, slot;
	unsigned class;

	weft__preempt_disable(self);
	vp = weft__vp_of(self);
	if (size == 0 && guard == SIZE_MAX && !user_stack && vp && vp->pool) {
		f = vp->pool;
		vp->pool = f->next;
		vp->pool_len--;
		weft__fetch_for_spawn(f->next);		/* the next spawn's */
		weft__preempt_enable(self);
		return f;
	}
	weft__lock(&pool.lock, WEFT__RANK_POOL);
	if (size == 0 && guard == SIZE_MAX && !user_stack && pool.default_class < MAX_CLASSES) {
		class = pool.default_class;
	} else {
		bool is_default = size == 0 && guard == SIZE_MAX && !user_stack;

		if (size == 0)
			size = pool.default_size;
		if (guard == SIZE_MAX)
			guard = pool.default_guard;
		/* Nobody counts on having no guard: below a stack there is the struct of another fiber. */
		if (guard == 0 && !pool.mprotect_guards)
			guard = pool.default_guard;
		if (user_stack)
			size = guard = 0;
		else
			size += pool.signal_room;
		slot = weft__tls_size(&align) + align + sizeof(struct weft__fiber) +
		       sizeof(struct weft__stack) + 256 + COLOURS * COLOUR;
		if (size > SIZE_MAX / 4 || guard > SIZE_MAX / 4) {
			class = MAX_CLASSES;
		} else {
			guard = round_up(guard, PAGE);
			class = class_of(round_up(size + slot + guard, PAGE), guard);
		}
		if (is_default)
			pool.default_class = class;
	}
	if (class < MAX_CLASSES)
		f = take(class, vp ? vp->node : 0);
	weft__unlock(&pool.lock, WEFT__RANK_POOL);
	weft__preempt_enable(self);
	return f;
}

void weft__fibers_each(bool (*see)(struct weft__fiber *, void *), void *arg)
{
	for (unsigned i = 0; i < pool.n; i++) {
		/* [SLAB-1] acquire; pairs with release in carve */
		struct weft__fiber *f = atomic_load_explicit(&pool.class[i].all, memory_order_acquire);

		for (; f; f = f->stack->all)
			if (see(f, arg))
				return;
	}
}

static void give_back(struct weft__fiber *f)
{
	char *lo = f->stack->slot + f->stack->guard;
	char *hi = (char *)((uintptr_t)f->stack->slot + f->stack->slot_size - HOT_TOP);

	if (hi > lo)
		madvise(lo, (size_t)(hi - lo), MADV_DONTNEED);
}

static void free_shared(struct weft__fiber *f)
{
	bool keep;

	weft__lock(&pool.lock, WEFT__RANK_POOL);
	keep = pool.hot < HOT_KEEP;
	pool.hot += keep;
	weft__unlock(&pool.lock, WEFT__RANK_POOL);
	f->stack->hot = keep;
	if (!keep)
		give_back(f);		/* a system call: not under the lock */
	weft__lock(&pool.lock, WEFT__RANK_POOL);
	f->next = pool.class[f->stack_class].free[f->memory_node];
	pool.class[f->stack_class].free[f->memory_node] = f;
	weft__unlock(&pool.lock, WEFT__RANK_POOL);
}

/* Preemption disabled; nobody runs on it and nobody will look at it. */
void weft__fiber_free(struct weft__fiber *f)
{
	struct weft__worker *w = weft__tls_self->worker;
	struct weft__vp *vp = w ? atomic_load_explicit(&w->vp, memory_order_relaxed) : NULL;

	if (vp && f->stack_class == pool.default_class && f->memory_node == vp->node && vp->pool_len < POOL_KEEP) {
		f->next = vp->pool;
		vp->pool = f;
		vp->pool_len++;
		return;
	}
	free_shared(f);
}

void weft__pool_drain(struct weft__vp *vp)
{
	struct weft__fiber *f;

	while ((f = vp->pool)) {
		vp->pool = f->next;
		free_shared(f);
	}
	vp->pool_len = 0;
}

/* The other fibers are gone; their slots are lost to the child (address space only, the pages are
 * copy-on-write and given back by nobody touching them). The lists may have been in motion: start anew. */
void weft__stacks_forked(void)
{
	atomic_store_explicit(&pool.lock.word, 0, memory_order_relaxed);
	for (unsigned i = 0; i < pool.n; i++) {
		memset(pool.class[i].free, 0, sizeof pool.class[i].free);
		pool.class[i].slab = NULL;
		pool.class[i].left = 0;
		pool.class[i].made = 0;
		atomic_store_explicit(&pool.class[i].all, NULL, memory_order_relaxed);
	}
	memset(by_id, 0, sizeof by_id);
	pool.made = 0;
	pool.hot = 0;
}
