/* SPDX-License-Identifier: MIT
 * See sigtable.h.
 */
#include "upcall/sigtable.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "runtime/runtime.h"

#define SLOTS 2048u
#define TIMERS 1024u

enum { FREE = 0, BUSY = WEFT__SIGTABLE_BUSY };	/* else: WEFT__ANYBODY, or the address of the fiber it is for */

struct slot {
	_Atomic uintptr_t state;
	siginfo_t info;			/* owned by who made it BUSY; so is the next */
	uint64_t seq;			/* order of arrival */
};

static struct slot slots[SLOTS];
static _Atomic uint32_t top;		/* none from here on was ever used: what is looked through ends here */
static _Atomic uint64_t next_seq;
static _Atomic bool overflowed;
static _Atomic uint64_t anybody_bits;	/* see bits_of */

/* Of the signal that was last taken for a timer: (its id + 1) << 32 | its overruns. Two timers whose ids are
 * a multiple of TIMERS apart forget each other's; then the kernel's count is all there is. */
static _Atomic uint64_t overruns[TIMERS];

/* Pending signals of a target that found no room in the table. */
static _Atomic uint64_t *bits_of(uintptr_t target)
{
	return target == WEFT__ANYBODY ? &anybody_bits : &((struct weft__fiber *)target)->sig_bits;
}

/* relaxed: raised before what is in the slot is published */
static inline struct slot *end(void)
{
	return slots + atomic_load_explicit(&top, memory_order_relaxed);
}

static inline bool is_timers(const siginfo_t *info, int id)
{
	return info->si_code == SI_TIMER && info->si_timerid == id;
}

/* Make it ours, if it is for `target` and of that timer. */
static bool claim_timers(struct slot *s, uintptr_t target, int id)
{
	uintptr_t state = target;

	/* [SLOT-1] acquire; pairs with release in put */
	if (atomic_load_explicit(&s->state, memory_order_acquire) != target || !is_timers(&s->info, id) ||
	    !atomic_compare_exchange_strong_explicit(&s->state, &state, BUSY, memory_order_acquire, memory_order_relaxed))
		return false;
	if (is_timers(&s->info, id))
		return true;
	/* reused meanwhile. [SLOT-1] release; pairs with acquire in take */
	atomic_store_explicit(&s->state, target, memory_order_release);
	return false;
}

static void free_slot(struct slot *s)
{
	atomic_fetch_sub_explicit(&weft__rt.signals_kept, 1, memory_order_relaxed);
	/* [SLOT-1] release; pairs with acquire in put: the next writer comes after our reads */
	atomic_store_explicit(&s->state, FREE, memory_order_release);
}

/* A timer has one signal on its way, however often it expires meanwhile. The kernel sees to that no more: it believes that the one that
 * is in the table has been delivered. */
static bool merged(uintptr_t target, const siginfo_t *info)
{
	long n;

	for (struct slot *s = slots; s < end(); s++) {
		if (!claim_timers(s, target, info->si_timerid))
			continue;
		n = (long)s->info.si_overrun + info->si_overrun + 1;
		s->info.si_overrun = n < INT_MAX ? (int)n : INT_MAX;	/* DELAYTIMER_MAX */
		/* [SLOT-1] release; pairs with acquire in take */
		atomic_store_explicit(&s->state, target, memory_order_release);
		return true;
	}
	return false;
}

void weft__sigtable_put(uintptr_t target, const siginfo_t *info)
{
	if (info->si_code == SI_TIMER && merged(target, info))
		return;
	for (unsigned i = 0; i < SLOTS; i++) {
		uintptr_t state = FREE;
		uint32_t used;

		/* A standard signal that is pending for the target already is not queued twice.
		 * [SLOT-1] acquire; pairs with release of take and put: the contents */
		if (info->si_signo < 32 &&
		    atomic_load_explicit(&slots[i].state, memory_order_acquire) == target &&
		    slots[i].info.si_signo == info->si_signo)
			return;
		if (!atomic_compare_exchange_strong_explicit(&slots[i].state, &state, BUSY,
				memory_order_acquire, memory_order_relaxed))
			continue;
		used = atomic_load_explicit(&top, memory_order_relaxed);
		while (used <= i && !atomic_compare_exchange_weak_explicit(&top, &used, i + 1, memory_order_relaxed, memory_order_relaxed))
			;
		slots[i].info = *info;
		/* relaxed: an order where there is one, for signals of one sender */
		slots[i].seq = atomic_fetch_add_explicit(&next_seq, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&weft__rt.signals_kept, 1, memory_order_relaxed);
		/* [SLOT-1] release; pairs with acquire in take */
		atomic_store_explicit(&slots[i].state, target, memory_order_release);
		return;
	}
	/* The table is full: the signal itself must not be lost, only what came with it. From now on every fiber that ends looks for such. */
	if (!atomic_exchange_explicit(&overflowed, true, memory_order_relaxed))
		atomic_fetch_add_explicit(&weft__rt.signals_kept, 1, memory_order_relaxed);
	/* [SLOT-2] release; pairs with acquire in take_bit */
	atomic_fetch_or_explicit(bits_of(target), WEFT__SIGBIT(info->si_signo), memory_order_release);
}

static bool take_bit(uintptr_t target, uint64_t set, siginfo_t *info)
{
	_Atomic uint64_t *bits = bits_of(target);
	/* [SLOT-2] acquire; pairs with release in put */
	uint64_t b = atomic_load_explicit(bits, memory_order_acquire) & set;

	if (weft__likely(b == 0))
		return false;
	b &= -b;
	if (!(atomic_fetch_and_explicit(bits, ~b, memory_order_relaxed) & b))
		return false;			/* another was faster */
	memset(info, 0, sizeof *info);
	info->si_signo = __builtin_ctzll(b) + 1;
	info->si_code = SI_USER;
	info->si_pid = getpid();
	info->si_uid = getuid();
	return true;
}

static _Atomic uint64_t *overruns_of(int timer)
{
	return &overruns[(uint32_t)timer % TIMERS];
}

bool weft__sigtable_overruns(int timer, int *n)
{
	/* relaxed: for who took the signal */
	uint64_t o = atomic_load_explicit(overruns_of(timer), memory_order_relaxed);

	*n = (int)(uint32_t)o;
	return o >> 32 == (uint32_t)(timer + 1);
}

void weft__sigtable_overruns_are_kernels(int timer)
{
	int n;

	if (weft__sigtable_overruns(timer, &n))
		atomic_store_explicit(overruns_of(timer), 0, memory_order_relaxed);
}

void weft__sigtable_drop_timer(int timer)
{
	for (struct slot *s = slots; s < end(); s++) {
		uintptr_t target = atomic_load_explicit(&s->state, memory_order_relaxed);

		if (target != FREE && target != BUSY && claim_timers(s, target, timer))
			free_slot(s);
	}
	weft__sigtable_overruns_are_kernels(timer);
}

bool weft__sigtable_take(uintptr_t target, uint64_t set, siginfo_t *info)
{
	while (atomic_load_explicit(&weft__rt.signals_kept, memory_order_relaxed) != 0) {
		struct slot *best = NULL;
		uintptr_t state;

		for (struct slot *s = slots; s < end(); s++) {
			/* [SLOT-1] acquire; pairs with release in put */
			if (atomic_load_explicit(&s->state, memory_order_acquire) != target ||
			    !(WEFT__SIGBIT(s->info.si_signo) & set))
				continue;
			if (!best || s->info.si_signo < best->info.si_signo ||
			    (s->info.si_signo == best->info.si_signo && s->seq < best->seq))
				best = s;
		}
		if (!best)
			break;
		state = target;
		/* [SLOT-1] acquire; pairs with release in put */
		if (!atomic_compare_exchange_strong_explicit(&best->state, &state, BUSY,
				memory_order_acquire, memory_order_relaxed))
			continue;
		if (!(WEFT__SIGBIT(best->info.si_signo) & set)) {	/* reused meanwhile */
			/* [SLOT-1] release; pairs with acquire in take */
			atomic_store_explicit(&best->state, state, memory_order_release);
			continue;
		}
		*info = best->info;
		free_slot(best);
		if (info->si_code == SI_TIMER)
			/* relaxed: for who took the signal */
			atomic_store_explicit(overruns_of(info->si_timerid),
					      (uint64_t)(uint32_t)(info->si_timerid + 1) << 32 | (uint32_t)info->si_overrun, memory_order_relaxed);
		return true;
	}
	return take_bit(target, set, info);
}

uint64_t weft__sigtable_pending(uintptr_t target)
{
	/* relaxed: what a signal came with is not looked at */
	uint64_t set = atomic_load_explicit(bits_of(target), memory_order_relaxed);

	for (struct slot *s = slots; s < end(); s++)
		/* [SLOT-1] acquire; pairs with release in put */
		if (atomic_load_explicit(&s->state, memory_order_acquire) == target)
			set |= WEFT__SIGBIT(s->info.si_signo);
	return set;
}

bool weft__sigtable_room(void)
{
	return atomic_load_explicit(&weft__rt.signals_kept, memory_order_relaxed) < SLOTS - SLOTS / 8;
}

bool weft__sigtable_any(void)
{
	return atomic_load_explicit(&weft__rt.signals_kept, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&anybody_bits, memory_order_relaxed) != 0;
}

void weft__sigtable_each(void (*see)(struct weft__fiber *, int sig))
{
	for (struct slot *s = slots; s < end(); s++) {
		/* [SLOT-1] acquire; pairs with release in put */
		uintptr_t state = atomic_load_explicit(&s->state, memory_order_acquire);

		if (state != FREE && state != BUSY && state != WEFT__ANYBODY)
			see((struct weft__fiber *)state, s->info.si_signo);
	}
}

void weft__sigtable_forked(void)
{
	memset(slots, 0, (char *)end() - (char *)slots);
	memset(overruns, 0, sizeof overruns);
	atomic_store_explicit(&weft__rt.signals_kept, 0, memory_order_relaxed);
	atomic_store_explicit(&overflowed, false, memory_order_relaxed);
	atomic_store_explicit(&anybody_bits, 0, memory_order_relaxed);
}
