/* SPDX-License-Identifier: MIT
 * What the monitor sees of busy VPs and stalled workers, and does about them. When it looks: monitor.c.
 *
 * PREEMPTED   a VP whose scheduling count has not moved for a quantum, with something queued for it, is kicked; at once, if what is
 *     queued was woken from outside (a timer, a descriptor, a foreign thread) and no VP is idle.
 * BLOCKED     a worker that left its CPU to wait, by record, mark or state, and something is queued: its VP goes to a sleeping worker.
 *     Records are armed only while something is queued: a worker that stalls while nobody else wants to run costs nothing.
 * UNBLOCKED   a worker that runs again without a VP is kicked, so that its fiber enters the scheduler (preempt.c); but not before it
 *     has run for a while (GRACE_NS): who waits in the kernel by a way that no wrapper sees tends to do so again soon (libgomp's
 *     barriers), and without a VP that costs nobody anything. The kernel shares the CPUs out meanwhile.
 * SHORT       [SHORT] no kernel thread can be made for a VP (RLIMIT_NPROC, the pids cgroup, memory), and all there are stall, perhaps for what
 *     a queued fiber holds. So that this is no deadlock, one of those that wait is interrupted: its handler (preempt.c) takes the VP, queues its
 *     fiber and runs the next one on this worker. When its turn comes it goes back to wait, stalls, and the next is interrupted: slow, but each
 *     queued fiber runs in time. Only here may a call that the program made by a way that no wrapper sees end with EINTR by our doing.
 * How often:  [LIVELY] twice in a quantum, and when one ends. But a VP whose fibers take turns of microseconds says so itself, whenever it looks
 *     around (round_at): as long as all busy ones do, the next kernel tick that comes in two quanta is soon enough (monitor.c). A timer of our own
 *     costs 25 us of the CPU that they share with us, where the hardware's is emulated, and an armed record one wake-up for nothing whenever
 *     another process gets the CPU. The price: the first turn of a fiber that computes is noticed later (measured: 2.4 to
 *     2.7 ms instead of 2.1, nine in ten below 5 instead of 3), and so is a stall that no wrapper sees, if it is the first within a second
 *     (2.5 ms, nine in ten below 5.3 instead of 3.6).
 *     [REST] Where all VPs run hogs and nobody waits but hogs, it is known when each has to make way, and there is nothing else to see: after a few
 *     such looks the next one is when the first of them has (monitor.c). Turns that end soon after end with it.
 * Context:    the monitor.
 */
#include "runtime/hooks.h"
#include "sched/fifo.h"
#include "upcall/longslice.h"
#include "upcall/upcall.h"
#include "upcall/uring.h"
#include "weft/upcall.h"

#define US 1000u
#define MS 1000000u
#define RETRY_NS (100 * US)		/* between attempts to preempt the same fiber, at least */
#define HOG_NS (50 * US)		/* a fiber that ran that long will not look at the common queue by itself */
/* It makes way for the common queue at once if it has used up a quantum already, else only after this time: most are about to wait
 * anyway, and one that is preempted with a lock of the program's own in its hands makes everybody else wait, or spin. */
#define GRAIN_NS (500 * US)
#define MARK_NS (20 * US)		/* marks: a call that lasts that long stalls */
#define BACKOFF_MIN_US 100u
#define BACKOFF_MAX_US 16000u	/* a fiber that stalls after so long without one is found by the look at the end of its quantum */
#define GRACE_NS MS
#define SOON_OVER 8u		/* parts of a slice: the last one is not worth a look of its own (preempt.c:slice_over) */
#define ROTATE_NS MS
#define LATE 2u				/* quanta between two looks, at most, while something is queued */
#define STALLS_NS (1000 * MS)		/* after a stall so recent, nobody is lively: the next one is to be seen at once */
#define LIVELY 3u			/* 64 turns took less than the third of a quantum, and the VP has just looked around */

enum weft_blocked_source weft__source;

static uint64_t rng;
static struct weft__worker *back;	/* workers that run without a VP, by back_next */
static uint64_t rotated_at;		/* two VPs took turns at what one of them has more, last */
static uint64_t handed_at;		/* a VP from a worker that stalled, last */
static struct weft__worker *freed;	/* the last one that was interrupted for want of workers */

void weft__look_start(void)
{
	rng = weft__now() | 1;
	back = freed = NULL;	/* in the child of a fork, the parent's */
}

bool weft__look_queued(void)
{
	if (weft__work_anywhere())
		return true;
	for (unsigned i = 0; i < weft__rt.nvps; i++)
		if (atomic_load_explicit(&weft__rt.vp[i].runnext, memory_order_relaxed) ||
		    atomic_load_explicit(&weft__rt.vp[i].prepared, memory_order_relaxed))		/* M3 of [BATCH] */
			return true;
	return false;
}

static void hand_off(struct weft__worker *w, uint64_t since)
{
	struct weft__vp *vp;

	if (!weft__vp_retake(w, &vp))
		return;
	handed_at = weft__now();
	weft__blocked_note(handed_at - since);
	w->backoff_us = 0;
	weft__vp_give(vp);
	weft__monitor_adopt();
	if (weft__source == WEFT_BLOCKED_RECORDS)
		weft__records_arm(w);		/* to see it come back */
}

/* Something is queued: does it help to free this worker's VP? */
void weft__look_record(struct weft__worker *w, uint64_t now)
{
	switch (weft__records_read(w)) {
	case WEFT__SEEN_NOTHING:	/* it came back from where we did not see it go: the room is used up all the same */
		break;
	case WEFT__SEEN_BLOCKED:
		if (atomic_load_explicit(&w->vp, memory_order_relaxed) && weft__look_queued())
			hand_off(w, w->out_at ? w->out_at : now);
		break;
	case WEFT__SEEN_BACK:
	case WEFT__SEEN_PREEMPTED:	/* then it ran before */
		if (atomic_load_explicit(&w->stalled, memory_order_relaxed)) {
			if (!w->back_at) {
				w->back_next = back;
				back = w;
			}
			w->back_at = now;
			weft__records_mute(w);		/* weft__look_back arms it */
			return;
		}
		break;
	}
	if (atomic_load_explicit(&w->stalled, memory_order_relaxed)) {
		weft__records_arm(w);	/* this was not its return, or it stalls again before the kick */
		return;
	}
	/* Silent until armed again (look), later each time that nothing came of it. */
	weft__records_mute(w);
	w->backoff_us = w->backoff_us ? 2 * w->backoff_us : BACKOFF_MIN_US;
	if (w->backoff_us > BACKOFF_MAX_US)
		w->backoff_us = BACKOFF_MAX_US;
	w->rearm_at = now + (uint64_t)w->backoff_us * US;
	w->armed = false;
}

/* Workers that came back without a VP and have had their time. */
void weft__look_back(uint64_t now, uint64_t *next)
{
	struct weft__worker **at = &back, *w;

	while ((w = *at)) {
		if (atomic_load_explicit(&w->stalled, memory_order_relaxed)) {
			if (now - w->back_at < GRACE_NS) {
				weft__min_of(next, w->back_at + GRACE_NS);
				at = &w->back_next;
				continue;
			}
			/* armed first: if it waits, its return is seen; it may also wait again before the kick */
			weft__records_arm(w);
			if (!weft__state_blocked(w))
				weft__kick(w, now);
		}
		*at = w->back_next;
		w->back_at = 0;
	}
}

/* A VP is carried by w and its count has not moved since the last look: does w stall? */
static bool stalls(struct weft__worker *w, uint64_t now)
{
	switch (weft__source) {
	case WEFT_BLOCKED_MARKS:
		if (atomic_load_explicit(&w->mark, memory_order_relaxed) != WEFT__B_MARKED)
			/* in the kernel by a way that no wrapper sees (libc's own calls, raw ones)? Ask, but rarely. */
			return now - w->seen_since >= MS && weft__state_blocked(w);
		if (w->seen_mark != *(volatile uint32_t *)&w->mark_seq) {
			w->seen_mark = *(volatile uint32_t *)&w->mark_seq;
			w->out_at = now;
			return false;
		}
		return now - w->out_at >= MARK_NS;
	default:
		return weft__state_blocked(w);
	}
}

static uint64_t random_up_to(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

static uint64_t quantum(void)
{
	if (weft__rt.cfg.fuzz_ns)
		return weft__rt.cfg.fuzz_ns + random_up_to(20 * weft__rt.cfg.fuzz_ns);
	return weft__rt.cfg.quantum_ns;
}

/* Its fiber, which has run for `ran`, is to make way. */
static void kick_after(struct weft__worker *w, struct weft__vp *vp, uint64_t ran, uint64_t now)
{
	/* relaxed: a hint; of a kick that comes again, or too late, the next preemption is charged */
	atomic_store_explicit(&vp->ran_us, ran < 1000 * MS ? (uint32_t)(ran / US) : 1000000u, memory_order_relaxed);
	weft__kick(w, now);
}

/* When to look again at a worker that was to make way. One that has not even taken the signal has no CPU: the kernel gave it to another
 * process, and looking often, which takes still more of it away, does not help. So after twice the time each, up to half a quantum. */
static uint64_t retry(struct weft__worker *w, uint64_t now)
{
	/* relaxed: hints */
	uint64_t since = now - atomic_load_explicit(&w->kicked_at, memory_order_relaxed);

	if (!atomic_load_explicit(&w->kicked, memory_order_relaxed) || since < RETRY_NS)
		return RETRY_NS;
	return since < weft__rt.cfg.quantum_ns / 2 ? since : weft__rt.cfg.quantum_ns / 2;
}

/* How long may this hog run in this turn? For what is left of its slice; but not longer than a quantum if others wait than hogs. */
static uint64_t turn_of(const struct weft__fiber *f, bool calm)
{
	uint64_t q = quantum(), slice = weft__longslice_of(f, q), had = *(volatile uint32_t *)&f->ran_us * (uint64_t)US;

	slice = slice > had + RETRY_NS ? slice - had : RETRY_NS;
	return calm || slice < q ? slice : q;
}

/* What look_at is to know of all VPs. */
struct all {
	bool injected;		/* something is in the common queue, and no VP is idle */
	bool urgent;		/* it was woken from outside */
	bool calm;		/* nobody waits but hogs */
	uint32_t most;		/* the longest queue of a VP */
};

/* Is this VP, at the end of a slice, to take a fiber from one that has more queued? If only one more, they take turns, once in such a slice: a
 * fiber that moves leaves its caches, and a theft is an interrupt to all CPUs. */
static bool is_to_share(const struct weft__vp *vp, const struct all *all, uint64_t slice, uint64_t now)
{
	uint32_t len = atomic_load_explicit(&vp->len, memory_order_relaxed);

	if (weft__rt.ops->tick)		/* which fibers are equals, that policy knows: to a VP that has none, as ever */
		return len == 0 && all->most >= 2;
	if (all->most == len + 1) {
		if (now - rotated_at < (slice > ROTATE_NS ? slice : ROTATE_NS))
			return false;
		rotated_at = now;
	}
	return all->most > len;
}

/* A fiber began on vp after the last look. When? In the middle of what is possible, as a rule, and so a quantum is one on average. If that look
 * was long ago: now. */
static uint64_t middle(const struct weft__vp *vp, const struct weft__worker *w, uint64_t now)
{
	uint64_t after = atomic_load_explicit(&vp->round_at, memory_order_relaxed);

	if (after < w->seen_at || after > now)
		after = w->seen_at;
	return now - after <= LATE * weft__rt.cfg.quantum_ns ? now - (now - after) / 2 : now;
}

/* [LIVELY] Whoever runs there began after it looked around. Another policy does not show whether hogs wait. */
static bool is_lively(const struct weft__vp *vp, uint64_t now)
{
	uint64_t round = atomic_load_explicit(&vp->round_at, memory_order_relaxed);

	if (now < handed_at + STALLS_NS || weft__rt.cfg.fuzz_ns)	/* a hand-off of this round is later than `now` */
		return false;
	return (round >= now || LIVELY * (now - round) < weft__rt.cfg.quantum_ns) &&
	       weft__rt.ops == &weft_sched_fifo && !weft__fifo_has_hogs(vp->queue);
}

/* One busy VP, with something queued somewhere. Lowers *next to when to look again. */
static enum weft__mood look_at(struct weft__vp *vp, const struct all *all, uint64_t now, uint64_t *next)
{
	struct weft__worker *w = atomic_load_explicit(&vp->worker, memory_order_relaxed);
	uint64_t tick = atomic_load_explicit(&vp->tick, memory_order_relaxed), began, ran, grain, q;
	struct weft__fiber *f = *(struct weft__fiber *volatile *)&vp->current;
	bool own, hog, first, calm, over, shares = false;

	if (!w || w->stalled)
		return WEFT__BUSY;
	/* a stale look at a fiber that has just left costs a preemption too early, or GRAIN_NS too late */
	hog = f && *(volatile uint32_t *)&f->node.slices;
	calm = hog && all->calm;
	q = hog ? turn_of(f, all->calm) : quantum();
	first = tick != w->seen_tick;
	if (first) {
		began = atomic_load_explicit(&vp->hog_since, memory_order_relaxed);	/* of hogs it is known */
		if (began > now || atomic_load_explicit(&vp->hog_turn, memory_order_relaxed) != tick)
			began = middle(vp, w, now);
		w->seen_since = began;
		w->seen_tick = tick;
		w->slow_looks = 0;
		w->out_at = 0;
	}
	w->seen_at = now;
	ran = now - w->seen_since;
	over = ran >= q || (calm && q - ran <= q / SOON_OVER);
	own = atomic_load_explicit(&vp->len, memory_order_relaxed) ||
	      atomic_load_explicit(&vp->runnext, memory_order_relaxed) ||
	      atomic_load_explicit(&vp->prepared, memory_order_relaxed);
	switch (weft__source) {
	case WEFT_BLOCKED_RECORDS:
		if (!hog && !all->injected && is_lively(vp, now))
			return WEFT__LIVELY;
		if (!w->armed && now >= w->rearm_at) {
			w->armed = true;
			weft__records_arm(w);
			/* it may have stalled before */
			if (weft__state_blocked(w)) {
				/* since when is not known; it matters since something is queued, that is, since we woke */
				hand_off(w, now);
				return WEFT__BUSY;
			}
		}
		if (calm && !w->armed)
			weft__min_of(next, w->rearm_at);
		break;
	case WEFT_BLOCKED_MARKS:
		if (stalls(w, now)) {
			hand_off(w, w->out_at ? w->out_at : now);
			return WEFT__BUSY;
		}
		weft__min_of(next, now + (w->slow_looks++ < 50 ? MARK_NS : MS));
		break;
	default:
		if (!first && stalls(w, now)) {
			hand_off(w, w->seen_since);
			return WEFT__BUSY;
		}
		weft__min_of(next, now + (w->slow_looks++ < 10 ? 200 * US : MS));
		break;
	}
	grain = !hog ? GRAIN_NS : all->urgent ? 0 : HOG_NS;
	if (all->injected && ran < grain)
		weft__min_of(next, w->seen_since + grain);
	if (over)
		shares = is_to_share(vp, all, q, now);
	if (!(own || all->injected || (!over ? all->most != 0 : shares)))
		return calm && !over ? WEFT__CALM : WEFT__BUSY;
	/* Never a signal for one that waits: it would come out of its system call, give way, and go in again. From the end of a quantum on
	 * this is asked directly, unless its records, whatever the source, say that it has not left its CPU. */
	if (over && !weft__records_runs(w) && weft__state_blocked(w)) {
		hand_off(w, now);
		return WEFT__BUSY;
	}
	if ((over && (own || shares)) || (all->injected && ran >= grain)) {
		if (all->injected)
			vp->from_inject = true;
		if (shares)
			atomic_store_explicit(&vp->shares, true, memory_order_relaxed);
		kick_after(w, vp, ran, now);
		weft__min_of(next, now + retry(w, now));
	} else if (!over) {
		weft__min_of(next, w->seen_since + q);
	}
	return calm ? WEFT__CALM : WEFT__BUSY;
}

/* Stalled workers that came back unseen: without records nobody tells. */
void weft__look_for_returned(uint64_t now)
{
	/* [WORKERS-1] acquire; pairs with release in runtime/start.c:worker_publish */
	struct weft__worker *w = atomic_load_explicit(&weft__rt.workers, memory_order_acquire);

	for (; w; w = w->all_next)
		/* not in every round of a busy monitor, or it gets nowhere */
		if (atomic_load_explicit(&w->stalled, memory_order_relaxed) &&
		    now - atomic_load_explicit(&w->kicked_at, memory_order_relaxed) >= RETRY_NS && !weft__state_blocked(w))
			weft__kick(w, now);
}

void weft__look_free_worker(uint64_t now)
{
	/* [WORKERS-1] acquire; pairs with release in runtime/start.c:worker_publish */
	struct weft__worker *first = atomic_load_explicit(&weft__rt.workers, memory_order_acquire), *w = freed;

	/* in turn: the last one may be where it cannot make way */
	for (uint32_t n = atomic_load_explicit(&weft__rt.nworkers, memory_order_relaxed); n; n--) {
		w = w && w->all_next ? w->all_next : first;
		if (w && atomic_load_explicit(&w->stalled, memory_order_relaxed) && !atomic_load_explicit(&w->kicked, memory_order_relaxed)) {
			freed = w;
			weft__kick(w, now);
			return;
		}
	}
}

uint64_t weft__look_soon(uint64_t now)
{
	return now + weft__rt.cfg.quantum_ns / 2;
}

/* Does nobody wait but hogs? */
static bool is_calm(void)
{
	/* operations that are complete are found at the end of a quantum, if nobody rings for them */
	return atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed) == 0 && !weft__uring_busy() && weft__longslice_calm();
}

bool weft__look_same(void)
{
	for (unsigned i = 0; i < weft__rt.nvps; i++) {
		const struct weft__vp *vp = &weft__rt.vp[i];
		const struct weft__worker *w = atomic_load_explicit(&vp->worker, memory_order_relaxed);

		/* relaxed: after a heavy fence */
		if (!w || atomic_load_explicit(&vp->tick, memory_order_relaxed) != w->seen_tick ||
		    atomic_load_explicit(&vp->hog_turn, memory_order_relaxed) != w->seen_tick)
			return false;
	}
	return is_calm();
}

uint64_t weft__look(uint64_t now, bool urgent, enum weft__mood *mood)
{
	uint64_t next = UINT64_MAX;
	static unsigned first;
	struct all all = {
		.injected = atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed) != 0 && weft__idle_vps() == 0,
		.urgent = urgent,
		.calm = is_calm(),
	};

	for (unsigned i = 0; i < weft__rt.nvps; i++) {
		uint32_t len = atomic_load_explicit(&weft__rt.vp[i].len, memory_order_relaxed);

		if (len > all.most)
			all.most = len;
	}
	first++;
	for (unsigned i = 0; i < weft__rt.nvps; i++) {
		enum weft__mood m = look_at(&weft__rt.vp[(first + i) % weft__rt.nvps], &all, now, &next);

		*mood = i == 0 || m == *mood ? m : WEFT__BUSY;
	}
	if (*mood == WEFT__LIVELY)
		weft__min_of(&next, now + LATE * weft__rt.cfg.quantum_ns);
	else if (*mood == WEFT__BUSY)
		weft__min_of(&next, weft__rt.cfg.fuzz_ns ? now + weft__rt.cfg.fuzz_ns : weft__look_soon(now));
	/* a slot that stays full beside an idle VP (sched.c, ping-pong) */
	if (weft__idle_vps())
		weft__idle_wake();
	return next;
}
