/* SPDX-License-Identifier: MIT
 * CPU time, affinity and priority of single fibers. See extras.h.
 *
 * Ordering of CPU time: a fiber's sum is written by the worker that it leaves. Who asks about another fiber reads the sum, the mark and the
 *            clock of the worker that is charged for it just now, and the first two again: if they changed, once more. Relaxed
 *            loads will do: an answer that is late by a switch is an answer of a moment ago.
 */
#include "runtime/extras.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "sched/topology.h"

/* The kernel's clock of one thread of ours: CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED, see clock_getcpuclockid(3). */
#define THREAD_CLOCK(tid) ((clockid_t)(~(unsigned)(tid) << 3 | 6))

static uint64_t kernel_clock(clockid_t clock)
{
	struct timespec ts = { 0, 0 };

	/* by the kernel's number: the libc function is one of the shim's */
	weft__arch_syscall(SYS_clock_gettime, clock, (long)&ts, 0, 0, 0, 0);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void turn_on(uint32_t bit)
{
	atomic_fetch_or_explicit(&weft__rt.extras, bit, memory_order_relaxed);
}

static bool is_on(uint32_t bit)
{
	return atomic_load_explicit(&weft__rt.extras, memory_order_relaxed) & bit;
}

/* --- CPU time --- */

static uint64_t load(_Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

static void charge(struct weft__worker *w, struct weft__fiber *from, struct weft__fiber *to)
{
	uint64_t now = kernel_clock(CLOCK_THREAD_CPUTIME_ID), mark = load(&w->cpu_mark);

	/* relaxed, plain add: only the carrying worker writes */
	if (mark && from->kind != WEFT__SCHED)
		atomic_store_explicit(&from->cpu_ns, load(&from->cpu_ns) + now - mark, memory_order_relaxed);
	atomic_store_explicit(&w->cpu_mark, now, memory_order_relaxed);
	atomic_store_explicit(&w->charged, to, memory_order_relaxed);
}

/* The first question: fibers that run now count from here, on whatever worker. */
static void begin(struct weft__fiber *self)
{
	struct weft__worker *w;

	/* [WORKERS-1] acquire; pairs with release in start.c:worker_publish */
	w = atomic_load_explicit(&weft__rt.workers, memory_order_acquire);
	for (; w; w = w->all_next) {
		struct weft__vp *vp = atomic_load_explicit(&w->vp, memory_order_relaxed);
		struct weft__fiber *nobody = NULL, *f = w == self->worker ? self : vp ? vp->current : NULL;
		uint64_t zero = 0;

		/* relaxed: if the worker was faster, its values are better */
		atomic_compare_exchange_strong_explicit(&w->cpu_mark, &zero, kernel_clock(THREAD_CLOCK(w->tid)),
							memory_order_relaxed, memory_order_relaxed);
		atomic_compare_exchange_strong_explicit(&w->charged, &nobody, f,
							memory_order_relaxed, memory_order_relaxed);
	}
	turn_on(WEFT__X_CPUTIME);
}

uint64_t weft__cputime(struct weft__fiber *f)
{
	struct weft__fiber *self = weft__self();
	uint64_t sum, mark, running;

	weft__preempt_disable(self);
	if (!is_on(WEFT__X_CPUTIME))
		begin(self);
	do {
		struct weft__worker *w = f->worker;

		sum = load(&f->cpu_ns);
		mark = w ? load(&w->cpu_mark) : 0;
		running = 0;
		if (f == self)
			running = kernel_clock(CLOCK_THREAD_CPUTIME_ID) - mark;
		else if (w && atomic_load_explicit(&w->charged, memory_order_relaxed) == f)
			running = kernel_clock(THREAD_CLOCK(w->tid)) - mark;
		if (running && f != self && load(&w->cpu_mark) != mark)
			continue;
	} while (load(&f->cpu_ns) != sum);
	weft__preempt_enable(self);
	return sum + running;
}

static int nice_of_workers;

int weft__nice_of_workers(void)
{
	return nice_of_workers;
}

void weft__extras_start(struct weft__fiber *main_fiber)
{
	struct weft__worker *w = main_fiber->worker;
	uint64_t now = kernel_clock(CLOCK_THREAD_CPUTIME_ID);

	if (weft__rt.ops != &weft_sched_fifo || !weft__rt.membarrier || !weft__arch_fsgsbase)
		turn_on(WEFT__X_NO_ROTATE);
	/* the kernel tells 40 to 1 */
	nice_of_workers = 20 - (int)weft__arch_syscall(SYS_getpriority, PRIO_PROCESS, 0, 0, 0, 0, 0);
	main_fiber->nice = (int8_t)nice_of_workers;
	/* in the child of a fork the worker is a copy of one that may have had a mask */
	if (w && main_fiber->cpus) {
		w->cpus = main_fiber->cpus;
		turn_on(WEFT__X_AFFINITY);
	}
	atomic_store_explicit(&main_fiber->cpu_ns, now, memory_order_relaxed);
	/* Without the bit nobody keeps these up: the first question sets them, or who asks it would be charged for all that ran here since. */
	if (w) {
		atomic_store_explicit(&w->cpu_mark, is_on(WEFT__X_CPUTIME) ? now : 0, memory_order_relaxed);
		atomic_store_explicit(&w->charged, is_on(WEFT__X_CPUTIME) ? main_fiber : NULL, memory_order_relaxed);
	}
}

/* --- affinity --- */

static const struct weft__cpuset *_Atomic sets;
static _Atomic(const struct weft__cpuset *) everywhere;	/* what workers have by themselves */

static bool bound;		/* VPs have masks; constant once started */
static struct weft__cpuset loose;	/* everywhere, too: of a fiber that is unbound for a while */

static const struct weft__cpuset *intern(const cpu_set_t *cpus)
{
	struct weft__cpuset *s = NULL;
	const struct weft__cpuset *head;

	/* [CPUSET-1] acquire; pairs with release below */
	head = atomic_load_explicit(&sets, memory_order_acquire);
	for (;;) {
		for (const struct weft__cpuset *p = head; p; p = p->next)
			if (CPU_EQUAL(&p->cpus, cpus))
				return p;	/* a copy that lost the race below is a page of address space */
		if (!s)
			s = weft__stack_map(4096);
		if (!s)
			return NULL;
		s->cpus = *cpus;
		s->next = head;
		/* [CPUSET-1] release; pairs with acquire above */
		if (atomic_compare_exchange_strong_explicit(&sets, &head, s, memory_order_acq_rel,
							    memory_order_acquire))
			return s;
	}
}

static long kernel_set(const cpu_set_t *cpus)
{
	return weft__arch_syscall(SYS_sched_setaffinity, 0, sizeof *cpus, (long)cpus, 0, 0, 0);
}

static void kernel_get(cpu_set_t *cpus)
{
	memset(cpus, 0, sizeof *cpus);
	weft__arch_syscall(SYS_sched_getaffinity, 0, sizeof *cpus, (long)cpus, 0, 0, 0);
}

/* On the worker. */
static void apply(struct weft__worker *w, const struct weft__cpuset *want)
{
	const struct weft__cpuset *all = atomic_load_explicit(&everywhere, memory_order_relaxed);

	if (w->cpus == want)
		return;
	if (want)
		kernel_set(&want->cpus);
	else if (all)
		kernel_set(&all->cpus);
	w->cpus = want;
}

/* Where the VP is at home that the caller runs on. Preemption disabled. */
static const struct weft__cpuset *home(struct weft__fiber *self)
{
	struct weft__vp *vp = weft__vp_of(self);

	return vp ? vp->cpus : NULL;
}

int weft__affinity_find(const cpu_set_t *cpus, const struct weft__cpuset **found)
{
	struct weft__fiber *self = weft__self();
	const struct weft__cpuset *before;
	struct weft__worker *w;
	cpu_set_t usable;
	long err;

	weft__preempt_disable(self);
	w = self->worker;
	before = w ? w->cpus : NULL;
	if (!before && !atomic_load_explicit(&everywhere, memory_order_relaxed)) {
		kernel_get(&usable);
		/* relaxed: [CPUSET-1] ordered what it points to; a second caller stores an equal set */
		atomic_store_explicit(&everywhere, intern(&usable), memory_order_relaxed);
	}
	/* the kernel says which of them can be used, by doing it */
	err = kernel_set(cpus);
	if (!err) {
		kernel_get(&usable);
		*found = intern(&usable);
		if (!*found)
			err = -ENOMEM;
		kernel_set(before ? &before->cpus : &atomic_load_explicit(&everywhere, memory_order_relaxed)->cpus);
	}
	if (!err)
		turn_on(WEFT__X_AFFINITY);
	weft__preempt_enable(self);
	return (int)err;
}

int weft__affinity_set(struct weft__fiber *f, const cpu_set_t *cpus)
{
	struct weft__fiber *self = weft__self();
	const struct weft__cpuset *set;
	int err = weft__affinity_find(cpus, &set);

	if (err)
		return err;
	weft__preempt_disable(self);
	f->cpus = set;
	weft__set_uses(f, WEFT__USES_SCHED);
	if (f == self)
		apply(self->worker, set);
	weft__preempt_enable(self);
	return 0;
}

void weft__affinity_get(struct weft__fiber *f, cpu_set_t *cpus)
{
	struct weft__fiber *self = weft__self();
	const struct weft__cpuset *set = f->cpus;

	if (!set)
		set = atomic_load_explicit(&everywhere, memory_order_relaxed);
	if (set) {
		*cpus = set->cpus;
		return;
	}
	weft__preempt_disable(self);
	kernel_get(cpus);	/* no fiber has a mask of its own: every worker's will do */
	weft__preempt_enable(self);
}

/* --- binding --- */

static int nth(const cpu_set_t *cpus, unsigned n)
{
	int cpu = 0;

	for (n %= (unsigned)CPU_COUNT(cpus); !CPU_ISSET(cpu, cpus) || n-- > 0; cpu++)
		;
	return cpu;
}

void weft__bind_vps(const struct weft__topology *t)
{
	enum { OFF, CPU, NODE } how = (int)weft__rt.cfg.bind;
	const struct weft__cpuset *all;
	cpu_set_t cpus;

	bound = false;
	if (how == OFF)
		return;
	kernel_get(&cpus);
	all = intern(&cpus);
	if (!all || CPU_COUNT(&cpus) == 0)
		return;
	atomic_store_explicit(&everywhere, all, memory_order_relaxed);
	loose.cpus = all->cpus;
	for (unsigned i = 0; i < weft__rt.nvps; i++) {
		int cpu = weft__topology_cpu(t, i);

		if (how == CPU) {
			if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &all->cpus))
				cpu = nth(&all->cpus, i);
			CPU_ZERO(&cpus);
			CPU_SET(cpu, &cpus);
		} else if (!weft__topology_node_cpus(t, i, &cpus)) {
			continue;
		}
		CPU_AND(&cpus, &cpus, &all->cpus);
		if (CPU_COUNT(&cpus)) {
			weft__rt.vp[i].cpus = intern(&cpus);
			bound = true;
		}
	}
	if (!bound)
		weft__warn("--bind: the NUMA nodes of this machine cannot be found out here; not bound");
}

void weft__bind_worker(struct weft__worker *w, const struct weft__vp *vp, const struct weft__fiber *current)
{
	apply(w, current->cpus ? current->cpus : vp->cpus);
}

void weft__bind_not(struct weft__fiber *self)
{
	if (!bound || self->cpus || !self->worker)
		return;
	weft__preempt_disable(self);
	self->cpus = &loose;
	weft__set_uses(self, WEFT__USES_SCHED);
	turn_on(WEFT__X_AFFINITY);
	apply(self->worker, &loose);
	weft__preempt_enable(self);
}

void weft__bind_again(struct weft__fiber *self)
{
	if (self->cpus != &loose)
		return;
	weft__preempt_disable(self);
	self->cpus = NULL;
	if (self->worker)
		apply(self->worker, home(self));
	weft__preempt_enable(self);
}

void weft__bind_none(void)
{
	if (bound)
		kernel_set(&atomic_load_explicit(&everywhere, memory_order_relaxed)->cpus);
}

/* --- priority --- */

void weft__sched_set(struct weft__fiber *f, int policy, int prio)
{
	struct weft__fiber *self = weft__self();

	f->policy = policy;
	f->prio = prio;
	weft__set_uses(f, WEFT__USES_SCHED);
	if (f == self)
		f->node.prio = prio;	/* it runs: it is in no queue */
	else
		turn_on(WEFT__X_PRIO);
}

/* --- the switch --- */

void weft__switch_extras(struct weft__worker *w, struct weft__fiber *from, struct weft__fiber *to)
{
	if (is_on(WEFT__X_CPUTIME))
		charge(w, from, to);
	if (is_on(WEFT__X_AFFINITY) && to->kind != WEFT__SCHED)
		apply(w, to->cpus ? to->cpus : home(from));
	if (is_on(WEFT__X_PRIO) && to->kind != WEFT__SCHED)
		to->node.prio = to->prio;
}
