/* SPDX-License-Identifier: MIT
 * The runtime's global state, VPs and workers.
 *
 * Model:     a worker (kernel thread) that holds a VP runs its fibers. A VP without work is idle: in rt.idle_vps, held
 *            by nobody. A worker without a VP is parked in rt.spare, or blocked in the kernel with a fiber, or is the
 *            poller (at most one), which sleeps in the netpoller until the first timer.
 * Ownership: vp->* marked "owner" belong to the worker that holds the VP, with its fiber's preemption disabled.
 * Start:     state goes NEW -> STARTING -> RUNNING once; in the child of a fork back to NEW.
 */
#ifndef WEFT_RUNTIME_RUNTIME_H
#define WEFT_RUNTIME_RUNTIME_H

#include <pthread.h>
#include <string.h>
#include <sys/types.h>

#include "runtime/fiber.h"
#include "runtime/timer.h"
#include "weft/config.h"

#define WEFT__MAX_VPS 1024
#define WEFT__NODES 8u		/* NUMA nodes that are told apart; of more, several share a number */

/* What a fiber that switched away wants done with it, once its registers are saved. */
enum weft__op {
	WEFT__OP_NONE,
	WEFT__OP_PARK,		/* ARMED -> PARKED, or enqueue it if a waker was faster */
	WEFT__OP_YIELD,		/* behind the others of this VP */
	WEFT__OP_PREEMPTED,	/* the same, as a preempted one */
	WEFT__OP_DISPLACED,	/* the same, as one whose slice is not over */
	WEFT__OP_INJECT,	/* it lost its VP: to the common queue */
	WEFT__OP_EXIT,		/* free it, or leave it to its joiner */
};

enum weft__block_state {
	WEFT__B_NONE,
	WEFT__B_MARKED,		/* a wrapper announced a system call */
};

struct weft__worker {
	struct weft__vp *_Atomic vp;	/* NULL: none, or the monitor is taking it (then it holds `lock`) */
	struct weft__fiber *prev;	/* owner: who switched away just now */
	enum weft__op op;		/* owner: what to do with it */
	bool gathering;			/* owner: what it makes runnable is told of later; see help.c */
	struct weft__fiber sched;	/* this worker's own context */

	struct weft__lock lock;		/* the monitor, retaking; the worker, when it finds vp == NULL */
	pid_t tid;
	_Atomic uint32_t kicked;	/* a preemption signal is on its way; who sends it sets, handler clears */
	_Atomic uint32_t interrupted;	/* so is the one that ends system calls */
	_Atomic uint32_t no_kick;	/* none must be sent: it is about to exec; the worker sets it */
	_Atomic uint64_t kicked_at;	/* who sends it; a hint */
	_Atomic uint32_t mark;		/* enum weft__block_state; worker writes, monitor reads */
	uint32_t mark_seq;		/* worker: counts marks, so that the monitor sees progress */
	_Atomic uint32_t stalled;	/* it lost its VP while in the kernel; monitor sets, worker clears */

	_Atomic uint32_t park;		/* futex word: 1 = go on */
	struct weft__vp *next_vp;	/* with what; guarded by rt.idle_lock */
	uintptr_t fault_stack;		/* upcall/fault.c: registered with the kernel; 0: none */
	size_t fault_size;
	/* extras.c */
	_Atomic uint64_t cpu_mark;	/* the worker's CPU time at its last switch; 0 = not known */
	struct weft__fiber *_Atomic charged;	/* who pays for the time since then */
	const struct weft__cpuset *cpus;	/* what its affinity was set to, NULL = nothing; the worker */

	struct weft__worker *next;	/* rt.spare; guarded by rt.idle_lock */
	struct weft__worker *all_next;	/* rt.workers; push only */
	unsigned index;

	/* upcall/records.c */
	int perf_fd;
	void *_Atomic ring;		/* perf_event_mmap_page */
	uint64_t ring_pos;		/* monitor: read so far */
	uint64_t rearm_at;		/* monitor; the worker sets it to 0 when it gets a VP */
	bool armed;			/* monitor; the worker clears it when it goes idle (a stale value costs one look) */
	uint32_t backoff_us;		/* monitor */
	uint64_t out_at;		/* monitor: when it left the CPU to wait, 0 = it did not */
	uint64_t back_at;		/* monitor: when it came back without a VP; 0 = it is not on that list */
	struct weft__worker *back_next;	/* monitor */

	int stat_fd;			/* upcall/state.c; monitor, -1: not open */

	/* upcall/monitor.c: what it saw last */
	uint64_t seen_tick;
	uint64_t seen_since;		/* when the count was that first, about */
	uint64_t seen_at;		/* the last look */
	uint32_t seen_mark;
	uint32_t slow_looks;		/* since it last made progress */
	_Atomic uint32_t owes_ids;	/* upcall/ids.c */
	uint32_t ids_made;		/* the worker */
	uint32_t defer_count;		/* handler: refused in a row because of libc or a lock */

	/* upcall/bell.c; owner */
	_Atomic int bell;		/* 0: not made yet, -1: cannot be made */
	int bell_read;
	uint32_t rings;
};

/* What a thief saw at another VP. */
struct weft__victim_seen {
	const struct weft__fiber *fiber;	/* in the slot */
	uint64_t tick;
	uint64_t since;			/* its queue was empty, or we stole from it */
};

struct weft__vp {
	char queue_room[64];		/* for the policy's queue, if that is enough */
	/* owner */
	struct weft__fiber *current;
	struct weft__fiber *_Atomic runnext;	/* slot for the fiber just woken; written under the queue's lock */
	_Atomic uint32_t in_queue;	/* queue lock, owner's side; see vpqueue.h */
	bool from_inject;		/* a kick came for the sake of the common queue; a hint */
	_Atomic bool prepared;		/* operations that the kernel does not know of yet; owner writes, monitor reads. [BATCH] in upcall/ring.h */
	_Atomic uint64_t tick;		/* schedulings so far; owner writes, monitor reads */
	_Atomic uint64_t lease;		/* [LEASE] in yield.c; owner, and the monitor when it takes the VP */
	_Atomic uint32_t len;		/* fibers in queue, runnext not counted; written under the lock, read by all */
	void *queue;			/* the policy's; under the queue's lock */
	struct weft__fiber *runnext_by;	/* who woke it */
	uint64_t leases;		/* the last one given; owner */
	struct weft__fiber *pool;	/* free fibers with default stacks */
	uint32_t pool_len;
	_Atomic uint32_t ran_us;	/* how long the fiber had run that a kick is for; monitor writes, owner clears; a hint */
	_Atomic uint64_t hog_since;	/* when the hog of turn hog_turn began to run; owner writes, for the monitor a hint */
	_Atomic uint64_t hog_turn;	/* a tick */
	_Atomic uint64_t round_at;	/* when it last looked around, every 64th turn and when it has nothing to do; owner writes, for the monitor a hint */
	bool computes;			/* a hog was put into the queue, none was picked since; a hint */
	_Atomic bool shares;		/* a kick came because another VP has more to do; monitor writes, owner clears; a hint */
	bool goes_on;			/* the fiber that leaves has prepared one; until the next pick */
	bool spinning;			/* counted in rt.nspin; owner, and idle_lock before it is given */
	uint32_t burst;			/* fibers in the queue whose operations are complete; a hint */
	uint32_t rng;
	struct weft__victim_seen *seen;	/* [nvps - 1], in steal_order: at the last look */
	uint8_t joiner_lets;		/* so many that end may go before who is in the slot: [JOINER] in sched.c */
	bool woken;			/* from idleness, for what somebody queued; idle_lock before it is given */
	uint64_t worked_ns;		/* since then */
	uint64_t busy_at, busy_tick;	/* when it last found work, 0: it has run out of it since; see help.c */
	uint64_t turn_ns;		/* how long fibers ran lately before they made way */
	/* thieves */
	_Atomic uint32_t thief __attribute__((aligned(64)));
	struct weft__lock steal_lock;
	struct weft__vp *idle_next;	/* guarded by rt.idle_lock */
	bool idle;			/* guarded by rt.idle_lock */
	struct weft__worker *_Atomic worker;	/* who holds it, NULL = idle; changes with the VP's ownership */
	unsigned index;
	struct weft__timers timers;
	unsigned *steal_order;		/* nvps - 1 entries */
	const struct weft__cpuset *cpus;	/* WEFT_BIND: where it is carried, NULL = anywhere; constant */
	uint8_t *far;			/* by the other VP's index: its distance (sched/topology.h); NULL: all are equally far */
	uint8_t node;			/* NUMA node, below WEFT__NODES */
	/* counters: owner writes, relaxed */
	struct {
		uint64_t spawned, exited, steals, preempted, deferred, polls;
	} n;
} __attribute__((aligned(64)));

enum { WEFT__RT_NEW, WEFT__RT_STARTING, WEFT__RT_RUNNING };

struct weft__rt {
	_Atomic uint32_t state;
	bool membarrier;		/* PRIVATE_EXPEDITED works: owners of queues need no fence */
	bool shared_tls;		/* all fibers borrow the worker's */
	_Atomic bool exiting;		/* main has ended by pthread_exit; fiber.c */
	_Atomic uint64_t main_ticket;	/* and waits with this ticket */
	struct weft_config cfg;
	const struct weft_sched_ops *ops;
	_Atomic uint32_t signals_kept;	/* entries of upcall/sigtable.c in use: who ends takes its own out */
	_Atomic uint32_t extras;	/* what some fiber asked for: extras.h; bits are only ever set */
	unsigned nvps;
	struct weft__vp *vp;		/* [nvps] */
	struct weft__fiber *main;	/* the process's first thread; in the child of fork, the one that called it */
	char name[16];			/* of fibers that were given none; set before there are any */
	pid_t pid;
	int timer_slack;		/* of main before the start, ns: what children inherit; workers have their own */
	int signo;			/* preempts */
	int signo_interrupt;		/* has a fiber look for signals, and ends its system call: it is without SA_RESTART. 0 without the shim */

	_Atomic uint32_t idle_hint __attribute__((aligned(64)));	/* 1: an idle VP wants to hear of new work */
	_Atomic uint32_t monitor_asleep;	/* 1: wake it when something becomes runnable, or a hog begins its turn */
	_Atomic uint64_t watch_deadline;	/* when the poller or the monitor will look at timers next */
	_Atomic uint64_t woke_at, wake_gap;	/* when an idle VP was woken, and how long none is to be after that; hints. See help.c */
	_Atomic uint64_t came_turn_ns;	/* turn_ns of the one that was woken last; a hint */
	_Atomic uint32_t timers_dense;	/* 1: they follow each other closely; see watch.c:slack. A hint */

	struct weft__lock idle_lock __attribute__((aligned(64)));
	struct weft__vp *idle_vps;
	unsigned nidle;
	_Atomic uint32_t nspin;		/* workers that look for work, woken ones included */
	struct weft__worker *spare;
	unsigned nspare;
	struct weft__worker *poller;	/* guarded by idle_lock */
	_Atomic bool short_of_workers;	/* no kernel thread could be made for a VP, last time; monitor writes. upcall/look.c */
	struct weft__vp *orphans;	/* VPs that wait for the monitor to make a kernel thread; by idle_next */

	struct weft__lock inject_lock __attribute__((aligned(64)));
	struct weft__fiber *inject_head, *inject_tail;
	_Atomic uint32_t inject_len;

	struct weft__worker *_Atomic workers;
	_Atomic uint32_t nworkers, nworkers_max, nblocked, nblocked_max;
	struct {
		_Atomic uint64_t handoffs, unblocked, wakeups, signals, monitor, spawned, exited;
	} n;
	struct weft__timers timers;	/* of fibers without a VP */
};

extern struct weft__rt weft__rt __attribute__((visibility("hidden")));

static inline bool weft__running(void)
{
	/* relaxed: what depends on it is published by the creation of the first worker */
	return weft__likely(atomic_load_explicit(&weft__rt.state, memory_order_relaxed) ==
			    WEFT__RT_RUNNING);
}

/* The frequent side of a store-load pair whose rare side calls weft__fence_heavy().
 * [ASYM-1] fence (compiler barrier, or seq_cst without membarrier); pairs with worker.c:weft__fence_heavy */
static inline void weft__fence_light(void)
{
	if (weft__likely(weft__rt.membarrier))
		atomic_signal_fence(memory_order_seq_cst);
	else
		atomic_thread_fence(memory_order_seq_cst);
}
void weft__fence_heavy(void);		/* membarrier, or a fence */

/* The preemption signal, as a bit of a mask. */
static inline uint64_t weft__preempt_bit(void)
{
	return weft__rt.signo ? 1ull << (weft__rt.signo - 1) : 0;
}

/* All signals of ours. */
static inline uint64_t weft__own_signals(void)
{
	return weft__preempt_bit() | (weft__rt.signo_interrupt ? 1ull << (weft__rt.signo_interrupt - 1) : 0);
}

/* --- start.c --- */
extern bool weft__shim;			/* set before the start: the shim is there, and hides signals 63 and 64 from the program */
extern unsigned weft__vps_wanted;	/* by the program, where no setting says how many; 0 = as many as the CPUs */
int weft__start(void);			/* first fiber: start the runtime; 0 or -errno */
void weft__forked(void);		/* child of fork: the caller is the main fiber of a runtime not started */
pid_t weft__gettid(void);
void weft__foreign_forked(void);		/* foreign.c */
struct weft__vfork {
	struct weft__fiber child;	/* first member: what the child is known as */
	struct weft__fiber *parent;
	struct weft__fiber *mark;	/* these three are the caller's */
	uint64_t mask;
	uint32_t begun;
};
struct weft__vfork *weft__vfork_begin(struct weft__fiber *parent);	/* NULL: no memory */
void weft__vfork_end(struct weft__vfork *v);
void weft__futex_forked(void);
void weft__stats_print(void);		/* stats.c: to standard error */
extern int (*weft__real_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/* --- sched.c: switching. All with preemption disabled. --- */
void weft__switch_away(struct weft__fiber *self, enum weft__op op);
void weft__switch_to(struct weft__fiber *self, enum weft__op op, struct weft__fiber *next);
void weft__finish(struct weft__fiber *self, struct weft__vp *rotated);	/* after every switch, on the new side: what came with it */
void weft__rotated(struct weft__fiber *self);	/* its end, for who was switched to by a yield and has released the queue */
void weft__fiber_ended(struct weft__fiber *f);	/* fiber.c: its registers will not be needed again */
void weft__ready(struct weft__fiber *f, enum weft_enqueue_reason why);	/* caller owns f */
_Noreturn void weft__sched_loop(struct weft__worker *w);
struct weft__fiber *weft__pick(struct weft__vp *vp);
struct weft__fiber *weft__pick_queued(struct weft__vp *vp, bool slot_first);	/* from the slot and its own queue only */
/* Is so much queued, in the common queue or at a VP other than `but`, that a theft pays for one whose turns take so long? */
bool weft__theft_pays(const struct weft__vp *but, uint64_t turn_ns);
/* `again`: the caller will look again soon. */
struct weft__fiber *weft__steal_round(struct weft__vp *vp, bool again, uint64_t now);
/* Of a VP that has more queued than vp, which is at the end of a quantum. Where that has one more: who would run next there. So three that
 * compute on two VPs get two thirds each, if whom it displaces is queued here, which makes this VP the fuller one. Where that has several and
 * vp none, half of them. NULL: there is none; or, under a policy with a tick, they are in the queue. */
struct weft__fiber *weft__steal_share(struct weft__vp *vp);
bool weft__makes_way(struct weft__fiber *self, struct weft__vp *vp);	/* sched.c: at the end of a quantum, what does the policy say? */
struct weft__vp *weft__vp_of_slow(struct weft__worker *w);

/* The caller's VP; NULL when it was taken, or the caller never has one. Never read w->vp itself instead: it is NULL, too, while the monitor
 * tries to take it and finds that it must not. */
static inline struct weft__vp *weft__vp_of(struct weft__fiber *self)
{
	struct weft__worker *w = self->worker;
	struct weft__vp *vp;

	if (weft__unlikely(!w))
		return NULL;
	/* relaxed: only the monitor takes it away, and not while our preemption is disabled ([RETAKE]) */
	vp = atomic_load_explicit(&w->vp, memory_order_relaxed);
	return weft__likely(vp != NULL) ? vp : weft__vp_of_slow(w);
}

static inline struct weft__fiber *weft__fiber_of_node(struct weft_sched_node *n)
{
	return (struct weft__fiber *)((char *)n - offsetof(struct weft__fiber, node));
}

/* A new lease of vp, which no home of a fiber is equal to, nor a lease of another VP. */
#define WEFT__LEASE_VP 40		/* bits of the number; above them the VP's index */
#define WEFT__LEASE_KIND 54		/* [LEASE] above that, of a home, what thread block the fiber has */
#define WEFT__NO_LEASE UINT64_MAX	/* the VP is being taken away; not a home either */
_Static_assert(WEFT__MAX_VPS <= 1u << (WEFT__LEASE_KIND - WEFT__LEASE_VP) && WEFT__F_LIBC_TLS == 256, "room in a lease, and in a home");

static inline void weft__lease_new(struct weft__vp *vp)
{
	vp->leases = (uint64_t)vp->index << WEFT__LEASE_VP | ((vp->leases + 1) & ((1ull << WEFT__LEASE_VP) - 1));
	atomic_store_explicit(&vp->lease, vp->leases, memory_order_relaxed);
}

/* The home of a fiber that is switched to on vp. */
static inline uint64_t weft__home(const struct weft__vp *vp, const struct weft__fiber *f)
{
	return vp->leases | (uint64_t)(f->flags & (WEFT__F_SHARED_TLS | WEFT__F_LIBC_TLS)) << WEFT__LEASE_KIND;
}

/* The VP that f was switched to on last. NULL: none yet. */
static inline struct weft__vp *weft__home_vp(const struct weft__fiber *f)
{
	return f->home ? &weft__rt.vp[f->home >> WEFT__LEASE_VP & (WEFT__MAX_VPS - 1)] : NULL;
}

/* To new work: idle_hint or monitor_asleep, in one look. */
static inline bool weft__somebody_listens(void)
{
	uint64_t both;

	_Static_assert(offsetof(struct weft__rt, monitor_asleep) == offsetof(struct weft__rt, idle_hint) + 4, "one look");
	memcpy(&both, (const char *)&weft__rt + offsetof(struct weft__rt, idle_hint), sizeof both);
	return both;
}

/* vp->from_inject or vp->prepared, in one look. */
static inline bool weft__attention(const struct weft__vp *vp)
{
	uint16_t both;

	_Static_assert(offsetof(struct weft__vp, prepared) == offsetof(struct weft__vp, from_inject) + 1, "one look");
	memcpy(&both, (const char *)vp + offsetof(struct weft__vp, from_inject), sizeof both);
	return both;
}

/* What waits outside of a VP's queue is looked at in every 64th turn. */
static inline bool weft__round_due(uint64_t tick)
{
	return (tick & 63) == 0;
}

/* A fiber begins to run. */
static inline void weft__next_turn(struct weft__vp *vp)
{
	/* relaxed, plain add: one writer; the monitor compares */
	atomic_store_explicit(&vp->tick, atomic_load_explicit(&vp->tick, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* The next turn is a hog's, from now on. */
static inline void weft__hog_begins(struct weft__vp *vp, uint64_t now)
{
	atomic_store_explicit(&vp->hog_since, now, memory_order_relaxed);
	atomic_store_explicit(&vp->hog_turn, atomic_load_explicit(&vp->tick, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* --- outside.c --- */
void weft__look_around(struct weft__vp *vp);	/* timers, descriptors, the common queue; the caller is on it, preemption disabled */
void weft__look_idle(struct weft__vp *vp, uint64_t now, bool at_descriptors);	/* the same for one that has nothing to run, without the common queue */

/* --- extras.c --- */
void weft__switch_extras(struct weft__worker *w, struct weft__fiber *from, struct weft__fiber *to);

/* --- worker.c --- */
int weft__worker_new(struct weft__vp *vp);	/* monitor: make a kernel thread; vp may be NULL (spare) */
void weft__idle_wake(void);		/* there is work: get an idle VP running */
void weft__idle_call(void);		/* likewise, for who does so often */
void weft__idle_call_new(const struct weft__vp *vp);	/* likewise, for a new fiber in the queue of vp */
void weft__joiner_woken(struct weft__vp *vp, const struct weft__fiber *joiner);	/* [JOINER]; vp is the caller's */
void weft__submitted(bool help);	/* something was queued: tell an idle VP, if that is of use, and a monitor that sleeps */

void weft__ask_for_help(struct weft__vp *vp);	/* likewise, if what the caller's VP has queued is too much for it alone */

void weft__note_turns(struct weft__vp *vp, uint64_t now);	/* it has run out of work */
void weft__rate_coming(struct weft__vp *vp);	/* it goes idle: was it of use that it was woken? */

/* Does the caller collect what it makes runnable, and tell of it afterwards? */
static inline bool weft__gathers(const struct weft__fiber *self)
{
	return self->worker && self->worker->gathering;
}
void weft__vp_give(struct weft__vp *vp);	/* let a sleeping worker, or a new one, carry vp */
void weft__vp_release(struct weft__vp *vp);	/* to the idle list */
bool weft__vp_retake(struct weft__worker *w, struct weft__vp **vp);	/* monitor: take the VP of a stalled worker */
void weft__vp_attach(struct weft__worker *w, struct weft__vp *vp, struct weft__fiber *current);
struct weft__vp *weft__vp_reacquire(struct weft__fiber *self);	/* an idle VP for a fiber without one; NULL: none */
void weft__vp_surrender(struct weft__fiber *self);
void weft__worker_idle(struct weft__worker *w);	/* w has no VP: wait until it gets one */
struct weft__fiber *weft__find_work(struct weft__worker *w, struct weft__vp *vp);
uint64_t weft__first_timer(void);
void weft__timer_watch(uint64_t deadline);	/* [WATCH] W2, watch.c: somebody must look at timers by then */
void weft__timers_due(uint64_t now);	/* an idle VP: wake those whose time has come */
uint64_t weft__timers_wait(uint64_t first, uint64_t now);	/* how long until it would, ns; UINT64_MAX: there is no timer */
unsigned weft__all_timers_run(uint64_t now);
bool weft__work_anywhere(void);

/* --- inject.c --- */
void weft__inject(struct weft__fiber *f);
unsigned weft__inject_take(struct weft__vp *vp);

/* --- stack.c --- */
struct weft__fiber *weft__fiber_alloc(size_t stack, size_t guard, bool user_stack);	/* NULL: no memory */
void weft__fiber_free(struct weft__fiber *f);
void *weft__stack_top(struct weft__fiber *f);
void weft__stack_config(bool mprotect_guards, size_t default_stack);
size_t weft__stack_default(void);
bool weft__stack_has(const struct weft__fiber *f, uintptr_t p);	/* is it in f's stack, of ours? */
bool weft__stack_executable(const struct weft__fiber *f);	/* make that one so */
bool weft__stacks_are_executable(void);
void weft__stacks_executable(void);	/* from now on, those that there are too */
void weft__execstack_start(void);	/* execstack.c */
bool weft__execstack_late(const struct weft__fiber *f, uintptr_t pc);	/* in the handler of a fault at pc: may it be tried again? */
void weft__pool_drain(struct weft__vp *vp);
void weft__stacks_forked(void);
uint32_t weft__fibers_max(void);
/* Call see(f, arg) for every fiber struct ever handed out, ended ones too, until it returns true. Monitor. */
void weft__fibers_each(bool (*see)(struct weft__fiber *, void *), void *arg);
void weft__fetch_for_join(const struct weft__fiber *joined);
struct weft__fiber *weft__fiber_by_tid(uint32_t tid);	/* an ended one too, until its struct lives again; NULL: none */
uint64_t weft__fibers_alive(void);	/* fiber.c: main not counted */
struct __res_state;
struct __res_state *weft__stack_resolver(struct weft__fiber *f);	/* room for libc's resolver state; NULL: none */
void *weft__stack_map(size_t size);	/* anonymous memory, or NULL */

/* --- tls.c, tls_find.c, tls_reset.c --- */
int weft__tls_init(bool force_shared);	/* 0; -ENOSYS: shared TLS only */
size_t weft__tls_size(size_t *align);	/* bytes below and at the TCB */
size_t weft__tcb_size(void);
int weft__tls_make(void *tcb, struct weft__fiber *f);	/* in zeroed memory of weft__tls_size() ending at tcb + tcb_size */
int weft__tls_reset(void *tcb, struct weft__fiber *f);	/* a pooled one */
void weft__tls_start(void);		/* on a fiber, before user code */
/* The block of a worker, in zeroed memory of weft__tls_worker_size(), without a lock or malloc. The TCB. Not with shared TLS. */
size_t weft__tls_worker_size(void);
void *weft__tls_make_worker(void *mem, struct weft__fiber *sched);
void weft__tls_worker_start(void);	/* on the worker */
void weft__tls_dtors(void);		/* on a fiber, after user code: thread_local destructors */
void weft__tls_exit(void);		/* then: reset what libc keeps for the thread */
/* The calling fiber is inside of a cancellation point of libc's own, which is not in a region of libc's that forbids it; it has been
 * unwound out of one. */
bool weft__tls_libc_point(void);
void weft__tls_libc_point_left(void);
void weft__tls_unregister_rseq(void);
void weft__tls_forked(void *worker_tls);	/* child: the worker's own block is not to be written by the kernel any more */
void weft__tls_mark(void *tcb, struct weft__fiber *f);	/* the handle names f */

/* --- upcall/preempt.c, through sched.c --- */
void weft__set_kernel_mask(uint64_t mask);

#endif
