/* SPDX-License-Identifier: MIT
 * Scheduling of threads: policy, priority, affinity.
 */
#include <sys/resource.h>
#include <sys/syscall.h>

#include "req.h"

static int go;
static void *idle(void *arg) { until(&go, 1); return arg; }

struct seen {
	int policy, prio, by_pid;
};

static void *look(void *arg)
{
	struct seen *s = arg;
	struct sched_param p;

	REQ_IS("getschedparam of the thread itself", pthread_getschedparam(pthread_self(), &s->policy, &p), 0);
	s->prio = p.sched_priority;
	s->by_pid = sched_getscheduler(0);
	sched_getparam(0, &p);
	REQ_IS("sched_getparam(0) is the calling thread's", p.sched_priority, s->prio);
	return NULL;
}

static bool privileged;

static void params(void)
{
	struct sched_param p = { 0 };
	struct seen s;
	pthread_attr_t a;
	pthread_t t;
	int policy, err;

	REQ_IS("getschedparam of main", pthread_getschedparam(pthread_self(), &policy, &p), 0);
	REQ_IS("its policy", policy, SCHED_OTHER);
	REQ_IS("its priority", p.sched_priority, 0);
	set(&go, 0);
	t = start(idle, NULL);
	REQ_IS("getschedparam of another thread", pthread_getschedparam(t, &policy, &p), 0);
	REQ_IS("its policy is inherited", policy, SCHED_OTHER);
	p.sched_priority = 10;
	REQ_IS("setschedparam: EINVAL, no such policy", pthread_setschedparam(t, 77, &p), EINVAL);
	REQ_IS("setschedparam: EINVAL, not a priority of the policy", pthread_setschedparam(t, SCHED_OTHER, &p), EINVAL);
	p.sched_priority = 0;
	REQ_IS("setschedparam: EINVAL, FIFO begins at 1", pthread_setschedparam(t, SCHED_FIFO, &p), EINVAL);
	p.sched_priority = 100;
	REQ_IS("setschedparam: EINVAL, above the maximum", pthread_setschedparam(t, SCHED_RR, &p), EINVAL);
	REQ_IS("getschedparam", pthread_getschedparam(t, &policy, &p), 0);
	REQ("if setschedparam fails, the parameters are not changed", policy == SCHED_OTHER && p.sched_priority == 0);
	p.sched_priority = 10;
	err = pthread_setschedparam(t, SCHED_FIFO, &p);
	privileged = err == 0;
	REQ("setschedparam: success, or EPERM without privilege", err == 0 || err == EPERM);
	if (privileged) {
		p.sched_priority = -1;
		REQ_IS("getschedparam", pthread_getschedparam(t, &policy, &p), 0);
		REQ("getschedparam gets what setschedparam set", policy == SCHED_FIFO && p.sched_priority == 10);
		REQ_IS("setschedprio", pthread_setschedprio(t, 20), 0);
		REQ_IS("getschedparam", pthread_getschedparam(t, &policy, &p), 0);
		REQ("setschedprio changes the priority only", policy == SCHED_FIFO && p.sched_priority == 20);
		REQ_IS("setschedprio: EINVAL", pthread_setschedprio(t, 100), EINVAL);
		REQ_IS("setschedprio: EINVAL", pthread_setschedprio(t, 0), EINVAL);
		p.sched_priority = 3;
		REQ_IS("to RR", pthread_setschedparam(t, SCHED_RR, &p), 0);
		REQ_IS("getschedparam", pthread_getschedparam(t, &policy, &p), 0);
		REQ("the new policy", policy == SCHED_RR && p.sched_priority == 3);
		p.sched_priority = 0;
		REQ_IS("back to OTHER", pthread_setschedparam(t, SCHED_OTHER, &p), 0);
	}
	set(&go, 1);
	finish(t);
	REQ_IS("main is as before", sched_getscheduler(0), SCHED_OTHER);

	/* by attributes */
	pthread_attr_init(&a);
	pthread_attr_setschedpolicy(&a, SCHED_RR);
	p.sched_priority = 7;
	pthread_attr_setschedparam(&a, &p);
	NEED(pthread_create(&t, &a, look, &s) == 0);
	finish(t);
	REQ("INHERIT_SCHED: the attributes' parameters are ignored", s.policy == SCHED_OTHER && s.prio == 0 && s.by_pid == SCHED_OTHER);
	pthread_attr_setinheritsched(&a, PTHREAD_EXPLICIT_SCHED);
	err = pthread_create(&t, &a, look, &s);
	REQ("EXPLICIT_SCHED: success, or EPERM", err == 0 || err == EPERM);
	if (!err) {
		finish(t);
		REQ("EXPLICIT_SCHED: the attributes' parameters", s.policy == SCHED_RR && s.prio == 7 && s.by_pid == SCHED_RR);
	}
	pthread_attr_destroy(&a);
	if (privileged) {
		p.sched_priority = 4;
		REQ_IS("main's own", pthread_setschedparam(pthread_self(), SCHED_RR, &p), 0);
		in_thread(look, &s);
		REQ("inherited from the creating thread", s.policy == SCHED_RR && s.prio == 4);
		p.sched_priority = 0;
		REQ_IS("sched_setscheduler(0) sets the calling thread's", sched_setscheduler(0, SCHED_OTHER, &p), 0);
		REQ_IS("sched_getscheduler(0)", sched_getscheduler(0), SCHED_OTHER);
	}
	REQ_ERRNO("sched_setscheduler: EINVAL", sched_setscheduler(0, 77, &p), EINVAL);
	REQ_ERRNO("sched_getscheduler: ESRCH", sched_getscheduler(0x3fffffff), ESRCH);
	struct timespec ts;
	REQ_IS("sched_rr_get_interval", sched_rr_get_interval(0, &ts), 0);
	REQ("priority ranges", sched_get_priority_min(SCHED_FIFO) == 1 && sched_get_priority_max(SCHED_FIFO) == 99);
}

static int cpus_of_self(void)
{
	cpu_set_t s;

	CPU_ZERO(&s);
	REQ_IS("sched_getaffinity", sched_getaffinity(0, sizeof s, &s), 0);
	return CPU_COUNT(&s);
}

static void *count_cpus(void *arg) { (void)arg; return (void *)(intptr_t)cpus_of_self(); }

static void *stay(void *arg)
{
	int cpu = *(int *)arg;
	cpu_set_t s;

	CPU_ZERO(&s);
	CPU_SET(cpu, &s);
	REQ_IS("setaffinity of the thread itself", pthread_setaffinity_np(pthread_self(), sizeof s, &s), 0);
	for (int i = 0; i < 50; i++) {
		REQ_IS("the thread shall run on the CPUs of its mask only", sched_getcpu(), cpu);
		if (i % 10 == 0)
			sleep_ms(1);
		sched_yield();
	}
	REQ_IS("a new thread inherits its creator's mask", in_thread(count_cpus, NULL), 1);
	return NULL;
}

static void affinity(void)
{
	cpu_set_t all, s, got;
	pthread_attr_t a;
	pthread_t t, u[4];
	int n, first = -1, last = 0, cpus[4];

	REQ_IS("getaffinity of main", pthread_getaffinity_np(pthread_self(), sizeof all, &all), 0);
	n = CPU_COUNT(&all);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all)) {
			if (first < 0)
				first = i;
			last = i;
		}
	REQ_IS("a new thread may run wherever main may", in_thread(count_cpus, NULL), n);
	for (int i = 0; i < 4; i++) {
		cpus[i] = i % 2 ? first : last;
		u[i] = start(stay, &cpus[i]);
	}
	for (int i = 0; i < 4; i++)
		finish(u[i]);
	REQ_IS("others are not concerned", cpus_of_self(), n);
	REQ_IS("nor are threads made later", in_thread(count_cpus, NULL), n);

	set(&go, 0);
	t = start(idle, NULL);
	CPU_ZERO(&s);
	CPU_SET(last, &s);
	REQ_IS("setaffinity of another thread", pthread_setaffinity_np(t, sizeof s, &s), 0);
	REQ_IS("getaffinity of another thread", pthread_getaffinity_np(t, sizeof got, &got), 0);
	REQ("gets what was set", CPU_EQUAL(&s, &got));
	CPU_ZERO(&s);
	REQ_IS("setaffinity: EINVAL, no CPU", pthread_setaffinity_np(t, sizeof s, &s), EINVAL);
	CPU_SET(1000, &s);
	REQ_IS("setaffinity: EINVAL, none that is there", pthread_setaffinity_np(t, sizeof s, &s), EINVAL);
	REQ_ERRNO("sched_setaffinity: EINVAL", sched_setaffinity(0, sizeof s, &s), EINVAL);
	REQ_ERRNO("sched_getaffinity: ESRCH", sched_getaffinity(0x3fffffff, sizeof s, &s), ESRCH);
	set(&go, 1);
	finish(t);

	pthread_attr_init(&a);
	CPU_ZERO(&s);
	CPU_SET(first, &s);
	pthread_attr_setaffinity_np(&a, sizeof s, &s);
	NEED(pthread_create(&t, &a, count_cpus, NULL) == 0);
	REQ_IS("a mask in the attributes", (intptr_t)finish(t), 1);
	CPU_ZERO(&s);
	CPU_SET(1000, &s);
	pthread_attr_setaffinity_np(&a, sizeof s, &s);
	REQ_IS("create: EINVAL, no CPU of the attributes' mask is there", pthread_create(&t, &a, count_cpus, NULL), EINVAL);
	pthread_attr_destroy(&a);

	if (n > 1) {
		CPU_ZERO(&s);
		CPU_SET(first, &s);
		REQ_IS("main's own", sched_setaffinity(0, sizeof s, &s), 0);
		REQ_IS("sched_getaffinity", cpus_of_self(), 1);
		REQ_IS("sched_getcpu", sched_getcpu(), first);
		pid_t pid = fork();
		if (pid == 0)
			_exit(cpus_of_self() != 1 || in_thread(count_cpus, NULL) != 1);
		REQ_IS("a child inherits its parent's mask", reap(pid), 0);
		REQ_IS("back to all", sched_setaffinity(0, sizeof all, &all), 0);
		REQ_IS("sched_getaffinity", cpus_of_self(), n);
	}
	REQ("the raw call", syscall(SYS_sched_getaffinity, 0, sizeof got, &got) > 0 && CPU_COUNT(&got) == n);
}

/* --- what Linux has: a nice value of each thread, and the calls about all attributes at once --- */

static void *nice_of_self(void *arg) { (void)arg; return (void *)(intptr_t)getpriority(PRIO_PROCESS, 0); }

static int tid;
static void *tell_tid(void *arg)
{
	set(&tid, (int)syscall(SYS_gettid));
	until(&go, 1);
	REQ_IS("what others set is this thread's", getpriority(PRIO_PROCESS, 0), 6);
	return arg;
}

static void *nicer(void *arg)
{
	int base = (int)(intptr_t)arg;
	struct sched_param p = { 0 };
	struct { unsigned size, policy; unsigned long long flags; int nice; unsigned prio; unsigned long long rest[3]; } at;
	pid_t self = (pid_t)syscall(SYS_gettid), pid;

	REQ_IS("a new thread has its creator's nice value", getpriority(PRIO_PROCESS, (id_t)self), base);
	REQ_IS("setpriority by thread id", setpriority(PRIO_PROCESS, (id_t)self, base + 2), 0);
	REQ_IS("getpriority(0) is the thread's", getpriority(PRIO_PROCESS, 0), base + 2);
	REQ_IS("nice", nice(1), base + 3);
	REQ_IS("a thread that it makes", in_thread(nice_of_self, NULL), base + 3);
	REQ_IS("the raw call tells 20 less the value", syscall(SYS_getpriority, PRIO_PROCESS, 0), 20 - (base + 3));
	pid = fork();
	if (pid == 0)
		_exit(getpriority(PRIO_PROCESS, 0) != base + 3 || in_thread(nice_of_self, NULL) != base + 3);
	REQ_IS("a process that it makes", reap(pid), 0);
	pid = vfork();
	if (pid == 0)
		_exit(20 - syscall(SYS_getpriority, PRIO_PROCESS, 0) != base + 3);
	REQ_IS("by vfork too", reap(pid), 0);

	memset(&at, -1, sizeof at);
	REQ_IS("sched_getattr", syscall(SYS_sched_getattr, self, &at, sizeof at, 0), 0);
	REQ_IS("its size", at.size, sizeof at);
	REQ_IS("its policy", at.policy, SCHED_OTHER);
	REQ_IS("its nice value", at.nice, base + 3);
	REQ_IS("its priority", at.prio, 0);
	REQ_IS("sched_setattr: what was got can be set", syscall(SYS_sched_setattr, self, &at, 0), 0);
	at.policy = SCHED_BATCH;
	at.nice = base + 4;
	REQ_IS("sched_setattr", syscall(SYS_sched_setattr, 0, &at, 0), 0);
	REQ_IS("sets the policy", sched_getscheduler(0), SCHED_BATCH);
	REQ_IS("and the nice value", getpriority(PRIO_PROCESS, 0), base + 4);
	at.prio = 5;
	REQ_ERRNO("sched_setattr: EINVAL, no priority of the policy", syscall(SYS_sched_setattr, 0, &at, 0), EINVAL);
	REQ_ERRNO("sched_setattr: EINVAL, flags", syscall(SYS_sched_setattr, 0, &at, 1), EINVAL);
	REQ_ERRNO("sched_setattr: EINVAL, no attributes", syscall(SYS_sched_setattr, 0, NULL, 0), EINVAL);
	REQ_ERRNO("sched_getattr: EINVAL, too small", syscall(SYS_sched_getattr, 0, &at, 16, 0), EINVAL);
	REQ_ERRNO("sched_getattr: ESRCH", syscall(SYS_sched_getattr, 0x3fffffff, &at, sizeof at, 0), ESRCH);
	REQ_IS("its policy is left", sched_setscheduler(0, SCHED_OTHER, &p), 0);
	return NULL;
}

static void nice_values(void)
{
	int base = getpriority(PRIO_PROCESS, 0);
	pthread_t t;

	if (base > 6)
		return;			/* no room above, and coming back takes privilege */
	finish(start(nicer, (void *)(intptr_t)base));
	REQ_IS("others are not concerned", getpriority(PRIO_PROCESS, 0), base);
	REQ_IS("by the process id: main's", getpriority(PRIO_PROCESS, (id_t)getpid()), base);
	REQ_IS("nor are threads made later", in_thread(nice_of_self, NULL), base);
	set(&go, 0);
	t = start(tell_tid, NULL);
	while (get(&tid) == 0)
		sleep_ms(1);
	REQ_IS("setpriority of another thread", setpriority(PRIO_PROCESS, (id_t)get(&tid), 6), 0);
	REQ_IS("getpriority of another thread", getpriority(PRIO_PROCESS, (id_t)get(&tid)), 6);
	set(&go, 1);
	finish(t);
	REQ_ERRNO("getpriority: ESRCH", getpriority(PRIO_PROCESS, 0x3fffffff), ESRCH);
	REQ_ERRNO("setpriority: ESRCH", setpriority(PRIO_PROCESS, 0x3fffffff, 1), ESRCH);
	REQ_ERRNO("getpriority: EINVAL", getpriority((__priority_which_t)77, 0), EINVAL);
}

int main(void)
{
	params();
	affinity();
	nice_values();
	return req_end();
}
