/* SPDX-License-Identifier: MIT
 * Workers and idle VPs: looking for work, falling asleep, waking up, losing a VP and getting one back.
 *
 * Lists:     rt.idle_vps and rt.spare, guarded by rt.idle_lock; every idle VP is on the one, every sleeping worker but the
 *            poller on the other. A worker that sleeps is given a VP (next_vp) and woken; it never takes one by itself, the
 *            poller excepted, which wakes by itself.
 * Spinning:  a worker that found nothing looks on for SPIN_NS before it sleeps, at most half as many as there are busy
 *            VPs. While one spins nobody is woken (rt.nspin, idle_hint): it will find what was submitted. The last spinner
 *            that finds work wakes the next, so that parallelism grows as long as there is work.
 * Help:      when an idle VP is woken for what others queued: help.c.
 * Poller:    one sleeping worker waits in the netpoller, until the first timer of all VPs; the others on a futex.
 * Timers:    [WATCH] who looks at them: watch.c.
 * Retaking:  [RETAKE]
 *     monitor (weft__vp_retake)                 fiber (any entry into the scheduler)
 *     R1 w->vp = NULL, vp->lease = none,        F1 nopreempt++
 *        under w->lock                          F2 read w->vp; NULL: take w->lock, read again
 *     R2 heavy fence                               (or vp->lease; not ours: the same, yield.c)
 *     R3 nopreempt != 0 or another fiber:
 *        put it back
 *     Invariant: either R3 sees F1, and the VP stays, or F2 sees R1, and the fiber knows that it has none.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/extras.h"
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/vpqueue.h"
#include "runtime/wait.h"

#define SPIN_NS 12000u
#define POLL_EVERY 8u		/* rounds of a spinner between looks at the netpoller */

static void update_hint(void)
{
	/* idle_lock held, or nspin just changed: a stale 1 costs a look at the list, a stale 0 cannot stay: whoever
	 * ends spinning recomputes it before its last look at the queues */
	atomic_store_explicit(&weft__rt.idle_hint, weft__rt.idle_vps != NULL &&
			      atomic_load_explicit(&weft__rt.nspin, memory_order_relaxed) == 0,
			      memory_order_relaxed);
}

/* [ASYM-1] membarrier: a seq_cst fence on every running thread of the process; pairs with runtime.h:weft__fence_light */
void weft__fence_heavy(void)
{
	if (weft__rt.membarrier)
		syscall(SYS_membarrier, 8 /* MEMBARRIER_CMD_PRIVATE_EXPEDITED */, 0, 0);
	else
		atomic_thread_fence(memory_order_seq_cst);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

void weft__vp_attach(struct weft__worker *w, struct weft__vp *vp, struct weft__fiber *current)
{
	if (weft__unlikely(vp->cpus != NULL))
		weft__bind_worker(w, vp, current);
	vp->current = current;
	atomic_store_explicit(&vp->worker, w, memory_order_relaxed);
	atomic_store_explicit(&w->vp, vp, memory_order_relaxed);
	weft__lease_new(vp);
	atomic_store_explicit(&vp->tick, atomic_load_explicit(&vp->tick, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	weft__hook_worker_busy(w);
	/* [NOTIFY-1] compiler barrier: vp->current before its fiber looks at sig_pending; pairs with weft__signal_notify */
	weft__fence_light();
}

/* The idle VP that is nearest to `from`, of equals the one that is idle for the shortest time. `from` NULL: that one of all. idle_lock held. */
static struct weft__vp *pop_idle(const struct weft__vp *from)
{
	struct weft__vp **best = &weft__rt.idle_vps, *vp;

	if (from && from->far)
		for (struct weft__vp **at = best; *at; at = &(*at)->idle_next)
			if (from->far[(*at)->index] < from->far[(*best)->index])
				best = at;
	vp = *best;
	if (vp) {
		*best = vp->idle_next;
		weft__rt.nidle--;
		vp->idle = false;
		update_hint();
	}
	return vp;
}

/* idle_lock held */
static void push_idle(struct weft__vp *vp)
{
	vp->idle = true;
	vp->current = NULL;
	atomic_store_explicit(&vp->worker, NULL, memory_order_relaxed);
	vp->idle_next = weft__rt.idle_vps;
	weft__rt.idle_vps = vp;
	weft__rt.nidle++;
	update_hint();
}

/* Let some sleeping worker carry vp. idle_lock held; unlocks it. */
static void give_and_unlock(struct weft__vp *vp)
{
	struct weft__worker *w = weft__rt.spare;

	if (w) {
		weft__rt.spare = w->next;
		weft__rt.nspare--;
		w->next_vp = vp;
		weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		/* [WAKE-1] release; pairs with acquire in sleep_futex: next_vp */
		atomic_store_explicit(&w->park, 1, memory_order_release);
		futex_wake(&w->park);
	} else if (weft__rt.poller && !weft__rt.poller->next_vp) {
		weft__rt.poller->next_vp = vp;
		weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		weft__hook_poll_break();
	} else {
		/* no sleeping worker: the monitor makes one */
		vp->idle_next = weft__rt.orphans;
		weft__rt.orphans = vp;
		weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		weft__hook_monitor_wake();
	}
}

void weft__vp_give(struct weft__vp *vp)
{
	weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	give_and_unlock(vp);
}

void weft__idle_wake(void)
{
	struct weft__fiber *self = weft__tls_self;
	struct weft__vp *vp = NULL;

	weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	if (atomic_load_explicit(&weft__rt.nspin, memory_order_relaxed) == 0 && weft__rt.idle_vps) {
		/* it starts as a spinner, on our account */
		atomic_fetch_add_explicit(&weft__rt.nspin, 1, memory_order_relaxed);
		vp = pop_idle(self ? weft__home_vp(self) : NULL);
		vp->spinning = true;
		vp->woken = true;
	}
	update_hint();
	if (!vp) {
		weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		return;
	}
	atomic_fetch_add_explicit(&weft__rt.n.wakeups, 1, memory_order_relaxed);
	give_and_unlock(vp);
}

static struct weft__vp *take_idle(const struct weft__vp *from)
{
	struct weft__vp *vp;

	weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	vp = pop_idle(from);
	weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	return vp;
}

void weft__vp_release(struct weft__vp *vp)
{
	vp->computes = false;
	vp->busy_at = 0;
	weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	push_idle(vp);
	weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
}

/* Is anything queued where a worker would find it? The slots are left to their VPs and the monitor. */
bool weft__work_anywhere(void)
{
	if (atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed))
		return true;
	for (unsigned i = 0; i < weft__rt.nvps; i++)
		if (atomic_load_explicit(&weft__rt.vp[i].len, memory_order_relaxed))
			return true;
	return false;
}

static void spin_end(struct weft__vp *vp, bool found)
{
	if (!vp->spinning)
		return;
	vp->spinning = false;
	weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	atomic_fetch_sub_explicit(&weft__rt.nspin, 1, memory_order_relaxed);
	update_hint();
	weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	/* the last spinner found work: there may be more, and nobody was woken for it */
	if (found && atomic_load_explicit(&weft__rt.idle_hint, memory_order_relaxed)) {
		weft__fence_heavy();
		if (weft__theft_pays(vp, vp->turn_ns))		/* for what it has itself: weft__ask_for_help */
			weft__idle_wake();
	}
}

static bool can_spin(const struct weft__vp *vp)
{
	unsigned busy = weft__rt.nvps - weft__rt.nidle;

	return vp->spinning || (weft__rt.nvps > 1 && 2 * atomic_load_explicit(&weft__rt.nspin, memory_order_relaxed) < busy);
}

static bool may_spin(struct weft__vp *vp)
{
	if (!can_spin(vp))
		return false;
	if (!vp->spinning) {
		atomic_fetch_add_explicit(&weft__rt.nspin, 1, memory_order_relaxed);
		vp->spinning = true;
	}
	return true;
}

/* The kernel's mask here is that of the fiber that ran last, which may have ended or blocked more since. A signal that every thread of the
 * program blocks must find no worker that lets it through, or its default action ends the process. */
static void block_signals(struct weft__worker *w)
{
	if (w->sched.sigmask == ~0ull)
		return;
	w->sched.sigmask = ~0ull;
	weft__set_kernel_mask(~weft__own_signals());
}

static void go_idle(struct weft__worker *w, struct weft__vp *vp, bool spun);

/* The VP has nothing of its own: look everywhere, then sleep. NULL: look at w->vp again. */
struct weft__fiber *weft__find_work(struct weft__worker *w, struct weft__vp *vp)
{
	struct weft__fiber *f = weft__pick(vp);
	bool spun = false;

	if (!f) {
		uint64_t now = weft__now(), end;

		weft__note_turns(vp, now);
		w->gathering = true;
		weft__look_idle(vp, now, true);
		f = weft__pick(vp);
		if (!f)
			f = weft__steal_round(vp, can_spin(vp), now);
		if (!f)
			block_signals(w);
		if (!f && may_spin(vp)) {
			spun = true;
			end = now + SPIN_NS;
			for (unsigned round = 1; !f && now < end; round++) {
				for (int i = 0; i < 16; i++)
					weft__arch_pause();
				now = weft__now();
				weft__look_idle(vp, now, round % POLL_EVERY == 0);
				f = weft__pick(vp);
				if (!f)
					f = weft__steal_round(vp, true, now);
			}
		}
		w->gathering = false;
	}
	spin_end(vp, f != NULL);
	if (!f) {
		go_idle(w, vp, spun);
		return NULL;
	}
	if (vp->busy_at == 0) {
		vp->busy_at = weft__now();
		atomic_store_explicit(&vp->round_at, vp->busy_at, memory_order_relaxed);
		vp->busy_tick = atomic_load_explicit(&vp->tick, memory_order_relaxed);
	}
	weft__ask_for_help(vp);
	if (atomic_load_explicit(&vp->timers.first, memory_order_relaxed) != WEFT__NEVER)
		weft__timer_watch(atomic_load_explicit(&vp->timers.first, memory_order_relaxed));	/* [WATCH] W2 */
	return f;
}

static void sleep_futex(struct weft__worker *w)
{
	/* [WAKE-1] acquire; pairs with release in give_and_unlock */
	while (!atomic_load_explicit(&w->park, memory_order_acquire))
		syscall(SYS_futex, &w->park, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL);
	atomic_store_explicit(&w->park, 0, memory_order_relaxed);
}

/* idle_lock held. What sleep_poller wants; A2 of [WATCH] is to follow. */
static uint64_t become_poller(struct weft__worker *w)
{
	uint64_t first = weft__first_timer();

	weft__rt.poller = w;
	atomic_store_explicit(&weft__rt.watch_deadline, first, memory_order_relaxed);	/* [WATCH] A1 */
	return first;
}

/* The caller has looked at the queues of VPs; from then on those who queue something wake us. */
static void sleep_poller(struct weft__worker *w, uint64_t first)
{
	struct weft__vp *vp;
	uint64_t now;
	int n;

	for (;;) {
		bool wanted;

		n = 0;
		/* not later than what was announced, or a timer in between would tell nobody */
		now = weft__first_timer();
		if (now < first)
			first = now;
		now = weft__now();
		w->gathering = true;	/* find_work tells */
		if (!atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed))
			n = weft__hook_poll(weft__timers_wait(first, now), WEFT__POLL_MAX);
		w->gathering = false;
		now = weft__now();
		weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		first = weft__first_timer();
		wanted = n > 0 || weft__timers_wait(first, now) == 0 || atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed);
		vp = w->next_vp;
		w->next_vp = NULL;
		if (!vp && wanted)
			vp = pop_idle(NULL);
		if (vp || wanted)
			break;
		weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		/* relaxed, then a heavy fence: whoever adds an earlier timer afterwards sees it (sched.c) */
		atomic_store_explicit(&weft__rt.watch_deadline, first, memory_order_relaxed);
		weft__fence_heavy();
	}
	weft__rt.poller = NULL;
	if (!vp) {
		/* woken for nothing that we can do: all VPs are busy and will see it */
		w->next = weft__rt.spare;
		weft__rt.spare = w;
		weft__rt.nspare++;
	}
	/* under the lock: it must not go over what the next poller announces */
	atomic_store_explicit(&weft__rt.watch_deadline, 0, memory_order_relaxed);
	weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	if (atomic_load_explicit(&weft__rt.monitor_asleep, memory_order_relaxed))
		weft__hook_monitor_wake();	/* nobody watches timers and descriptors now */
	if (!vp) {
		if (first <= now)
			weft__all_timers_run(now);
		sleep_futex(w);
		vp = w->next_vp;
		w->next_vp = NULL;
	}
	weft__vp_attach(w, vp, &w->sched);
}

/* w has no VP and is on no list: sleep until it gets one. */
void weft__worker_idle(struct weft__worker *w)
{
	uint64_t first = 0;
	bool poll;

	/* a fiber that was stalled in the kernel brought us here: it is queued now, and this worker spare */
	if (atomic_exchange_explicit(&w->stalled, 0, memory_order_relaxed))
		atomic_fetch_sub_explicit(&weft__rt.nblocked, 1, memory_order_relaxed);
	block_signals(w);
	weft__hook_worker_idle(w);
	weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	/* Only a worker that idles because there is no work may poll; here there may be no idle VP to serve. */
	poll = weft__rt.poller == NULL && weft__rt.idle_vps != NULL;
	if (poll) {
		w->next_vp = NULL;
		first = become_poller(w);
	} else {
		w->next = weft__rt.spare;
		weft__rt.spare = w;
		weft__rt.nspare++;
	}
	weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	if (poll) {
		weft__fence_heavy();		/* [WATCH] A2; and what was queued while nobody listened */
		if (weft__work_anywhere())
			weft__idle_wake();
		sleep_poller(w, first);
		return;
	}
	sleep_futex(w);
	weft__vp_attach(w, w->next_vp, &w->sched);
}

static void go_idle(struct weft__worker *w, struct weft__vp *vp, bool spun)
{
	uint64_t first = 0, turn_ns = vp->turn_ns;
	bool poll;

	weft__rate_coming(vp);

	weft__hook_worker_idle(w);
	/* under its lock: a retake that began when a fiber ran here still ([RETAKE] R1) would put the VP back afterwards */
	weft__lock(&w->lock, WEFT__RANK_LEAF);
	atomic_store_explicit(&w->vp, NULL, memory_order_relaxed);
	weft__unlock(&w->lock, WEFT__RANK_LEAF);
	weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	push_idle(vp);
	poll = weft__rt.poller == NULL;
	w->next_vp = NULL;
	if (poll) {
		first = become_poller(w);
	} else {
		w->next = weft__rt.spare;
		weft__rt.spare = w;
		weft__rt.nspare++;
	}
	weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
	weft__fence_heavy();		/* I2, and A2 of [WATCH] */
	if (spun ? weft__theft_pays(NULL, turn_ns) : weft__work_anywhere())	/* I3: to whoever sleeps now, perhaps to us */
		weft__idle_wake();
	else if (spun && atomic_load_explicit(&weft__rt.monitor_asleep, memory_order_relaxed) && weft__work_anywhere())
		weft__hook_monitor_wake();	/* [REST] what does not pay now */
	/* the timer of whom we ran last may be earlier than what the poller sleeps for; I2 is its fence too */
	if (!poll && weft__first_timer() <
		     atomic_load_explicit(&weft__rt.watch_deadline, memory_order_relaxed))
		weft__hook_poll_break();
	if (poll) {
		sleep_poller(w, first);
		return;
	}
	sleep_futex(w);
	weft__vp_attach(w, w->next_vp, &w->sched);
}

struct weft__vp *weft__vp_reacquire(struct weft__fiber *self)
{
	struct weft__worker *w = self->worker;
	struct weft__vp *vp = take_idle(weft__home_vp(self));

	if (vp) {
		if (atomic_exchange_explicit(&w->stalled, 0, memory_order_relaxed))
			atomic_fetch_sub_explicit(&weft__rt.nblocked, 1, memory_order_relaxed);
		weft__vp_attach(w, vp, self);
	}
	return vp;
}

bool weft__vp_retake(struct weft__worker *w, struct weft__vp **out)
{
	struct weft__vp *vp;
	struct weft__fiber *f;
	bool taken = false;

	weft__lock(&w->lock, WEFT__RANK_LEAF);
	vp = atomic_load_explicit(&w->vp, memory_order_relaxed);
	if (vp) {
		uint64_t lease = atomic_load_explicit(&vp->lease, memory_order_relaxed);

		f = *(struct weft__fiber *volatile *)&vp->current;
		if (f && f != &w->sched && f->nopreempt == 0) {
			atomic_store_explicit(&w->vp, NULL, memory_order_relaxed);	/* R1 */
			atomic_store_explicit(&vp->lease, WEFT__NO_LEASE, memory_order_relaxed);
			weft__fence_heavy();						/* R2 */
			taken = *(volatile uint32_t *)&f->nopreempt == 0 &&		/* R3 */
				*(struct weft__fiber *volatile *)&vp->current == f;
			if (!taken) {
				atomic_store_explicit(&vp->lease, lease, memory_order_relaxed);
				atomic_store_explicit(&w->vp, vp, memory_order_relaxed);
			}
		}
	}
	if (taken) {
		uint32_t n;

		/* [NOTIFY-3] release, by R2: that it is taken, before the VP can have another fiber; pairs with weft__signal_notify */
		vp->current = NULL;
		atomic_store_explicit(&vp->worker, NULL, memory_order_relaxed);
		atomic_store_explicit(&w->stalled, 1, memory_order_relaxed);
		n = atomic_fetch_add_explicit(&weft__rt.nblocked, 1, memory_order_relaxed) + 1;
		if (n > atomic_load_explicit(&weft__rt.nblocked_max, memory_order_relaxed))
			atomic_store_explicit(&weft__rt.nblocked_max, n, memory_order_relaxed);
		atomic_fetch_add_explicit(&weft__rt.n.handoffs, 1, memory_order_relaxed);
		*out = vp;
	}
	weft__unlock(&w->lock, WEFT__RANK_LEAF);
	return taken;
}

/* A fiber gives its VP away before a system call that will stall. Preemption disabled. */
void weft__vp_surrender(struct weft__fiber *self)
{
	struct weft__worker *w = self->worker;
	struct weft__vp *vp = weft__vp_of(self);
	uint32_t n;

	if (!vp)
		return;
	if (atomic_load_explicit(&vp->prepared, memory_order_relaxed))	/* [BATCH] */
		weft__hook_submit(vp);
	weft__lock(&w->lock, WEFT__RANK_LEAF);
	atomic_store_explicit(&w->vp, NULL, memory_order_relaxed);
	atomic_store_explicit(&vp->lease, WEFT__NO_LEASE, memory_order_relaxed);
	atomic_store_explicit(&w->stalled, 1, memory_order_relaxed);
	weft__unlock(&w->lock, WEFT__RANK_LEAF);
	vp->current = NULL;
	atomic_store_explicit(&vp->worker, NULL, memory_order_relaxed);
	n = atomic_fetch_add_explicit(&weft__rt.nblocked, 1, memory_order_relaxed) + 1;
	if (n > atomic_load_explicit(&weft__rt.nblocked_max, memory_order_relaxed))
		atomic_store_explicit(&weft__rt.nblocked_max, n, memory_order_relaxed);
	atomic_fetch_add_explicit(&weft__rt.n.handoffs, 1, memory_order_relaxed);
	weft__vp_give(vp);
}
