/* SPDX-License-Identifier: MIT
 * The monitor: the one kernel thread without a VP. It turns what the kernel says into upcalls.
 *
 * It sleeps in an epoll of its own on: an eventfd (weft__hook_monitor_wake), the switch records of the workers that are armed, the
 * netpoller's epoll while neither a sleeping worker nor the busy VPs attend to it, a signalfd; and until the first of: the next look at
 * the VPs, the first timer.
 *
 * When it looks (tick): only while a fiber is queued that does not run. With nothing queued there is nothing to preempt for, nothing
 *     to hand a VP on for; then it sleeps without limit (monitor_asleep) and whoever queues something wakes it (sched.c). To
 *     spare them that system call it goes on ticking for LINGER looks after the last sight of a queue. It also rests where only hogs run and
 *     wait ([REST], look.c), until the first of them has to make way, or
 *     - somebody queues a fiber (sched.c:wake_monitor),
 *     - a hog leaves its VP before its time to another (sched.c:weft__pick_queued) or to who joins it (weft__switch_to): then there may be
 *       descriptors or completions to wait for, and another turn begins,
 *     - a VP goes idle and leaves what is queued to us (worker.c:go_idle).
 *     Whoever does so looks at monitor_asleep afterwards: a light fence, or I2. We set it (R1), fence heavily (R2), and see what they did (R3,
 *     weft__look_same), or they see that we sleep. A fiber that is queued and begins to run while R3 looks may be missed: then its
 *     turn ends late, for the hogs behind it, or when it leaves.
 * What it does then is in look.c.
 * Context:    its own thread, all signals blocked; never blocks but in that epoll. It may make kernel threads.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/extras.h"
#include "runtime/hooks.h"
#include "runtime/sync.h"
#include "upcall/cancel.h"
#include "upcall/fault.h"
#include "upcall/fds.h"
#include "upcall/ids.h"
#include "upcall/memory.h"
#include "upcall/netpoll.h"
#include "upcall/signals.h"
#include "upcall/upcall.h"
#include "upcall/uring.h"
#include "weft/upcall.h"

#define US 1000u
#define MS 1000000u
#define LINGER 10u
#define REST 2u			/* calm looks before it rests: who queues something every few milliseconds need not wake it each time */
#define UNPOLLED_NS (50 * US)	/* since anybody took descriptors: nobody is about to */
/* VPs that are busy with descriptors poll whenever their queue is empty, and every 64 schedulings. So long after the last time the monitor
 * leaves it to them: else it would wake for every event that they are about to take. After that it looks if they schedule so often (TICK_NS) that
 * they come to it by themselves; or else so often (SLOW_TICK_NS) that they will do so soon if they are asked, before it would interrupt their
 * fibers for what it takes (look.c: GRAIN_NS); or else takes the events itself. As long as they attend it looks ever more rarely: on a CPU that
 * it shares with them every look costs a timer, two switches, and what is in the cache.
 *
 * Of what it takes itself UNTAKEN are enough: with as many in the common queue it leaves the rest to the VPs again. A VP that attended to nothing
 * because something else had its CPU will not be back sooner for it; and if it is the monitor that has this CPU, with thousands of
 * descriptors ready, then the monitor would be what keeps it from attending, for whole slices of the kernel's. */
#define ATTENTION_NS (500 * US)
#define ATTENTION_MAX_NS (4 * MS)
#define TICK_NS (30 * US)
#define SLOW_TICK_NS (250 * US)
#define UNTAKEN 32u
/* Timers that close are taken in one go (the kernel's default slack is 50 µs). Where VPs take what is due before the monitor would (they look
 * whenever their queue is empty, and every 64 schedulings), it leaves them ever more time. */
#define TIMER_SLACK_NS (20 * US)
#define TIMER_SLACK_DENSE_NS (100 * US)	/* an idle VP would take them 50 µs late itself */
#define TIMER_SLACK_MAX_NS (400 * US)
#define RETURNED_NS (10 * MS)	/* between looks for stalled workers that came back, while nothing is queued */
#define IDLE_LOOK_NS (500 * US)	/* an idle VP leaves a short queue alone (help.c): if it does not move on, it is for us to see */
#define SHORT_NS (100 * US)	/* between attempts to make a kernel thread when none can be made */
#define EXEC_NS (100 * MS)	/* longer than an exec takes to begin or to fail */
#define EVENTS 64

static struct {
	int epfd, evfd, sigfd;
	_Atomic uint32_t notified;	/* the eventfd is readable */
	struct weft__fiber self;
	unsigned idle_looks, calm_looks;
	pid_t tid;
	int netpoll_fd;			/* what is registered in epfd, -1: nothing */
	bool netpoll_on;
	bool urgent;			/* see weft__look */
	uint64_t ticks, ticks_at, patience;	/* see vps_attend */
	bool attended;
	uint64_t short_since;		/* with weft__rt.short_of_workers */
	uint64_t announced;		/* in watch_deadline, last time; 0: not by us */
	uint64_t slack, due;		/* see run_timers */
	uint64_t kernel_slack;		/* timer slack of this thread, ns; 0: not set yet */
} mon = { .epfd = -1, .evfd = -1, .sigfd = -1, .patience = ATTENTION_NS, .slack = TIMER_SLACK_NS };

static char tag_event, tag_netpoll, tag_signal;

void weft__hook_monitor_wake(void)
{
	uint64_t one = 1;

	/* [MON-1] acq_rel; pairs with the exchange in drain: what was submitted before is seen after */
	if (mon.evfd >= 0 &&
	    atomic_exchange_explicit(&mon.notified, 1, memory_order_acq_rel) == 0)
		syscall(SYS_write, mon.evfd, &one, sizeof one);
}

static void drain(void)
{
	uint64_t n;

	syscall(SYS_read, mon.evfd, &n, sizeof n);
	/* [MON-1] acq_rel; pairs with the exchange in weft__hook_monitor_wake */
	atomic_exchange_explicit(&mon.notified, 0, memory_order_acq_rel);
}

static bool somebody_polls(void)
{
	return *(struct weft__worker *volatile *)&weft__rt.poller != NULL;
}

/* No kernel thread could be made. While a thread is in exec the kernel refuses all: nothing to report, unless it lasts. */
static void short_of_workers(int err)
{
	static bool told;
	uint64_t now = weft__now();

	if (!atomic_exchange_explicit(&weft__rt.short_of_workers, true, memory_order_relaxed)) {
		mon.short_since = now;
	} else if (!told && now - mon.short_since > EXEC_NS) {
		weft__warn("no kernel thread for a virtual processor: %s (RLIMIT_NPROC, the pids cgroup or memory); going on with fewer",
			   strerror(-err));
		told = true;
	}
	weft__look_free_worker(now);
	/* Who is to come is interrupted, and has to have time to do so: without a pause it would be interrupted by each of a hundred thousand of our
	 * rounds a second, and never come. */
	syscall(SYS_nanosleep, &(struct timespec){ 0, SHORT_NS }, NULL);
}

/* VPs that found no sleeping worker to carry them. */
void weft__monitor_adopt(void)
{
	for (;;) {
		struct weft__vp *vp;
		int err;

		weft__lock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		vp = weft__rt.orphans;
		if (vp)
			weft__rt.orphans = vp->idle_next;
		weft__unlock(&weft__rt.idle_lock, WEFT__RANK_IDLE);
		if (!vp)
			return;
		weft__ids_born(1);
		err = weft__worker_new(vp);
		if (err) {
			weft__ids_born(-1);
			if (vp->spinning) {
				vp->spinning = false;
				atomic_fetch_sub_explicit(&weft__rt.nspin, 1, memory_order_relaxed);
			}
			weft__vp_release(vp);
			short_of_workers(err);
			return;
		}
		atomic_store_explicit(&weft__rt.short_of_workers, false, memory_order_relaxed);
	}
}

/* Will the busy VPs take what is ready? */
static bool vps_attend(uint64_t now)
{
	uint64_t ticks = 0, n, since = mon.ticks_at;

	/* `now` may be older than the last poll, or the last look */
	if (now < since + ATTENTION_NS)
		return mon.attended || now < weft__netpoll_attended() + ATTENTION_NS;
	/* relaxed: hints */
	for (unsigned i = 0; i < weft__rt.nvps; i++)
		ticks += atomic_load_explicit(&weft__rt.vp[i].tick, memory_order_relaxed);
	n = ticks - mon.ticks;
	mon.ticks = ticks;
	mon.ticks_at = now;
	mon.attended = now < weft__netpoll_attended() + ATTENTION_NS || n >= (now - since) / TICK_NS;
	if (mon.attended) {
		if (mon.patience < ATTENTION_MAX_NS)
			mon.patience *= 2;
		return true;
	}
	mon.patience = ATTENTION_NS;
	mon.attended = n >= 2 && n >= (now - since) / SLOW_TICK_NS;
	for (unsigned i = 0; mon.attended && i < weft__rt.nvps; i++)
		weft__rt.vp[i].from_inject = true;
	return mon.attended;
}

/* Is enough there that the VPs have to take first? */
static bool vps_owe(void)
{
	/* relaxed: a hint */
	return atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed) >= UNTAKEN;
}

static void arm_netpoll(bool on)
{
	struct epoll_event ev = { .events = on ? EPOLLIN | EPOLLONESHOT : 0, .data.ptr = &tag_netpoll };
	int fd = weft__netpoll_fd();

	if (mon.netpoll_fd != fd) {
		mon.netpoll_fd = fd;
		mon.netpoll_on = false;
		epoll_ctl(mon.epfd, EPOLL_CTL_ADD, fd, &ev);
		mon.netpoll_on = on;
		return;
	}
	if (on != mon.netpoll_on)
		epoll_ctl(mon.epfd, EPOLL_CTL_MOD, fd, &ev);
	mon.netpoll_on = on;
}

static void make_own(void)
{
	weft__fd_low_begin();
	mon.epfd = weft__fd_protect((int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
	mon.evfd = weft__fd_protect((int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
	weft__fd_low_end();
}

/* The program closed our descriptors by a way that no wrapper sees. The rings cannot be polled any more: task states will do. */
static void rebuild(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &tag_event };

	weft__fd_lost(mon.epfd);
	weft__fd_lost(mon.evfd);
	make_own();
	if (mon.epfd < 0 || mon.evfd < 0 || epoll_ctl(mon.epfd, EPOLL_CTL_ADD, mon.evfd, &ev) != 0)
		weft__die("the monitor's descriptors were closed and cannot be made again");
	atomic_store_explicit(&mon.notified, 0, memory_order_relaxed);
	mon.netpoll_fd = -1;
	if (weft__source == WEFT_BLOCKED_RECORDS)
		weft__source = WEFT_BLOCKED_STATE;
}

/* What is due by more than the slack, for VPs that are busy. Returns the first that is left. */
static uint64_t run_timers(uint64_t now, bool attended)
{
	uint64_t first = weft__first_timer();

	if (!attended && first <= now && now - first >= mon.slack) {
		mon.urgent |= weft__all_timers_run(now) > 0;
		/* relaxed: a hint */
		mon.slack = atomic_load_explicit(&weft__rt.timers_dense, memory_order_relaxed) ? TIMER_SLACK_DENSE_NS : TIMER_SLACK_NS;
		first = weft__first_timer();
	} else if (!attended && mon.due && first > mon.due && now >= mon.due + mon.slack && mon.slack < TIMER_SLACK_MAX_NS) {
		mon.slack *= 2;		/* we woke for one that somebody has taken */
	}
	mon.due = 0;
	return first;
}

static void one_round(void)
{
	struct epoll_event ev[EVENTS];
	uint64_t now = weft__now(), next = UINT64_MAX, first;
	bool queued, attended, may_owe, vps_poll, sleepy = false, asleep, lively, rests;
	enum weft__mood mood = WEFT__BUSY;
	uint64_t slack;
	struct timespec ts, *timeout = NULL;
	int n;

	weft__ids_catch_up(NULL);
	weft__monitor_adopt();
	weft__posts_run();
	attended = somebody_polls();
	/* completions come by the same epoll, and a VP that computes is no help with them */
	may_owe = !weft__uring_busy();
	vps_poll = attended || (may_owe && (vps_attend(now) || vps_owe()));
	if (!vps_poll && weft__netpoll_busy() && now - weft__netpoll_last() > UNPOLLED_NS) {
		mon.urgent |= weft__hook_poll(0, WEFT__POLL_MAX) > 0;
		vps_poll = may_owe && vps_owe();
	}
	mon.urgent |= weft__uring_drain() > 0;
	first = run_timers(now, attended);
	weft__look_back(now, &next);
	queued = weft__look_queued();
	if (queued && weft__idle_vps() < weft__rt.nvps) {
		weft__records_begin(now, mon.epfd);
		weft__min_of(&next, weft__look(now, mon.urgent, &mood));
	} else if (queued) {
		weft__idle_wake();
	}
	mon.urgent = false;
	lively = mood == WEFT__LIVELY;
	mon.calm_looks = mood == WEFT__CALM ? mon.calm_looks + 1 : 0;
	rests = mon.calm_looks > REST && !(vps_poll && weft__hook_poll_busy());
	if (weft__source != WEFT_BLOCKED_RECORDS &&
	    atomic_load_explicit(&weft__rt.nblocked, memory_order_relaxed)) {
		weft__look_for_returned(now);
		weft__min_of(&next, now + (queued ? MS : RETURNED_NS));
	}
	if (queued)
		mon.idle_looks = 0;
	else if (weft__idle_vps() == weft__rt.nvps || ++mon.idle_looks >= LINGER)
		sleepy = true;
	/* Who finds monitor_asleep 0 takes it that we look again by ourselves: also if what was queued has just been handed to somebody. */
	if (!sleepy && !rests) {
		if (!lively)
			weft__min_of(&next, weft__look_soon(now));
		if (weft__idle_vps())
			weft__min_of(&next, now + IDLE_LOOK_NS);
		weft__min_of(&next, now + RETURNED_NS);
	}
	attended = somebody_polls();
	weft__min_of(&next, weft__uring_moderate(!attended, now));
	weft__min_of(&next, weft__cancel_again(now));
	arm_netpoll(!attended && !vps_poll && weft__hook_poll_busy());
	if (!attended && vps_poll && !lively && weft__hook_poll_busy())
		weft__min_of(&next, now + mon.patience);
	if (!attended) {
		if (first != WEFT__NEVER) {
			mon.due = first;
			weft__min_of(&next, first + mon.slack);
		}
		mon.announced = first < next ? first : next;
		/* relaxed, then a heavy fence: pairs with sched.c:weft__switch_away [ASYM] */
		atomic_store_explicit(&weft__rt.watch_deadline, mon.announced, memory_order_relaxed);
	} else {
		uint64_t watched = atomic_load_explicit(&weft__rt.watch_deadline, memory_order_relaxed);

		/* An earlier timer than the poller knows of. Or it began while we took it that nobody polls, and what we announced went over
		 * what it did: then a timer in between has told nobody. */
		if (first < watched || (mon.announced && watched == mon.announced))
			weft__hook_poll_break();
		mon.announced = 0;
	}
	asleep = sleepy || (rests && next - now > MS);
	if (asleep)
		atomic_store_explicit(&weft__rt.monitor_asleep, 1, memory_order_relaxed);
	/* An IPI to every running worker. A short sleep can do without: an earlier timer, or a queue, that is missed by
	 * this race is seen when it ends. */
	if (sleepy || next - now > MS)
		weft__fence_heavy();
	if ((asleep && (somebody_polls() != attended ||
			(sleepy ? weft__look_queued() : !weft__look_same()))) ||
	    weft__first_timer() < first || *(struct weft__vp *volatile *)&weft__rt.orphans) {
		atomic_store_explicit(&weft__rt.monitor_asleep, 0, memory_order_relaxed);
		mon.calm_looks = 0;
		return;
	}
	/* [LIVELY] the kernel takes us along when something else has it look at the clock */
	slack = lively && next > weft__look_soon(now) ? next - weft__look_soon(now) : 1;
	if (slack != mon.kernel_slack)
		syscall(SYS_prctl, PR_SET_TIMERSLACK, slack, 0, 0, 0);
	mon.kernel_slack = slack;
	if (next != UINT64_MAX) {
		uint64_t d;

		now = weft__now();
		d = next - slack > now ? next - slack - now : 0;
		ts = (struct timespec){ (time_t)(d / 1000000000u), (long)(d % 1000000000u) };
		timeout = &ts;
	}
	n = (int)syscall(SYS_epoll_pwait2, mon.epfd, ev, EVENTS, timeout, NULL, 8);
	if (n < 0 && errno == EBADF)
		rebuild();
	atomic_store_explicit(&weft__rt.monitor_asleep, 0, memory_order_relaxed);
	atomic_fetch_add_explicit(&weft__rt.n.monitor, 1, memory_order_relaxed);
	now = weft__now();
	for (int i = 0; i < n; i++) {
		void *p = ev[i].data.ptr;

		if (p == &tag_event) {
			drain();
			mon.calm_looks = 0;
			if (weft__signals_waiting())
				weft__signals_route();
		} else if (p == &tag_netpoll) {
			mon.netpoll_on = false;		/* one shot */
			mon.urgent |= weft__hook_poll(0, WEFT__POLL_MAX) > 0;
		} else if (p == &tag_signal) {
			weft__signals_route();
		} else {
			weft__look_record(p, now);
		}
	}
}

/* The monitor runs for microseconds at a time: a short slice of its own (Linux 6.12) lets it preempt a computing worker at once when it
 * wakes. Elsewhere the call fails, or changes nothing. */
static void ask_for_short_slice(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = { .size = 48 };

	if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) == 0 && attr.policy == 0) {
		attr.runtime = 100 * US;
		syscall(SYS_sched_setattr, 0, &attr, 0);
	}
}

static void *monitor_main(void *arg)
{
	(void)arg;
	mon.tid = weft__gettid();
	mon.self.kind = WEFT__SCHED;
	mon.self.nopreempt = 1;
	mon.self.tid = (uint32_t)mon.tid;
	mon.self.tcb = weft__arch_tls();
	weft__tls_self = &mon.self;
	weft__look_start();
	weft__bind_none();
	ask_for_short_slice();
	/* [START-1] acquire; pairs with seq_cst in runtime/start.c:weft__start: all that it set up */
	while (atomic_load_explicit(&weft__rt.state, memory_order_acquire) != WEFT__RT_RUNNING)
		syscall(SYS_sched_yield);
	for (;;)
		one_round();
	return NULL;
}

static int choose_source(void)
{
	weft__source = weft__rt.cfg.blocked;
	weft__records_later(false);
	if (weft__source != WEFT_BLOCKED_AUTO && weft__source != WEFT_BLOCKED_RECORDS)
		return 0;
	if (weft__source == WEFT_BLOCKED_RECORDS) {
		if (weft__records_work())
			return 0;
		weft__warn("switch records are not permitted here (perf_event_paranoid, seccomp): %s; "
			   "use --blocked=auto, marks or state", strerror(errno));
		return -EPERM;
	}
	weft__source = WEFT_BLOCKED_STATE;
	if (weft__records_allowed())
		weft__records_later(true);
	else if (weft__rt.cfg.verbose)
		weft__warn("no switch records: task states are sampled");
	return 0;
}

int weft__hook_start(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &tag_event };
	uint64_t all = ~(3ull << 31), old;	/* not glibc's own two: setuid() waits for every thread */
	pthread_attr_t attr;
	size_t align;
	pthread_t thread;
	int err;

	err = weft__preempt_start();
	if (err)
		return err;
	weft__signals_start();
	weft__memory_find("");
	err = weft__netpoll_start();
	if (err)
		return err;
	if (mon.sigfd < 0)
		mon.sigfd = weft__signals_fd();
	if (mon.sigfd >= 0) {
		struct epoll_event sev = { .events = EPOLLIN | EPOLLET, .data.ptr = &tag_signal };

		epoll_ctl(mon.epfd, EPOLL_CTL_ADD, mon.sigfd, &sev);
	}
	if (epoll_ctl(mon.epfd, EPOLL_CTL_ADD, mon.evfd, &ev) != 0)
		return -errno;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024 + weft__tls_size(&align));	/* a sanitizer's TLS may be large */
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* all signals blocked in the monitor, and so in the workers that it makes */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	err = weft__real_pthread_create(&thread, &attr, monitor_main, NULL);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	return -err;
}

/* The first worker starts before the monitor does: what both need. */
static int descriptors(void)
{
	int err;

	if (mon.epfd >= 0)
		return 0;
	err = choose_source();
	if (err)
		return err;
	make_own();
	mon.netpoll_fd = -1;
	return mon.epfd < 0 || mon.evfd < 0 ? -EMFILE : 0;
}

int weft__hook_worker_start(struct weft__worker *w)
{
	int err = descriptors();

	weft__ids_worker_starts(w);
	weft__fault_worker_start(w);
	if (!err && weft__source == WEFT_BLOCKED_RECORDS)
		err = weft__records_open(w, mon.epfd);
	return err;
}

void weft__hook_worker_idle(struct weft__worker *w)
{
	w->armed = false;
	weft__records_mute(w);
}

void weft__hook_worker_busy(struct weft__worker *w)
{
	/* armed by the monitor, when something is queued; a new VP means a new start of the clock */
	w->rearm_at = 0;
	w->backoff_us = 0;
}

bool weft__hook_poll_busy(void)
{
	return weft__netpoll_busy() || weft__uring_busy();
}

uint64_t weft__hook_memory_spare(void)
{
	return weft__memory_spare("");
}

void weft__hook_stats(struct weft_stats *s)
{
	weft__blocked_percentiles(&s->handoff_p50_ns, &s->handoff_p99_ns);
}

void weft__hook_forked(void)
{
	weft__fd_low_forked();
	weft__netpoll_forked();
	weft__uring_forked();
	weft__signals_forked();
	weft__fault_forked();
	weft__cancel_forked();
	weft__ids_forked();
	weft__records_forked(atomic_load_explicit(&weft__rt.workers, memory_order_relaxed));
	weft__state_forked(atomic_load_explicit(&weft__rt.workers, memory_order_relaxed));
	weft__fd_release(mon.epfd);
	weft__fd_release(mon.evfd);
	memset(&mon, 0, sizeof mon);
	mon.epfd = mon.evfd = mon.sigfd = -1;
	mon.patience = ATTENTION_NS;
	mon.slack = TIMER_SLACK_NS;
}
