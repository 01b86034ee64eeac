/* SPDX-License-Identifier: MIT
 * See sigtable.h.
 */
#include "upcall/sigtable.h"

#include <string.h>
#include <unistd.h>

#include "runtime/fiber.h"

#define SLOTS 256u

enum { FREE = 0, BUSY = WEFT__SIGTABLE_BUSY };	/* else: WEFT__ANYBODY, or the address of the fiber it is for */

struct slot {
	_Atomic uintptr_t state;
	siginfo_t info;			/* owned by who made it BUSY; so is the next */
	uint64_t seq;			/* order of arrival */
};

static struct slot slots[SLOTS];
static _Atomic uint64_t next_seq;
static _Atomic uint32_t nslots;		/* in use: a hint that there is something to look for */
static _Atomic uint64_t anybody_bits;	/* see bits_of */

/* Pending signals of a target that found no room in the table. */
static _Atomic uint64_t *bits_of(uintptr_t target)
{
	return target == WEFT__ANYBODY ? &anybody_bits : &((struct weft__fiber *)target)->sig_bits;
}

void weft__sigtable_put(uintptr_t target, const siginfo_t *info)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uintptr_t state = FREE;

		/* A standard signal that is pending for the target already is not queued twice.
		 * [SLOT-1] acquire; pairs with release of take and put: the contents */
		if (info->si_signo < 32 &&
		    atomic_load_explicit(&slots[i].state, memory_order_acquire) == target &&
		    slots[i].info.si_signo == info->si_signo)
			return;
		if (!atomic_compare_exchange_strong_explicit(&slots[i].state, &state, BUSY,
				memory_order_acquire, memory_order_relaxed))
			continue;
		slots[i].info = *info;
		/* relaxed: an order where there is one, for signals of one sender */
		slots[i].seq = atomic_fetch_add_explicit(&next_seq, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&nslots, 1, memory_order_relaxed);
		/* [SLOT-1] release; pairs with acquire in take */
		atomic_store_explicit(&slots[i].state, target, memory_order_release);
		return;
	}
	/* The table is full: the signal itself must not be lost, only what came with it. */
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

bool weft__sigtable_take(uintptr_t target, uint64_t set, siginfo_t *info)
{
	while (atomic_load_explicit(&nslots, memory_order_relaxed) != 0) {
		struct slot *best = NULL;
		uintptr_t state;

		for (struct slot *s = slots; s < slots + SLOTS; s++) {
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
		atomic_fetch_sub_explicit(&nslots, 1, memory_order_relaxed);
		/* [SLOT-1] release; pairs with acquire in put: the next writer comes after our reads */
		atomic_store_explicit(&best->state, FREE, memory_order_release);
		return true;
	}
	return take_bit(target, set, info);
}

uint64_t weft__sigtable_pending(uintptr_t target)
{
	/* relaxed: what a signal came with is not looked at */
	uint64_t set = atomic_load_explicit(bits_of(target), memory_order_relaxed);

	for (unsigned i = 0; i < SLOTS; i++)
		/* [SLOT-1] acquire; pairs with release in put */
		if (atomic_load_explicit(&slots[i].state, memory_order_acquire) == target)
			set |= WEFT__SIGBIT(slots[i].info.si_signo);
	return set;
}

bool weft__sigtable_any(void)
{
	return atomic_load_explicit(&nslots, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&anybody_bits, memory_order_relaxed) != 0;
}

void weft__sigtable_each(void (*see)(struct weft__fiber *, int sig))
{
	for (unsigned i = 0; i < SLOTS; i++) {
		/* [SLOT-1] acquire; pairs with release in put */
		uintptr_t state = atomic_load_explicit(&slots[i].state, memory_order_acquire);

		if (state != FREE && state != BUSY && state != WEFT__ANYBODY)
			see((struct weft__fiber *)state, slots[i].info.si_signo);
	}
}

void weft__sigtable_forked(void)
{
	memset(slots, 0, sizeof slots);
	atomic_store_explicit(&nslots, 0, memory_order_relaxed);
	atomic_store_explicit(&anybody_bits, 0, memory_order_relaxed);
}
