/* SPDX-License-Identifier: MIT
 * Scheduling of threads: policy, priority, affinity.
 */
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

int main(void)
{
	params();
	affinity();
	return req_end();
}
