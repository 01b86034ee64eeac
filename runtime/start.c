/* SPDX-License-Identifier: MIT
 * Start: at the first pthread_create or weft_init the calling thread becomes the main fiber, its kernel thread the first worker,
 * and the monitor starts. And what happens in the child of a fork: everything is as before the start again.
 *
 * The main thread's stack and TLS become the main fiber's, which may continue on any worker. Its kernel thread goes on as worker 0
 * with a scheduling context of its own: a mapped stack and a TLS block made for it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/extras.h"
#include "runtime/hooks.h"
#include "runtime/modules.h"
#include "runtime/runtime.h"
#include "runtime/wait.h"
#include "sched/topology.h"
#include "weft/weft.h"

#define PUBLIC __attribute__((visibility("default")))
#define SCHED_STACK (256 * 1024ul)
#define WORKER_LIMIT 20000u
#define TURN_NS 50000u

struct weft__rt weft__rt __attribute__((visibility("hidden")));
int (*weft__real_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

bool weft__shim;
unsigned weft__vps_wanted;

static pthread_attr_t worker_attr;

static bool membarrier_works(void)
{
	return syscall(SYS_membarrier, 16 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0) == 0;
}

/* NULL: not known. Kept for the children of forks: there, locks of the loader's may never be free again. */
static const struct weft__topology *topology(void)
{
	static struct weft__topology *known;
	static unsigned vps;

	if (!known && __libc_single_threaded) {
		vps = weft__rt.nvps;
		known = weft__topology_load(vps, weft__rt.cfg.bind != 0, NULL);
	}
	return vps == weft__rt.nvps ? known : NULL;
}

static int make_vps(void)
{
	unsigned n = weft__rt.nvps;
	size_t qsize = (weft__rt.ops->queue_size + 63) & ~(size_t)63;
	size_t at_seen = n * (sizeof(struct weft__vp) + qsize);
	size_t at_order = at_seen + n * n * sizeof(struct weft__victim_seen);
	size_t at_far = at_order + n * n * sizeof(unsigned);
	char *mem = weft__stack_map(at_far + n * n * sizeof(uint8_t));
	const struct weft__topology *t = topology();

	if (!mem)
		return -EAGAIN;
	weft__rt.vp = (struct weft__vp *)mem;
	for (unsigned i = 0; i < n; i++) {
		struct weft__vp *vp = &weft__rt.vp[i];

		vp->index = i;
		vp->queue = qsize <= sizeof vp->queue_room ? vp->queue_room : mem + n * sizeof *vp + i * qsize;
		vp->turn_ns = TURN_NS;		/* until it is known */
		vp->seen = (struct weft__victim_seen *)(mem + at_seen) + (size_t)i * n;
		vp->steal_order = (unsigned *)(mem + at_order) + (size_t)i * n;
		if (weft__topology_order(t, i, vp->steal_order) < 0)
			for (unsigned k = 0; k + 1 < n; k++)
				vp->steal_order[k] = (i + 1 + k) % n;
		if (weft__topology_cpus(t)) {
			vp->far = (uint8_t *)mem + at_far + (size_t)i * n;
			for (unsigned k = 0; k < n; k++)
				vp->far[k] = (uint8_t)weft__topology_distance(t, i, k);
			vp->node = (uint8_t)((unsigned)weft__topology_node(t, i) % WEFT__NODES);
		}
		weft__timers_init(&vp->timers);
		weft__rt.ops->init(vp->queue, i);
	}
	weft__bind_vps(t);
	return 0;
}

static struct weft__worker *worker_alloc(void)
{
	struct weft__worker *w = weft__stack_map(sizeof *w);
	uint32_t n;

	if (!w)
		return NULL;
	w->sched.kind = WEFT__SCHED;
	w->sched.flags = WEFT__F_SHARED_TLS;	/* its block is the one that such fibers borrow: set weft__tls_self back */
	w->sched.worker = w;
	w->sched.nopreempt = 1;
	w->perf_fd = w->stat_fd = -1;
	n = atomic_fetch_add_explicit(&weft__rt.nworkers, 1, memory_order_relaxed) + 1;
	w->index = n - 1;
	if (n > atomic_load_explicit(&weft__rt.nworkers_max, memory_order_relaxed))
		atomic_store_explicit(&weft__rt.nworkers_max, n, memory_order_relaxed);
	return w;
}

static void worker_publish(struct weft__worker *w)
{
	struct weft__worker *head = atomic_load_explicit(&weft__rt.workers, memory_order_relaxed);

	do {
		w->all_next = head;
		/* [WORKERS-1] release; pairs with acquire in upcall/look.c:weft__look_for_returned */
	} while (!atomic_compare_exchange_weak_explicit(&weft__rt.workers, &head, w,
			memory_order_release, memory_order_relaxed));
}

static void worker_main(void *arg)
{
	struct weft__worker *w = arg;
	struct weft__vp *vp = w->next_vp;
	int err;

	w->tid = weft__gettid();
	w->sched.tid = (uint32_t)w->tid;
	w->sched.tcb = weft__arch_tls();
	w->sched.ctx.tls = w->sched.tcb;
	w->sched.sigmask = ~0ull;
	weft__tls_self = &w->sched;
	weft__tls_worker_start();
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);	/* fibers' sleeps are precise; main's thread keeps what it has, children get that (timer_slack) */
	weft__set_kernel_mask(~weft__own_signals());	/* ours only; fibers bring their own masks */
	err = weft__hook_worker_start(w);
	if (err)
		weft__warn("a worker cannot be watched for blocking: %s", strerror(-err));
	worker_publish(w);
	weft__hook_worker_listed();
	w->next_vp = NULL;
	if (vp)
		weft__vp_attach(w, vp, &w->sched);
	weft__sched_loop(w);
}

static void *worker_thread(void *arg)
{
	worker_main(arg);
	return NULL;
}

/* Not by pthread_create: that takes malloc's and the loader's locks. If the owner of one is a fiber that was preempted, and the workers there
 * are all stall on it (fork takes those of all arenas), this new worker is the one that has to run the owner. */
static int thread_by_clone(struct weft__worker *w)
{
	const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				    CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID;
	size_t bytes = (4096 + SCHED_STACK + weft__tls_worker_size() + 4095) & ~4095ul;
	char *mem = weft__stack_map(bytes);
	long tid;

	if (!mem)
		return -EAGAIN;
	mprotect(mem, 4096, PROT_NONE);
	tid = weft__arch_clone(flags, mem + 4096 + SCHED_STACK, &w->tid,
			       weft__tls_make_worker(mem + 4096 + SCHED_STACK, &w->sched), worker_main, w);
	if (tid < 0)
		munmap(mem, bytes);
	return tid < 0 ? (int)tid : 0;
}

/* With shared TLS fibers use the worker's, so it must be a whole one. */
static int thread_by_libc(struct weft__worker *w)
{
	pthread_t thread;

	return -weft__real_pthread_create(&thread, &worker_attr, worker_thread, w);
}

int weft__worker_new(struct weft__vp *vp)
{
	struct weft__worker *w;
	int err;

	if (atomic_load_explicit(&weft__rt.nworkers, memory_order_relaxed) >= WORKER_LIMIT)
		return -EAGAIN;
	w = worker_alloc();
	if (!w)
		return -EAGAIN;
	w->next_vp = vp;
	err = weft__rt.shared_tls ? thread_by_libc(w) : thread_by_clone(w);
	if (err) {
		atomic_fetch_sub_explicit(&weft__rt.nworkers, 1, memory_order_relaxed);
		munmap(w, sizeof *w);
	}
	return err;
}

static void sched_entry(struct weft__ctx *from, struct weft__ctx *ctx, void *rotated)
{
	struct weft__fiber *sched = (struct weft__fiber *)ctx;

	(void)from;
	weft__finish(sched, rotated);
	weft__sched_loop(sched->worker);
}

/* The calling thread's kernel thread as a worker: its scheduling context needs a stack, and a TLS block of its own. */
static int worker_zero(struct weft__fiber *self)
{
	struct weft__worker *w = worker_alloc();
	size_t align, tls = weft__tls_size(&align), bytes;
	char *mem, *tcb;

	if (!w)
		return -EAGAIN;
	bytes = (SCHED_STACK + tls + align + 4095) & ~4095ul;
	mem = weft__stack_map(bytes);
	if (!mem)
		return -EAGAIN;
	mprotect(mem, 4096, PROT_NONE);
	tcb = (char *)((uintptr_t)(mem + bytes - weft__tcb_size()) & ~(uintptr_t)(align - 1));
	w->tid = weft__gettid();
	w->sched.tid = (uint32_t)w->tid;
	if (weft__rt.shared_tls) {
		w->sched.tcb = weft__arch_tls();
		w->sched.ctx.tls = w->sched.tcb;
		self->flags |= WEFT__F_SHARED_TLS | WEFT__F_NO_SIGNAL;
	} else {
		int err = weft__tls_make(tcb, &w->sched);

		if (err)
			return err;
		w->sched.tcb = tcb;
	}
	weft__arch_make(&w->sched.ctx, tcb - (tls - weft__tcb_size()), sched_entry);
	w->sched.sigmask = self->sigmask;
	self->worker = w;
	weft__hook_worker_start(w);
	worker_publish(w);
	weft__vp_attach(w, &weft__rt.vp[0], self);
	weft__rt.vp[0].idle = false;
	return 0;
}

static int start(struct weft__fiber *self)
{
	char err[256];
	int ret;

	if (weft_config_from_env(&weft__rt.cfg, err, sizeof err) != 0) {
		weft__warn("%s", err);
		return -EINVAL;
	}
	if (!weft__real_pthread_create)
		weft__real_pthread_create = dlsym(RTLD_NEXT, "pthread_create");
	if (!weft__real_pthread_create)
		return -ENOSYS;
	pthread_attr_init(&worker_attr);
	pthread_attr_setstacksize(&worker_attr, SCHED_STACK);
	pthread_attr_setdetachstate(&worker_attr, PTHREAD_CREATE_DETACHED);
	weft__rt.pid = getpid();
	weft__rt.timer_slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	weft__rt.signo = weft__rt.cfg.signo ? weft__rt.cfg.signo : 64;	/* not SIGRTMAX: the shim has hidden it */
	weft__rt.signo_interrupt = !weft__shim ? 0 : weft__rt.signo == 63 ? 64 : 63;
	weft__rt.membarrier = !weft__rt.cfg.membarrier_off && membarrier_works();
	weft__rt.ops = weft_sched_find(weft__rt.cfg.policy);
	if (!weft__rt.ops)
		return -EINVAL;
	weft__arch_init(weft__rt.cfg.fsbase_syscall);
	weft__rt.shared_tls = weft__tls_init(weft__rt.cfg.tls_shared) != 0;
	if (weft__rt.shared_tls && !weft__rt.cfg.tls_shared)
		weft__warn("this C library's thread blocks are not understood: fibers share their worker's TLS "
			   "(no preemption; errno and thread_local are per worker)");
	weft__stack_config(weft__rt.cfg.guard_mprotect, weft__rt.cfg.stack_size);
	weft__execstack_start();
	weft__rt.nvps = weft__rt.cfg.vps ? weft__rt.cfg.vps : weft__vps_wanted ? weft__vps_wanted : weft_cpus_available();
	if (weft__rt.nvps > WEFT__MAX_VPS)
		weft__rt.nvps = WEFT__MAX_VPS;
	weft__timers_init(&weft__rt.timers);
	ret = make_vps();
	if (ret)
		return ret;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &self->sigmask, 8);
	if (self->sigmask & weft__own_signals()) {
		/* blocked with all others, before it was ours */
		self->sigmask &= ~weft__own_signals();
		weft__set_kernel_mask(self->sigmask);
	}
	for (unsigned i = weft__rt.nvps; i-- > (self->kind == WEFT__MAIN ? 1u : 0u);)
		weft__vp_release(&weft__rt.vp[i]);
	if (self->kind == WEFT__MAIN) {
		if (!weft__rt.shared_tls) {
			weft__tls_unregister_rseq();
			weft__tls_mark(self->tcb, self);
		}
		ret = worker_zero(self);
		if (ret)
			return ret;
	}
	/* a foreign thread starts us: it stays one, all VPs are idle, the monitor makes the workers */
	ret = weft__hook_start();
	weft__extras_start(self);
	if (ret) {
		self->worker = NULL;
		weft__warn("cannot start (descriptors, a kernel thread for the monitor): %s", strerror(-ret));
		return -EAGAIN;
	}
	return 0;
}

int weft__start(void)
{
	struct weft__fiber *self = weft__self();
	uint32_t state = WEFT__RT_NEW;
	int ret;

	while (!atomic_compare_exchange_strong(&weft__rt.state, &state, WEFT__RT_STARTING)) {
		if (state == WEFT__RT_RUNNING)
			return 0;
		state = WEFT__RT_NEW;
		syscall(SYS_sched_yield);	/* another (foreign) thread is at it */
	}
	weft__preempt_disable(self);
	ret = start(self);
	/* [START-1] seq_cst; pairs with acquire in upcall/monitor.c:monitor_main */
	atomic_store_explicit(&weft__rt.state, ret ? WEFT__RT_NEW : WEFT__RT_RUNNING,
			      memory_order_seq_cst);
	weft__preempt_enable(self);
	return ret;
}

void weft__forked(void)
{
	struct weft__fiber *self = weft__self();

	weft__modules_forked(weft__arch_tls());
	if (atomic_load(&weft__rt.state) == WEFT__RT_NEW) {
		self->tid = (uint32_t)weft__gettid();
		if (self->kind == WEFT__FOREIGN)
			self->kind = WEFT__MAIN;
		weft__rt.main = self;
		return;
	}
	weft__tls_forked(self->worker ? self->worker->sched.ctx.tls : NULL);
	if (self->worker)
		prctl(PR_SET_TIMERSLACK, weft__rt.timer_slack, 0, 0, 0);	/* not the worker's own */
	self->worker = NULL;
	self->home = 0;
	self->kind = WEFT__MAIN;
	weft__tcb_set_vp(self->tcb, NULL);
	weft__hook_forked();
	weft__futex_forked();
	weft__stacks_forked();
	weft__foreign_forked();
	/* the dead fibers' VPs, queues and workers are left behind in copy-on-write memory */
	memset(&weft__rt, 0, sizeof weft__rt);
	weft__rt.main = self;
}

PUBLIC int weft_init(void)
{
	return weft__start();
}

PUBLIC int weft_fini(void)
{
	struct weft__fiber *self = weft__self();

	if (!weft__running())
		return 0;
	if (self->kind != WEFT__MAIN)
		return -EBUSY;
	while (weft__fibers_alive())
		weft__sleep_until(weft__now() + 1000000);
	return 0;
}

PUBLIC unsigned weft_vps(void)
{
	return weft__rt.nvps;
}
