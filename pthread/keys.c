/* SPDX-License-Identifier: MIT
 * pthread_key_*: thread-specific data, per fiber.
 *
 * Why not glibc's: fibers that borrow their worker's thread control block need keys of their own
 *            too.
 * Model:     a key is an index; its sequence number is odd while it exists. A value carries the
 *            sequence number of the key that it was stored for, so that deleting a key needs to
 *            visit nobody's values. A fiber's table hangs on fiber->slot and is made at the first
 *            store; 32 keys in the first block, the others in blocks of 32.
 * Memory:    blocks come from a pool of our own, not from malloc: allocators call
 *            pthread_setspecific from inside malloc.
 * Foreign threads: a real glibc key with a destructor stands for all of ours.
 * Locking:   `pool.lock` (rank POOL) guards the pool, nothing else; tables are their owner's;
 *            key_seq is atomic.
 */
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "pthread/once.h"
#include "pthread/pshared.h"
#include "pthread/sync.h"
#include "pthread/waitlist.h"

WEFT__REAL(pthread_key_create);
WEFT__REAL(pthread_setspecific);

enum { PER_BLOCK = 32, BLOCKS = PTHREAD_KEYS_MAX / PER_BLOCK };
_Static_assert(PTHREAD_KEYS_MAX % PER_BLOCK == 0, "whole blocks");

struct value {
	uintptr_t seq;			/* of the key; 0 = nothing stored */
	void *data;
};

struct block {
	struct value v[PER_BLOCK];
};

struct table {
	struct block first;
	struct block *more[BLOCKS];	/* [0] unused */
};

struct key {
	_Atomic uintptr_t seq;		/* odd: exists. Written by create and delete */
	void (*_Atomic destructor)(void *);
};

static struct key keys[PTHREAD_KEYS_MAX];
static _Atomic uint32_t hint;		/* where create looks first */

/* --- memory --- */

union chunk {
	union chunk *next;
	struct table table;
	struct block block;
};

static struct {
	struct weft__lock lock;
	union chunk *free;
} pool;

enum { POOL_GROW = 64 * 1024 };

static void *chunk_get(struct weft__fiber *self)
{
	union chunk *c;

	weft__preempt_disable(self);
	weft__lock(&pool.lock, WEFT__RANK_POOL);
	if (!pool.free) {
		/* by the kernel's number: the libc function may be the program's, or one of our
		 * wrappers */
		long at = weft__arch_syscall(__NR_mmap, 0, POOL_GROW, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (size_t i = 0; at > 0 && i < POOL_GROW / sizeof(*c); i++) {
			c = (union chunk *)at + i;
			c->next = pool.free;
			pool.free = c;
		}
	}
	c = pool.free;
	if (c)
		pool.free = c->next;
	weft__unlock(&pool.lock, WEFT__RANK_POOL);
	weft__preempt_enable(self);
	if (c)
		memset(c, 0, sizeof(*c));
	return c;
}

static void chunk_put(struct weft__fiber *self, void *p)
{
	union chunk *c = p;

	weft__preempt_disable(self);
	weft__lock(&pool.lock, WEFT__RANK_POOL);
	c->next = pool.free;
	pool.free = c;
	weft__unlock(&pool.lock, WEFT__RANK_POOL);
	weft__preempt_enable(self);
}

/* --- the end of a thread --- */

static pthread_key_t foreign_key;
static int foreign_once;
static int foreign_err;

static void foreign_end(void *arg)
{
	weft__keys_exit(arg);
}

static void foreign_init(void)
{
	foreign_err = weft__real(pthread_key_create)(&foreign_key, foreign_end);
}

void weft__keys_watch(struct weft__fiber *self)
{
	if (self->kind != WEFT__FOREIGN)
		return;
	weft__once(&foreign_once, foreign_init);
	if (!foreign_err)
		weft__real(pthread_setspecific)(foreign_key, self);
}

static struct table *table_make(struct weft__fiber *self)
{
	struct table *t = chunk_get(self);

	if (!t)
		return NULL;
	self->slot[WEFT__SLOT_KEYS] = t;
	weft__set_uses(self, WEFT__USES_SLOTS);
	weft__keys_watch(self);
	return t;
}

/* One round of destructors. True: some ran, and may have stored new values. */
static bool run_destructors(struct table *t)
{
	bool any = false;

	for (unsigned b = 0; b < BLOCKS; b++) {
		struct block *block = b ? t->more[b] : &t->first;

		for (unsigned i = 0; block && i < PER_BLOCK; i++) {
			struct value *v = &block->v[i];
			struct key *k = &keys[b * PER_BLOCK + i];
			void *data = v->data;
			void (*fn)(void *);

			if (!data)
				continue;
			v->data = NULL;
			/* relaxed, both: who stored the value got the key from its creator, and
			 * that ordered them */
			if (atomic_load_explicit(&k->seq, memory_order_relaxed) != v->seq)
				continue;
			fn = atomic_load_explicit(&k->destructor, memory_order_relaxed);
			if (fn) {
				fn(data);
				any = true;
			}
		}
	}
	return any;
}

void weft__keys_exit(struct weft__fiber *self)
{
	struct table *t;

	if (!weft__uses(self, WEFT__USES_SLOTS))
		return;		/* no keys, and no robust mutexes */
	t = self->slot[WEFT__SLOT_KEYS];
	if (t) {
		for (int round = 0; round < PTHREAD_DESTRUCTOR_ITERATIONS; round++)
			if (!run_destructors(t))
				break;
		self->slot[WEFT__SLOT_KEYS] = NULL;
		for (unsigned b = 1; b < BLOCKS; b++)
			if (t->more[b])
				chunk_put(self, t->more[b]);
		chunk_put(self, t);
	}
	weft__robust_exit(self);
}

void weft__keys_forked(void)
{
	pool.lock = (struct weft__lock)WEFT__LOCK_INIT;
	weft__waitlist_forked();
	weft__pshared_forked();
}

/* --- the interface --- */

WEFT__EXPORT int pthread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
	/* relaxed: only where the search begins */
	unsigned start = atomic_load_explicit(&hint, memory_order_relaxed);

	for (unsigned n = 0; n < PTHREAD_KEYS_MAX; n++) {
		unsigned i = (start + n) % PTHREAD_KEYS_MAX;
		struct key *k = &keys[i];
		uintptr_t seq = atomic_load_explicit(&k->seq, memory_order_relaxed);

		/* Even: free. That the destructor comes a little after the number harms nobody:
		 * values that carry the new number do not exist before we return. */
		if (seq & 1)
			continue;
		/* relaxed: the program hands the key on to its users, in order */
		if (!atomic_compare_exchange_strong_explicit(&k->seq, &seq, seq + 1,
				memory_order_relaxed, memory_order_relaxed))
			continue;
		atomic_store_explicit(&k->destructor, destructor, memory_order_relaxed);
		atomic_store_explicit(&hint, i + 1, memory_order_relaxed);
		*key = i;
		return 0;
	}
	return EAGAIN;
}

WEFT__EXPORT int pthread_key_delete(pthread_key_t key)
{
	uintptr_t seq;

	if (key >= PTHREAD_KEYS_MAX)
		return EINVAL;
	/* relaxed: the number alone decides which values count */
	seq = atomic_load_explicit(&keys[key].seq, memory_order_relaxed);
	if (!(seq & 1) ||
	    !atomic_compare_exchange_strong_explicit(&keys[key].seq, &seq, seq + 1,
						     memory_order_relaxed, memory_order_relaxed))
		return EINVAL;
	if (key < atomic_load_explicit(&hint, memory_order_relaxed))
		atomic_store_explicit(&hint, key, memory_order_relaxed);
	return 0;
}

WEFT__EXPORT void *pthread_getspecific(pthread_key_t key)
{
	struct table *t = weft__self()->slot[WEFT__SLOT_KEYS];
	struct value *v;

	if (!t)
		return NULL;
	if (weft__likely(key < PER_BLOCK)) {
		v = &t->first.v[key];
	} else {
		struct block *b;

		if (key >= PTHREAD_KEYS_MAX)
			return NULL;
		b = t->more[key / PER_BLOCK];
		if (!b)
			return NULL;
		v = &b->v[key % PER_BLOCK];
	}
	if (!v->data)
		return NULL;
	/* relaxed: the caller got the key from somewhere, which ordered its creation */
	if (weft__unlikely(v->seq != atomic_load_explicit(&keys[key].seq, memory_order_relaxed))) {
		v->data = NULL;
		return NULL;
	}
	return v->data;
}

WEFT__EXPORT int pthread_setspecific(pthread_key_t key, const void *data)
{
	struct weft__fiber *self = weft__self();
	struct table *t = self->slot[WEFT__SLOT_KEYS];
	struct value *v;
	uintptr_t seq;

	if (key >= PTHREAD_KEYS_MAX)
		return EINVAL;
	/* relaxed: as in pthread_getspecific */
	seq = atomic_load_explicit(&keys[key].seq, memory_order_relaxed);
	if (!(seq & 1))
		return EINVAL;
	if (!t) {
		if (!data)
			return 0;
		t = table_make(self);
		if (!t)
			return ENOMEM;
	}
	if (weft__likely(key < PER_BLOCK)) {
		v = &t->first.v[key];
	} else {
		struct block **b = &t->more[key / PER_BLOCK];

		if (!*b) {
			if (!data)
				return 0;
			*b = chunk_get(self);
			if (!*b)
				return ENOMEM;
		}
		v = &(*b)->v[key % PER_BLOCK];
	}
	v->seq = seq;
	v->data = (void *)data;
	return 0;
}

/* Old names that glibc still exports. */
WEFT__ALIAS(__pthread_key_create, pthread_key_create);
WEFT__ALIAS(__pthread_getspecific, pthread_getspecific);
WEFT__ALIAS(__pthread_setspecific, pthread_setspecific);
