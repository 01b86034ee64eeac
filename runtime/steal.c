/* SPDX-License-Identifier: MIT
 * Stealing: what an idle VP takes from others, and when that pays. The lock: see vpqueue.h.
 */
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/vpqueue.h"

#include <sys/syscall.h>
#include <unistd.h>

#define THIEF_SPINS 100u
#define THEFT_NS 10000u		/* what a theft costs both sides, in a virtual machine: interrupts to every CPU that runs one of our threads */
#define PATIENCE_NS 50000u	/* so long a spinner leaves to its VP what would not pay */

void weft__vpq_wait(struct weft__vp *vp)
{
	unsigned n = 0;

	do {
		weft__vpq_unlock(vp);
		/* [VPQ-1] acquire; pairs with release in weft__vpq_thief_unlock */
		while (atomic_load_explicit(&vp->thief, memory_order_acquire)) {
			if (++n % THIEF_SPINS)
				weft__arch_pause();
			else
				syscall(SYS_sched_yield);
		}
		atomic_store_explicit(&vp->in_queue, 1, memory_order_relaxed);
		weft__fence_light();
	} while (atomic_load_explicit(&vp->thief, memory_order_acquire));
}

bool weft__vpq_thief_lock(struct weft__vp *vp)
{
	if (!weft__trylock(&vp->steal_lock, WEFT__RANK_VP))
		return false;
	atomic_store_explicit(&vp->thief, 1, memory_order_relaxed);
	weft__fence_heavy();
	for (unsigned i = 0; i < THIEF_SPINS; i++) {
		/* [VPQ-1] acquire; pairs with release in weft__vpq_unlock */
		if (!atomic_load_explicit(&vp->in_queue, memory_order_acquire))
			return true;
		weft__arch_pause();
	}
	weft__vpq_thief_unlock(vp);
	return false;
}

void weft__vpq_thief_unlock(struct weft__vp *vp)
{
	/* [VPQ-1] release; pairs with acquire in weft__vpq_lock */
	atomic_store_explicit(&vp->thief, 0, memory_order_release);
	weft__unlock(&vp->steal_lock, WEFT__RANK_VP);
}

/* Half of what the victim has queued, or what is in its slot, which is returned. */
static struct weft__fiber *move(struct weft__vp *vp, struct weft__vp *victim, bool slot_too, unsigned *moved)
{
	struct weft__fiber *f = NULL;
	unsigned n = 0;

	*moved = 0;
	if (atomic_load_explicit(&victim->len, memory_order_relaxed) == 0 && !slot_too)
		return NULL;
	if (!weft__vpq_thief_lock(victim))
		return NULL;
	/* Our own queue is ours; a thief that comes for it meanwhile gives up after a short spin (no deadlock:
	 * one side of any two always spins boundedly). */
	atomic_store_explicit(&vp->in_queue, 1, memory_order_relaxed);
	weft__fence_light();
	/* [VPQ-1] acquire; pairs with release in weft__vpq_thief_unlock */
	if (!atomic_load_explicit(&vp->thief, memory_order_acquire)) {
		n = weft__rt.ops->steal(victim->queue, vp->queue, 256);
		weft__vpq_add_len(victim, -n);
		weft__vpq_add_len(vp, n);
		if (n == 0 && slot_too) {
			f = atomic_load_explicit(&victim->runnext, memory_order_relaxed);
			atomic_store_explicit(&victim->runnext, NULL, memory_order_relaxed);
			if (f && victim->runnext_by)
				victim->runnext_by->pingpong = 0;
		}
	}
	weft__vpq_unlock(vp);
	weft__vpq_thief_unlock(victim);
	vp->n.steals += n + (f != NULL);
	*moved = n;
	return f;
}

static struct weft__fiber *steal(struct weft__vp *vp, struct weft__vp *victim, bool slot_too)
{
	unsigned n;
	struct weft__fiber *f = move(vp, victim, slot_too, &n);

	return f ? f : n ? weft__pick_queued(vp, true) : NULL;
}

/* A theft costs both sides microseconds, by its membarrier. It pays if what is queued would keep the thief busy for longer, by what turns took
 * lately; or (steal_round) if there has been something for a while, whatever it is. */
static bool pays(const struct weft__vp *victim, uint64_t turn_ns)
{
	return atomic_load_explicit(&victim->len, memory_order_relaxed) * turn_ns >= THEFT_NS;
}

bool weft__theft_pays(const struct weft__vp *but, uint64_t turn_ns)
{
	if (atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed))
		return true;
	for (unsigned i = 0; i < weft__rt.nvps; i++)
		if (&weft__rt.vp[i] != but && pays(&weft__rt.vp[i], turn_ns))
			return true;
	return false;
}

/* One round over the other VPs, near ones first. A fiber in a slot is taken only if nothing has moved there since the last look. */
struct weft__fiber *weft__steal_round(struct weft__vp *vp, bool again, uint64_t now)
{
	for (unsigned i = 0; i + 1 < weft__rt.nvps; i++) {
		struct weft__vp *victim = &weft__rt.vp[vp->steal_order[i]];
		struct weft__victim_seen *seen = &vp->seen[i];
		const struct weft__fiber *slot = atomic_load_explicit(&victim->runnext, memory_order_relaxed);
		uint64_t tick = atomic_load_explicit(&victim->tick, memory_order_relaxed);
		bool slot_too = again && slot && seen->fiber == slot && seen->tick == tick;
		bool some = atomic_load_explicit(&victim->len, memory_order_relaxed) != 0;
		bool theft = slot_too || (some && (!again || pays(victim, vp->turn_ns) || now - seen->since >= PATIENCE_NS));
		struct weft__fiber *f;

		seen->fiber = slot;
		seen->tick = tick;
		if (theft || !some)
			seen->since = now;
		f = theft ? steal(vp, victim, slot_too) : NULL;
		if (f)
			return f;
	}
	return NULL;
}

/* What the victim would run next. */
static struct weft__fiber *take_one(struct weft__vp *vp, struct weft__vp *victim)
{
	struct weft_sched_node *n;

	if (!weft__vpq_thief_lock(victim))
		return NULL;
	n = weft__rt.ops->pick(victim->queue);
	if (n)
		weft__vpq_add_len(victim, (uint32_t)-1);
	weft__vpq_thief_unlock(victim);
	vp->n.steals += n != NULL;
	return n ? weft__fiber_of_node(n) : NULL;
}

struct weft__fiber *weft__steal_share(struct weft__vp *vp)
{
	uint32_t own = atomic_load_explicit(&vp->len, memory_order_relaxed);

	for (unsigned i = 0; i + 1 < weft__rt.nvps; i++) {
		struct weft__vp *victim = &weft__rt.vp[vp->steal_order[i]];
		uint32_t len = atomic_load_explicit(&victim->len, memory_order_relaxed);
		struct weft__fiber *f = NULL;
		unsigned n = 0;

		if (own == 0 && weft__rt.ops->tick)
			move(vp, victim, false, &n);
		else if (own == 0 && len >= 2)
			f = steal(vp, victim, false);
		else if (len > own)
			f = take_one(vp, victim);
		if (f || n)
			return f;
	}
	return NULL;
}
