/* SPDX-License-Identifier: MIT
 * Attributes of mutexes, conditions, rwlocks and barriers: defaults, what is set is got, what is refused.
 */
#include "req.h"

static void mutexattr(void)
{
	static const int types[] = { PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_DEFAULT };
	static const int protocols[] = { PTHREAD_PRIO_NONE, PTHREAD_PRIO_INHERIT, PTHREAD_PRIO_PROTECT };
	pthread_mutexattr_t a;
	int v;

	REQ_IS("pthread_mutexattr_init: success returns zero", pthread_mutexattr_init(&a), 0);
	REQ_IS("gettype", pthread_mutexattr_gettype(&a, &v), 0);
	REQ_IS("the default value of the type attribute is PTHREAD_MUTEX_DEFAULT", v, PTHREAD_MUTEX_DEFAULT);
	REQ_IS("getpshared", pthread_mutexattr_getpshared(&a, &v), 0);
	REQ_IS("the default value of process-shared shall be PRIVATE", v, PTHREAD_PROCESS_PRIVATE);
	REQ_IS("getrobust", pthread_mutexattr_getrobust(&a, &v), 0);
	REQ_IS("the default value of robust shall be STALLED", v, PTHREAD_MUTEX_STALLED);
	REQ_IS("getprotocol", pthread_mutexattr_getprotocol(&a, &v), 0);
	REQ_IS("the default value of protocol shall be PRIO_NONE", v, PTHREAD_PRIO_NONE);
	REQ_IS("getprioceiling", pthread_mutexattr_getprioceiling(&a, &v), 0);
	REQ("the ceiling is within the range of SCHED_FIFO", v >= sched_get_priority_min(SCHED_FIFO) && v <= sched_get_priority_max(SCHED_FIFO));
	for (unsigned i = 0; i < 4; i++) {
		REQ_IS("settype", pthread_mutexattr_settype(&a, types[i]), 0);
		REQ_IS("gettype", pthread_mutexattr_gettype(&a, &v), 0);
		REQ_IS("gettype gets what was set", v, types[i]);
	}
	REQ_IS("settype: EINVAL", pthread_mutexattr_settype(&a, 77), EINVAL);
	REQ_IS("settype: EINVAL", pthread_mutexattr_settype(&a, -1), EINVAL);
	for (unsigned i = 0; i < 3; i++) {
		REQ_IS("setprotocol", pthread_mutexattr_setprotocol(&a, protocols[i]), 0);
		REQ_IS("getprotocol", pthread_mutexattr_getprotocol(&a, &v), 0);
		REQ_IS("getprotocol gets what was set", v, protocols[i]);
	}
	v = pthread_mutexattr_setprotocol(&a, 77);
	REQ("setprotocol: ENOTSUP or EINVAL", v == ENOTSUP || v == EINVAL);
	REQ_IS("setprioceiling", pthread_mutexattr_setprioceiling(&a, 7), 0);
	REQ_IS("getprioceiling", pthread_mutexattr_getprioceiling(&a, &v), 0);
	REQ_IS("getprioceiling gets what was set", v, 7);
	REQ_IS("setprioceiling: EINVAL, out of range", pthread_mutexattr_setprioceiling(&a, 1000), EINVAL);
	REQ_IS("setprioceiling: EINVAL, out of range", pthread_mutexattr_setprioceiling(&a, -1), EINVAL);
	for (int i = 0; i < 2; i++) {
		REQ_IS("setrobust", pthread_mutexattr_setrobust(&a, i ? PTHREAD_MUTEX_STALLED : PTHREAD_MUTEX_ROBUST), 0);
		REQ_IS("getrobust", pthread_mutexattr_getrobust(&a, &v), 0);
		REQ_IS("getrobust gets what was set", v, i ? PTHREAD_MUTEX_STALLED : PTHREAD_MUTEX_ROBUST);
		REQ_IS("setpshared", pthread_mutexattr_setpshared(&a, i ? PTHREAD_PROCESS_PRIVATE : PTHREAD_PROCESS_SHARED), 0);
		REQ_IS("getpshared", pthread_mutexattr_getpshared(&a, &v), 0);
		REQ_IS("getpshared gets what was set", v, i ? PTHREAD_PROCESS_PRIVATE : PTHREAD_PROCESS_SHARED);
	}
	REQ_IS("setrobust: EINVAL", pthread_mutexattr_setrobust(&a, 77), EINVAL);
	REQ_IS("setpshared: EINVAL", pthread_mutexattr_setpshared(&a, 77), EINVAL);
	REQ_IS("destroy", pthread_mutexattr_destroy(&a), 0);
	REQ_IS("a destroyed attributes object can be reinitialized", pthread_mutexattr_init(&a), 0);
	REQ_IS("destroy", pthread_mutexattr_destroy(&a), 0);
}

/* Every combination that init accepts makes a mutex that works. */
static void *other(void *m) { return (void *)(intptr_t)pthread_mutex_trylock(m); }

static void combinations(void)
{
	for (int type = 0; type < 3; type++)
		for (int protocol = 0; protocol < 3; protocol++)
			for (int robust = 0; robust < 2; robust++)
				for (int shared = 0; shared < 2; shared++) {
					pthread_mutexattr_t a;
					pthread_mutex_t m;
					int err;

					pthread_mutexattr_init(&a);
					pthread_mutexattr_settype(&a, type);
					pthread_mutexattr_setprotocol(&a, protocol);
					pthread_mutexattr_setrobust(&a, robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
					pthread_mutexattr_setpshared(&a, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE);
					err = pthread_mutex_init(&m, &a);
					pthread_mutexattr_destroy(&a);
					if (protocol == PTHREAD_PRIO_PROTECT && robust) {
						REQ_IS("robust and protected: ENOTSUP", err, ENOTSUP);
						continue;
					}
					REQ_IS("init of a combination", err, 0);
					if (err)
						continue;
					err = pthread_mutex_lock(&m);
					if (protocol == PTHREAD_PRIO_PROTECT && (err == EPERM || err == EINVAL))
						continue;	/* NPTL: no privilege, or no real-time policy */
					REQ_IS("lock of a combination", err, 0);
					err = (int)in_thread(other, &m);
					REQ("others get EBUSY", err == EBUSY || (protocol == PTHREAD_PRIO_PROTECT && err == EINVAL));
					if (type == PTHREAD_MUTEX_RECURSIVE) {
						REQ_IS("recursive in a combination", pthread_mutex_lock(&m), 0);
						REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
					}
					if (type == PTHREAD_MUTEX_ERRORCHECK)
						REQ_IS("errorcheck in a combination", pthread_mutex_lock(&m), EDEADLK);
					REQ_IS("unlock of a combination", pthread_mutex_unlock(&m), 0);
					if (type != PTHREAD_MUTEX_NORMAL || robust)
						REQ_IS("unlock when not owned: EPERM", pthread_mutex_unlock(&m), EPERM);
					REQ_IS("destroy of a combination", pthread_mutex_destroy(&m), 0);
				}
}

static void condattr(void)
{
	pthread_condattr_t a;
	clockid_t c;
	int v;

	REQ_IS("pthread_condattr_init", pthread_condattr_init(&a), 0);
	REQ_IS("getclock", pthread_condattr_getclock(&a, &c), 0);
	REQ_IS("the default value of the clock attribute shall refer to the system clock", c, CLOCK_REALTIME);
	REQ_IS("getpshared", pthread_condattr_getpshared(&a, &v), 0);
	REQ_IS("the default value of process-shared is PRIVATE", v, PTHREAD_PROCESS_PRIVATE);
	REQ_IS("setclock", pthread_condattr_setclock(&a, CLOCK_MONOTONIC), 0);
	REQ_IS("getclock", pthread_condattr_getclock(&a, &c), 0);
	REQ_IS("getclock gets what was set", c, CLOCK_MONOTONIC);
	REQ_IS("setclock: EINVAL, a CPU-time clock", pthread_condattr_setclock(&a, CLOCK_PROCESS_CPUTIME_ID), EINVAL);
	REQ_IS("setclock: EINVAL, a CPU-time clock", pthread_condattr_setclock(&a, CLOCK_THREAD_CPUTIME_ID), EINVAL);
	REQ_IS("setclock: EINVAL, no clock", pthread_condattr_setclock(&a, 99), EINVAL);
	REQ_IS("setpshared", pthread_condattr_setpshared(&a, PTHREAD_PROCESS_SHARED), 0);
	REQ_IS("getpshared", pthread_condattr_getpshared(&a, &v), 0);
	REQ_IS("getpshared gets what was set", v, PTHREAD_PROCESS_SHARED);
	REQ_IS("setpshared: EINVAL", pthread_condattr_setpshared(&a, 77), EINVAL);
	REQ_IS("destroy", pthread_condattr_destroy(&a), 0);
}

static void others(void)
{
	pthread_rwlockattr_t r;
	pthread_barrierattr_t b;
	int v;

	REQ_IS("pthread_rwlockattr_init", pthread_rwlockattr_init(&r), 0);
	REQ_IS("getpshared", pthread_rwlockattr_getpshared(&r, &v), 0);
	REQ_IS("default PRIVATE", v, PTHREAD_PROCESS_PRIVATE);
	REQ_IS("setpshared", pthread_rwlockattr_setpshared(&r, PTHREAD_PROCESS_SHARED), 0);
	REQ_IS("getpshared", pthread_rwlockattr_getpshared(&r, &v), 0);
	REQ_IS("gets what was set", v, PTHREAD_PROCESS_SHARED);
	REQ_IS("setpshared: EINVAL", pthread_rwlockattr_setpshared(&r, 77), EINVAL);
	REQ_IS("getkind", pthread_rwlockattr_getkind_np(&r, &v), 0);
	REQ_IS("default kind", v, PTHREAD_RWLOCK_PREFER_READER_NP);
	for (int i = 0; i < 3; i++) {
		REQ_IS("setkind", pthread_rwlockattr_setkind_np(&r, i), 0);
		REQ_IS("getkind", pthread_rwlockattr_getkind_np(&r, &v), 0);
		REQ_IS("gets what was set", v, i);
	}
	REQ_IS("setkind: EINVAL", pthread_rwlockattr_setkind_np(&r, 77), EINVAL);
	REQ_IS("destroy", pthread_rwlockattr_destroy(&r), 0);

	REQ_IS("pthread_barrierattr_init", pthread_barrierattr_init(&b), 0);
	REQ_IS("getpshared", pthread_barrierattr_getpshared(&b, &v), 0);
	REQ_IS("default PRIVATE", v, PTHREAD_PROCESS_PRIVATE);
	REQ_IS("setpshared", pthread_barrierattr_setpshared(&b, PTHREAD_PROCESS_SHARED), 0);
	REQ_IS("getpshared", pthread_barrierattr_getpshared(&b, &v), 0);
	REQ_IS("gets what was set", v, PTHREAD_PROCESS_SHARED);
	REQ_IS("setpshared: EINVAL", pthread_barrierattr_setpshared(&b, 77), EINVAL);
	REQ_IS("destroy", pthread_barrierattr_destroy(&b), 0);
}

static void *all(void *arg)
{
	mutexattr();
	combinations();
	condattr();
	others();
	return arg;
}

int main(void)
{
	all(NULL);
	in_thread(all, NULL);
	return req_end();
}
