/* SPDX-License-Identifier: MIT
 * Process-shared mutexes: glibc's protocol, word for word, since the other process may not run under weft.
 *
 * Why not glibc's functions: they write the caller's thread id into the mutex, and the kernel must know that thread: it marks the robust
 *            mutexes of a dying one, other processes take them for alive as long as it is. A fiber's id is no kernel thread's, and
 *            may be that of another process's fiber.
 * Owner:     the process, by the id of its first kernel thread, which lives as long as the process does. Which of its fibers it is stands in
 *            __nusers, which glibc only counts up and down and of which it only asks whether it is 0.
 * Robust:    in the list of the first kernel thread, which the kernel walks when the process dies however it does; if a fiber
 *            ends, weft__pshared_exit does what the kernel would. The list is guarded by `list.lock`; list_op_pending covers
 *            death in the middle. It is one of ours: that in main's thread control block is libc's, which changes it without our lock while
 *            main waits at a condition variable.
 * Waiting:   in the kernel, the VP handed on.
 * Inherit:   pthread_mutex_init (robust.c) makes a shared mutex without it, which other processes see too. One that another process made
 *            with it is refused: the kernel would want the same kernel thread for lock and unlock.
 * Others:    foreign threads, and the process before its runtime starts, use glibc's functions: they are what glibc believes.
 * Ordering:  [PSM-1] taking the word is acquire, giving it back is release.
 */
#include "pthread/pshared.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

WEFT__REAL(pthread_mutex_lock);
WEFT__REAL(pthread_mutex_trylock);
WEFT__REAL(pthread_mutex_clocklock);
WEFT__REAL(pthread_mutex_unlock);
WEFT__REAL(pthread_mutex_consistent);

#define TID_MASK ((uint32_t)FUTEX_TID_MASK)
#define WAITERS ((uint32_t)FUTEX_WAITERS)
#define OWNER_DIED ((uint32_t)FUTEX_OWNER_DIED)

/* Values of the owner word of a robust mutex, glibc's. */
#define INCONSISTENT ((uint32_t)INT_MAX)
#define NOTRECOVERABLE ((uint32_t)INT_MAX - 1)

/* The lock word of one that is not robust: a ceiling above, FREE, HELD, CONTENDED below. */
#define CEILING 0xfff80000u
#define CEILING_SHIFT 19
enum { FREE, HELD, CONTENDED };

static struct {
	struct weft__lock lock;
	void **head;			/* struct robust_list_head of the first kernel thread */
	uint32_t pid;			/* whose, and of what process; 0 = not asked yet */
	ptrdiff_t offset;		/* of a head from its thread control block */
} list;

/* Ours. An entry's pointer to the one before it is ahead of it, and so is a head's. */
static struct {
	void *prev, *head[3];		/* struct robust_list_head */
} own;

/* On the first thread, before main: where glibc has the list in a thread control block. */
__attribute__((constructor)) static void find_list(void)
{
	void *head = NULL;
	size_t len;

	if (weft__arch_syscall(SYS_get_robust_list, 0, (long)&head, (long)&len, 0, 0, 0) == 0 && head)
		list.offset = (char *)head - (char *)weft__arch_tls();
}

uint32_t weft__pshared_pid(void)
{
	/* relaxed, both: all who come first find the same */
	uint32_t pid = __atomic_load_n(&list.pid, __ATOMIC_RELAXED);
	void *head = NULL;
	size_t len;

	if (weft__likely(pid))
		return pid;
	pid = (uint32_t)getpid();
	weft__arch_syscall(SYS_get_robust_list, (long)pid, (long)&head, (long)&len, 0, 0, 0);
	__atomic_store_n(&list.head, head, __ATOMIC_RELAXED);
	__atomic_store_n(&list.pid, pid, __ATOMIC_RELAXED);
	return pid;
}

void weft__pshared_forked(void)
{
	list.lock = (struct weft__lock)WEFT__LOCK_INIT;
	list.head = NULL;
	list.pid = 0;
}

/* An entry is the address of the pointer to the next; the one to the previous is before it. Bit 0 says "priority inheritance". */
static inline void **clean(void *entry)
{
	return (void **)((uintptr_t)entry & ~(uintptr_t)1);
}

/* The calling kernel thread's list, from now on, and what is in its old one. The kernel may walk it at any moment. */
static void adopt(void **from, void **to)
{
	void **e;

	to[0] = from[0] == from ? to : from[0];
	to[1] = (void *)((intptr_t)offsetof(struct weft__mutex, lock) - (intptr_t)offsetof(struct weft__mutex, link.next));
	to[2] = NULL;
	to[-1] = to;
	weft__arch_syscall(SYS_set_robust_list, (long)to, 3 * sizeof *to, 0, 0, 0, 0);
	if (to[0] == to)
		return;
	clean(to[0])[-1] = to;
	for (e = clean(to[0]); e[0] != from; e = clean(e[0]))
		;
	e[0] = to;
	to[-1] = e;
	from[0] = from;
	from[-1] = from;
}

/* libc's list for the thread with this control block. */
static void **libc_head(void *tcb)
{
	return (void **)((char *)tcb + list.offset);
}

void weft__pshared_start(void)
{
	if (!list.offset)
		return;
	weft__lock(&list.lock, WEFT__RANK_POOL);
	adopt(libc_head(weft__arch_tls()), own.head);
	list.head = own.head;
	__atomic_store_n(&list.pid, (uint32_t)getpid(), __ATOMIC_RELAXED);
	weft__unlock(&list.lock, WEFT__RANK_POOL);
}

/* What stands in __nusers while the fiber holds the mutex: for main what glibc wrote, if it took it before there were fibers. */
static inline uint32_t mark_of(const struct weft__fiber *self)
{
	return self->kind == WEFT__MAIN ? 1 : self->tid;
}

static inline uint64_t held_by(uint32_t owner, const struct weft__fiber *self)
{
	return owner | (uint64_t)mark_of(self) << 32;
}

static inline uint32_t load(struct weft__mutex *m)
{
	/* relaxed: an exchange decides */
	return atomic_load_explicit(&m->lock, memory_order_relaxed);
}

static inline bool cas(struct weft__mutex *m, uint32_t *old, uint32_t new)
{
	/* [PSM-1] acquire and release; pairs with itself */
	return atomic_compare_exchange_strong_explicit(&m->lock, old, new, memory_order_acq_rel,
						       memory_order_relaxed);
}

static bool mine(struct weft__mutex *m, const struct weft__fiber *self)
{
	/* relaxed: equal to the caller's only if the caller wrote it */
	uint64_t held = atomic_load_explicit(&m->held, memory_order_relaxed);
	uint32_t owner = m->kind & WEFT__MTX_ROBUST ? load(m) & TID_MASK : (uint32_t)held;

	return owner == weft__pshared_pid() && (uint32_t)(held >> 32) == mark_of(self);
}

/* Wait until the word is no longer `word`. 0 or an error number. */
static int wait(struct weft__mutex *m, uint32_t word, clockid_t clock, const struct timespec *ts)
{
	int op = FUTEX_WAIT_BITSET | (clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
	struct weft__fiber *self;
	long err;

	if (ts && !weft__time_ok(ts))
		return EINVAL;
	if (ts && ts->tv_sec < 0)
		return ETIMEDOUT;
	self = weft__block_enter();
	err = weft__arch_syscall(SYS_futex, (long)&m->lock, op, word, (long)ts, 0, FUTEX_BITSET_MATCH_ANY);
	weft__block_exit(self);
	return err == -ETIMEDOUT ? ETIMEDOUT : 0;
}

static void wake(struct weft__mutex *m, int n)
{
	weft__arch_syscall(SYS_futex, (long)&m->lock, FUTEX_WAKE, n, 0, 0, 0);
}

/* --- not robust --- */

static int lock_word(struct weft__mutex *m, bool try, clockid_t clock, const struct timespec *ts, int prio)
{
	uint32_t word = load(m), take = HELD;
	int err;

	if (m->kind & WEFT__MTX_PROTECT && prio > (int)(word >> CEILING_SHIFT))
		return EINVAL;
	for (;;) {
		uint32_t ceiling = word & CEILING;

		if ((word & ~CEILING) == FREE) {
			if (cas(m, &word, ceiling | take))
				return 0;
			continue;
		}
		if (try)
			return EBUSY;
		if ((word & ~CEILING) == HELD && !cas(m, &word, ceiling | CONTENDED))
			continue;
		err = wait(m, ceiling | CONTENDED, clock, ts);
		if (err)
			return err;
		take = CONTENDED;
		word = load(m);
	}
}

static void unlock_word(struct weft__mutex *m)
{
	/* [PSM-1] release; pairs with acquire in cas */
	uint32_t word = atomic_fetch_and_explicit(&m->lock, CEILING, memory_order_release);

	if ((word & ~CEILING) == CONTENDED)
		wake(m, 1);
}

/* --- robust --- */

static inline void **entry_of(struct weft__mutex *m)
{
	return (void **)&m->link.next;
}

static inline struct weft__mutex *mutex_of(void **entry)
{
	return (struct weft__mutex *)((char *)entry - offsetof(struct weft__mutex, link.next));
}

static void list_add(void **head, struct weft__mutex *m)
{
	void **e = entry_of(m);

	clean(head[0])[-1] = e;
	e[0] = head[0];
	e[-1] = head;
	head[0] = e;
}

static void list_del(struct weft__mutex *m)
{
	void **e = entry_of(m);

	clean(e[0])[-1] = e[-1];
	clean(e[-1])[0] = e[0];
	e[0] = e[-1] = NULL;
}

/* The process may die at any instruction: the kernel looks at the pending one, too. */
static void list_begin(struct weft__fiber *self, struct weft__mutex *m)
{
	weft__preempt_disable(self);
	weft__lock(&list.lock, WEFT__RANK_POOL);
	list.head[2] = entry_of(m);
	atomic_signal_fence(memory_order_seq_cst);
}

static void list_end(struct weft__fiber *self)
{
	atomic_signal_fence(memory_order_seq_cst);
	list.head[2] = NULL;
	weft__unlock(&list.lock, WEFT__RANK_POOL);
	weft__preempt_enable(self);
}

static inline uint32_t *robust_held(struct weft__fiber *self)
{
	return (uint32_t *)&self->slot[WEFT__SLOT_PSHARED];
}

static int lock_robust(struct weft__mutex *m, struct weft__fiber *self, bool try, clockid_t clock, const struct timespec *ts)
{
	uint32_t pid = weft__pshared_pid(), waiters = 0, word = load(m);
	bool taken;
	int err;

	for (;;) {
		if (!(word & TID_MASK)) {
			list_begin(self, m);
			taken = cas(m, &word, pid | waiters | (word & WAITERS));
			if (taken)
				list_add(list.head, m);
			list_end(self);
			if (taken)
				break;
			continue;
		}
		if (try)
			return EBUSY;
		if (!(word & WAITERS) && !cas(m, &word, word | WAITERS))
			continue;
		err = wait(m, word | WAITERS, clock, ts);
		if (err)
			return err;
		waiters = WAITERS;	/* there may be more of us */
		word = load(m);
	}
	if (weft__mutex_owner(m) == NOTRECOVERABLE) {
		list_begin(self, m);
		list_del(m);
		/* [PSM-1] release; pairs with acquire in cas */
		atomic_store_explicit(&m->lock, 0, memory_order_release);
		list_end(self);
		wake(m, INT_MAX);
		return ENOTRECOVERABLE;
	}
	++*robust_held(self);
	weft__set_uses(self, WEFT__USES_SLOTS);
	weft__keys_watch(self);
	return word & OWNER_DIED ? EOWNERDEAD : 0;
}

/* Give the word `to`; WAITERS stay where `keep` says so. */
static void unlock_robust(struct weft__mutex *m, struct weft__fiber *self, uint32_t to, bool keep, int n)
{
	uint32_t word;

	list_begin(self, m);
	list_del(m);
	word = load(m);
	while (!cas(m, &word, to | (keep ? word & WAITERS : 0)))
		;
	list_end(self);
	--*robust_held(self);
	if (word & WAITERS)
		wake(m, n);
}

void weft__pshared_exit(struct weft__fiber *self)
{
	uint32_t mark = mark_of(self);

	while (*robust_held(self)) {
		struct weft__mutex *found = NULL;

		weft__preempt_disable(self);
		weft__lock(&list.lock, WEFT__RANK_POOL);
		for (void **e = clean(list.head[0]); e != list.head && !found; e = clean(e[0]))
			if ((uint32_t)(atomic_load_explicit(&mutex_of(e)->held, memory_order_relaxed) >> 32) == mark)
				found = mutex_of(e);
		weft__unlock(&list.lock, WEFT__RANK_POOL);
		weft__preempt_enable(self);
		if (!found)
			return;
		/* it is ours: nobody else takes it off the list */
		unlock_robust(found, self, OWNER_DIED, true, 1);
		weft__locks_drop(self);
	}
}

/* --- all --- */

static int by_libc(struct weft__mutex *m, bool try, clockid_t clock, const struct timespec *ts)
{
	pthread_mutex_t *mutex = (pthread_mutex_t *)m;

	if (try)
		return weft__real(pthread_mutex_trylock)(mutex);
	return ts ? weft__real(pthread_mutex_clocklock)(mutex, clock, ts) : weft__real(pthread_mutex_lock)(mutex);
}

int weft__pshared_lock(struct weft__mutex *m, bool try, clockid_t clock, const struct timespec *ts, int prio)
{
	struct weft__fiber *self = weft__self();
	uint32_t type = m->kind & WEFT__MTX_TYPE;
	bool robust = m->kind & WEFT__MTX_ROBUST;
	static bool told;
	int err;

	if (!weft__is_fiber(self))
		return by_libc(m, try, clock, ts);
	if ((m->kind & WEFT__MTX_KIND) == WEFT__MTX_KIND)
		return EINVAL;		/* destroyed */
	if (m->kind & WEFT__MTX_INHERIT) {
		if (!told)
			weft__warn("a process-shared mutex with priority inheritance, made by another process, cannot be locked");
		told = true;
		return ENOTSUP;
	}
	if (type != 0 && type != WEFT__MTX_ADAPTIVE && mine(m, self)) {
		if (type == WEFT__MTX_RECURSIVE) {
			if (m->count == UINT32_MAX)
				return EAGAIN;
			m->count++;
			return 0;
		}
		return try ? EBUSY : EDEADLK;
	}
	err = robust ? lock_robust(m, self, try, clock, ts) : lock_word(m, try, clock, ts, prio);
	if (err && err != EOWNERDEAD)
		return err;
	self->locks_held++;
	m->count = robust || type == WEFT__MTX_RECURSIVE;
	weft__mutex_hold(m, held_by(err ? INCONSISTENT : weft__pshared_pid(), self));
	return err;
}

int weft__pshared_unlock(struct weft__mutex *m)
{
	struct weft__fiber *self = weft__self();
	uint32_t type = m->kind & WEFT__MTX_TYPE;
	bool robust = m->kind & WEFT__MTX_ROBUST, lost;

	if (!weft__is_fiber(self))
		return weft__real(pthread_mutex_unlock)((pthread_mutex_t *)m);
	if ((m->kind & WEFT__MTX_KIND) == WEFT__MTX_KIND)
		return EINVAL;
	if ((robust || (type != 0 && type != WEFT__MTX_ADAPTIVE)) && !mine(m, self))
		return EPERM;
	if (type == WEFT__MTX_RECURSIVE && --m->count)
		return 0;
	lost = robust && weft__mutex_owner(m) == INCONSISTENT;
	weft__mutex_hold(m, lost ? NOTRECOVERABLE : 0);
	if (robust)
		unlock_robust(m, self, 0, false, lost ? INT_MAX : 1);
	else
		unlock_word(m);
	weft__locks_drop(self);
	return 0;
}

int weft__pshared_consistent(struct weft__mutex *m)
{
	struct weft__fiber *self = weft__self();

	if (!weft__is_fiber(self))
		return weft__real(pthread_mutex_consistent)((pthread_mutex_t *)m);
	if (!(m->kind & WEFT__MTX_ROBUST) || weft__mutex_owner(m) != INCONSISTENT)
		return EINVAL;
	weft__mutex_hold(m, held_by(weft__pshared_pid(), self));
	return 0;
}

/* --- for libc's pthread_cond_wait --- */

/* From one list and owner to another. The process may die meanwhile: for an instant the owner is then a thread that never was. */
static void move(struct weft__mutex *m, struct weft__fiber *self, uint32_t from, uint32_t to, void **head)
{
	uint32_t word = load(m);

	list_begin(self, m);
	list_del(m);
	do
		word = (word & ~TID_MASK) | from;
	while (!cas(m, &word, (word & ~TID_MASK) | to));
	list_add(head, m);
	list_end(self);
}

/* What libc finds in the thread control block: main is the process in its eyes, too. */
static uint32_t libc_tid(const struct weft__fiber *self)
{
	return self->kind == WEFT__MAIN ? weft__pshared_pid() : self->tid;
}

int weft__pshared_lend(struct weft__mutex *m)
{
	struct weft__fiber *self = weft__self();
	uint32_t type = m->kind & WEFT__MTX_TYPE, tid = libc_tid(self), pid = weft__pshared_pid();
	bool robust = m->kind & WEFT__MTX_ROBUST;

	if (!weft__is_fiber(self))
		return 0;
	if (!mine(m, self))
		return robust || (type != 0 && type != WEFT__MTX_ADAPTIVE) ? EPERM : 0;
	if (robust) {
		if (libc_head(self->tcb) != list.head)
			move(m, self, pid, tid, libc_head(self->tcb));
		--*robust_held(self);
	}
	if (weft__mutex_owner(m) == pid)
		weft__mutex_hold(m, tid | UINT64_C(1) << 32);
	weft__locks_drop(self);
	return 0;
}

void weft__pshared_take_back(struct weft__mutex *m)
{
	struct weft__fiber *self = weft__self();
	uint32_t tid = libc_tid(self), pid = weft__pshared_pid();

	if (!weft__is_fiber(self) || weft__mutex_owner(m) == NOTRECOVERABLE)
		return;
	weft__mutex_hold(m, held_by(weft__mutex_owner(m) == tid ? pid : weft__mutex_owner(m), self));
	if (m->kind & WEFT__MTX_ROBUST) {
		++*robust_held(self);
		weft__set_uses(self, WEFT__USES_SLOTS);
		if (libc_head(self->tcb) != list.head)
			move(m, self, tid, pid, list.head);
	}
	self->locks_held++;
}
