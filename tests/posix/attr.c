/* SPDX-License-Identifier: MIT
 * Thread attributes: defaults, what is set is got, what is refused, and how threads see them (pthread_getattr_np).
 */
#include <limits.h>
#include <sys/resource.h>

#include "req.h"

static void objects(void)
{
	pthread_attr_t a;
	struct sched_param p = { 0 };
	size_t n;
	void *addr;
	int v;
	cpu_set_t set, got;

	REQ_IS("attr_init", pthread_attr_init(&a), 0);
	REQ_IS("getdetachstate", pthread_attr_getdetachstate(&a, &v), 0);
	REQ_IS("the default is PTHREAD_CREATE_JOINABLE", v, PTHREAD_CREATE_JOINABLE);
	REQ_IS("setdetachstate", pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED), 0);
	REQ_IS("getdetachstate", pthread_attr_getdetachstate(&a, &v), 0);
	REQ_IS("gets what was set", v, PTHREAD_CREATE_DETACHED);
	REQ_IS("setdetachstate: EINVAL", pthread_attr_setdetachstate(&a, 77), EINVAL);
	REQ_IS("getguardsize", pthread_attr_getguardsize(&a, &n), 0);
	REQ_IS("the default is a page", n, sysconf(_SC_PAGESIZE));
	REQ_IS("setguardsize", pthread_attr_setguardsize(&a, 10000), 0);
	REQ_IS("getguardsize", pthread_attr_getguardsize(&a, &n), 0);
	REQ_IS("getguardsize shall return the guard size specified by the previous call", n, 10000);
	REQ_IS("getinheritsched", pthread_attr_getinheritsched(&a, &v), 0);
	REQ_IS("the default", v, PTHREAD_INHERIT_SCHED);
	REQ_IS("setinheritsched", pthread_attr_setinheritsched(&a, PTHREAD_EXPLICIT_SCHED), 0);
	REQ_IS("getinheritsched", pthread_attr_getinheritsched(&a, &v), 0);
	REQ_IS("gets what was set", v, PTHREAD_EXPLICIT_SCHED);
	REQ_IS("setinheritsched: EINVAL", pthread_attr_setinheritsched(&a, 77), EINVAL);
	REQ_IS("getschedpolicy", pthread_attr_getschedpolicy(&a, &v), 0);
	REQ_IS("the default", v, SCHED_OTHER);
	REQ_IS("getschedparam", pthread_attr_getschedparam(&a, &p), 0);
	REQ_IS("the default", p.sched_priority, 0);
	p.sched_priority = 5;
	REQ_IS("setschedparam: EINVAL, out of the policy's range", pthread_attr_setschedparam(&a, &p), EINVAL);
	REQ_IS("setschedpolicy", pthread_attr_setschedpolicy(&a, SCHED_FIFO), 0);
	REQ_IS("setschedparam", pthread_attr_setschedparam(&a, &p), 0);
	p.sched_priority = 0;
	REQ_IS("getschedparam", pthread_attr_getschedparam(&a, &p), 0);
	REQ_IS("gets what was set", p.sched_priority, 5);
	p.sched_priority = 1000;
	REQ_IS("setschedparam: EINVAL", pthread_attr_setschedparam(&a, &p), EINVAL);
	REQ_IS("setschedpolicy: EINVAL", pthread_attr_setschedpolicy(&a, 77), EINVAL);
	for (int i = 0; i < 2; i++) {
		int err = pthread_attr_setscope(&a, i ? PTHREAD_SCOPE_SYSTEM : PTHREAD_SCOPE_PROCESS);

		REQ("setscope: success, or ENOTSUP", err == 0 || (i == 0 && err == ENOTSUP));
		REQ_IS("getscope", pthread_attr_getscope(&a, &v), 0);
		if (!err)
			REQ_IS("gets what was set", v, i ? PTHREAD_SCOPE_SYSTEM : PTHREAD_SCOPE_PROCESS);
	}
	REQ_IS("setscope: EINVAL", pthread_attr_setscope(&a, 77), EINVAL);
	REQ_IS("setstacksize: EINVAL, less than PTHREAD_STACK_MIN", pthread_attr_setstacksize(&a, PTHREAD_STACK_MIN - 1), EINVAL);
	REQ_IS("setstacksize", pthread_attr_setstacksize(&a, 1 << 20), 0);
	REQ_IS("getstacksize", pthread_attr_getstacksize(&a, &n), 0);
	REQ_IS("gets what was set", n, 1 << 20);
	REQ_IS("setstack: EINVAL, less than PTHREAD_STACK_MIN", pthread_attr_setstack(&a, &a, PTHREAD_STACK_MIN - 1), EINVAL);
	REQ_IS("setstack", pthread_attr_setstack(&a, (void *)0x100000, 1 << 18), 0);
	REQ_IS("getstack", pthread_attr_getstack(&a, &addr, &n), 0);
	REQ("gets what was set", addr == (void *)0x100000 && n == 1 << 18);
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	REQ_IS("setaffinity_np", pthread_attr_setaffinity_np(&a, sizeof set, &set), 0);
	REQ_IS("getaffinity_np", pthread_attr_getaffinity_np(&a, sizeof got, &got), 0);
	REQ("gets what was set", CPU_EQUAL(&set, &got));
	CPU_SET(900, &set);
	REQ_IS("setaffinity_np", pthread_attr_setaffinity_np(&a, sizeof set, &set), 0);
	REQ_IS("getaffinity_np: EINVAL, the set is too small for the CPUs set", pthread_attr_getaffinity_np(&a, 8, &got), EINVAL);
	REQ_IS("attr_destroy", pthread_attr_destroy(&a), 0);
	REQ_IS("a destroyed attributes object can be reinitialized", pthread_attr_init(&a), 0);
	REQ_IS("attr_destroy", pthread_attr_destroy(&a), 0);
}

struct look {
	size_t stack, guard;
	void *addr;
	int detach, inherit, policy, prio, scope, cpus;
	char *frame;
	int done;
};

static void *look(void *arg)
{
	struct look *l = arg;
	struct sched_param p;
	pthread_attr_t a;
	cpu_set_t cpus;
	char here;

	REQ_IS("getattr_np", pthread_getattr_np(pthread_self(), &a), 0);
	REQ_IS("getstack", pthread_attr_getstack(&a, &l->addr, &l->stack), 0);
	REQ_IS("getguardsize", pthread_attr_getguardsize(&a, &l->guard), 0);
	REQ_IS("getdetachstate", pthread_attr_getdetachstate(&a, &l->detach), 0);
	REQ_IS("getinheritsched", pthread_attr_getinheritsched(&a, &l->inherit), 0);
	REQ_IS("getschedpolicy", pthread_attr_getschedpolicy(&a, &l->policy), 0);
	REQ_IS("getschedparam", pthread_attr_getschedparam(&a, &p), 0);
	REQ_IS("getscope", pthread_attr_getscope(&a, &l->scope), 0);
	REQ_IS("getaffinity_np", pthread_attr_getaffinity_np(&a, sizeof cpus, &cpus), 0);
	l->prio = p.sched_priority;
	l->cpus = CPU_COUNT(&cpus);
	REQ_IS("attr_destroy", pthread_attr_destroy(&a), 0);
	l->frame = &here;
	REQ("the stack that getattr_np reports is the one in use", &here > (char *)l->addr && &here < (char *)l->addr + l->stack);
	set(&l->done, 1);
	return NULL;
}

/* As look, of another thread. */
static void *idle(void *arg) { until(arg, 1); return NULL; }

static void threads(void)
{
	struct look l = { 0 };
	pthread_attr_t a, d, old;
	pthread_t t;
	size_t def, n;
	void *mem;
	int go = 0, v;

	pthread_attr_init(&a);
	pthread_attr_getstacksize(&a, &def);
	in_thread(look, &l);
	REQ("a default thread has the default stack size", l.stack + 65536 >= def);
	REQ_IS("a default thread has the default guard", l.guard, sysconf(_SC_PAGESIZE));
	REQ_IS("a default thread is joinable", l.detach, PTHREAD_CREATE_JOINABLE);
	REQ_IS("a default thread's policy", l.policy, SCHED_OTHER);
	REQ_IS("a default thread's priority", l.prio, 0);
	REQ_IS("a default thread's CPUs", l.cpus, sysconf(_SC_NPROCESSORS_ONLN));
	look(&l);
	REQ_IS("main is joinable", l.detach, PTHREAD_CREATE_JOINABLE);
	struct rlimit rl;
	getrlimit(RLIMIT_STACK, &rl);
	REQ("main's stack is as large as RLIMIT_STACK", rl.rlim_cur == RLIM_INFINITY || (l.stack <= rl.rlim_cur + 65536 && l.stack + (1 << 20) >= rl.rlim_cur));

	pthread_attr_setstacksize(&a, 300000);
	pthread_attr_setguardsize(&a, 3 * 4096);
	NEED(pthread_create(&t, &a, look, &l) == 0);
	finish(t);
	REQ("a stack of at least the size asked for", l.stack + 65536 >= 300000 && l.stack < 600000);
	REQ_IS("the guard asked for", l.guard, 3 * 4096);
	pthread_attr_setguardsize(&a, 0);
	NEED(pthread_create(&t, &a, look, &l) == 0);
	finish(t);
	REQ_IS("no guard: no guard area shall be provided", l.guard, 0);
	pthread_attr_setguardsize(&a, 4096);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	l.done = 0;
	NEED(pthread_create(&t, &a, look, &l) == 0);
	until(&l.done, 1);
	REQ_IS("detached", l.detach, PTHREAD_CREATE_DETACHED);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_JOINABLE);
	NEED(posix_memalign(&mem, 4096, 1 << 18) == 0);
	pthread_attr_setstack(&a, mem, 1 << 18);
	NEED(pthread_create(&t, &a, look, &l) == 0);
	finish(t);
	REQ("the stack of the program's own", l.addr == mem && l.stack == 1 << 18);
	REQ("is used", l.frame > (char *)mem && l.frame < (char *)mem + (1 << 18));
	free(mem);
	pthread_attr_destroy(&a);

	/* seen by others */
	t = start(idle, &go);
	REQ_IS("getattr_np of another thread", pthread_getattr_np(t, &a), 0);
	pthread_attr_getdetachstate(&a, &v);
	REQ_IS("it is joinable", v, PTHREAD_CREATE_JOINABLE);
	pthread_attr_destroy(&a);
	pthread_detach(t);
	REQ_IS("getattr_np of another thread", pthread_getattr_np(t, &a), 0);
	pthread_attr_getdetachstate(&a, &v);
	REQ_IS("it was detached", v, PTHREAD_CREATE_DETACHED);
	pthread_attr_destroy(&a);
	set(&go, 1);

	/* the default attributes */
	REQ_IS("getattr_default_np", pthread_getattr_default_np(&old), 0);
	REQ_IS("getattr_default_np", pthread_getattr_default_np(&d), 0);
	pthread_attr_setstacksize(&d, 200 * 1024);
	pthread_attr_setguardsize(&d, 2 * 4096);
	REQ_IS("setattr_default_np", pthread_setattr_default_np(&d), 0);
	in_thread(look, &l);
	REQ("a thread without attributes has the new default stack size", l.stack + 65536 >= 200 * 1024 && l.stack <= 400 * 1024);
	REQ_IS("a thread without attributes has the new default guard", l.guard, 2 * 4096);
	pthread_attr_init(&a);
	pthread_attr_getstacksize(&a, &n);
	REQ_IS("attr_init takes the new default stack size", n, 200 * 1024);
	pthread_attr_destroy(&a);
	pthread_attr_setdetachstate(&d, PTHREAD_CREATE_DETACHED);
	REQ_IS("setattr_default_np: detached is allowed", pthread_setattr_default_np(&d), 0);
	l.done = 0;
	NEED(pthread_create(&t, NULL, look, &l) == 0);
	until(&l.done, 1);
	REQ_IS("and the default is detached", l.detach, PTHREAD_CREATE_DETACHED);
	pthread_attr_destroy(&d);
	REQ_IS("setattr_default_np", pthread_setattr_default_np(&old), 0);
	in_thread(look, &l);
	REQ("back to the old default", l.stack + 65536 >= def);
	pthread_attr_init(&d);
	pthread_attr_setstack(&d, (void *)0x100000, 1 << 18);
	REQ_IS("setattr_default_np: EINVAL, a stack address", pthread_setattr_default_np(&d), EINVAL);
	pthread_attr_destroy(&d);
	pthread_attr_destroy(&old);
}

static void *in_fiber(void *arg)
{
	objects();
	return arg;
}

int main(void)
{
	objects();
	in_thread(in_fiber, NULL);
	threads();
	return req_end();
}
