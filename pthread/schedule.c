/* SPDX-License-Identifier: MIT
 * Scheduling of single threads: policy and priority, CPU affinity, concurrency, CPU-time clocks.
 *
 * Policies:  SCHED_FIFO and SCHED_RR give a fiber its priority, all others priority 0; what that means is up to weft's policy
 *            (WEFT_POLICY=rr orders by it, fifo does not). The kernel's priority of the workers, which carry other fibers too, is never changed, so
 *            no privilege is asked for either.
 * Ids:       a pid argument that is 0, the process's or a fiber's id means a fiber as long as the runtime runs; others are the kernel's.
 * Foreign threads, and everything before the runtime starts: libc's own functions.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pthread/io.h"
#include "pthread/shim.h"
#include "runtime/extras.h"
#include "runtime/runtime.h"

WEFT__REAL(pthread_getschedparam);
WEFT__REAL(pthread_setschedparam);
WEFT__REAL(pthread_setschedprio);
WEFT__REAL(pthread_getaffinity_np);
WEFT__REAL(pthread_setaffinity_np);
WEFT__REAL(pthread_setconcurrency);
WEFT__REAL(pthread_getcpuclockid);
WEFT__REAL(sched_getscheduler);
WEFT__REAL(sched_setscheduler);
WEFT__REAL(sched_getparam);
WEFT__REAL(sched_setparam);
WEFT__REAL(sched_rr_get_interval);
WEFT__REAL(sched_getaffinity);
WEFT__REAL(sched_setaffinity);
WEFT__REAL(clock_gettime);
WEFT__REAL(clock_getres);

/* clock_gettime may come first in a signal handler, and dlsym must not. */
__attribute__((constructor)) static void resolve(void)
{
	(void)weft__real(clock_gettime);
}

static int fail(int err)
{
	if (!err)
		return 0;
	errno = err;
	return -1;
}

/* The fiber behind a handle, NULL: libc knows better. */
static struct weft__fiber *of_handle(pthread_t thread)
{
	return weft__running() ? weft__fiber_of((void *)thread) : NULL;
}

struct weft__fiber *weft__sched_of_id(pid_t id, int *err)
{
	struct weft__fiber *self = weft__self(), *f;

	*err = 0;
	if (!weft__running())
		return NULL;
	if (id == 0)
		return weft__is_fiber(self) ? self : NULL;
	f = weft__tid_fiber(id);
	if (!f && id >= WEFT__TID_FIRST)
		*err = ESRCH;
	return f;
}

/* --- policy and priority --- */

static int check(int policy, int prio)
{
	switch (policy) {
	case SCHED_OTHER:
	case SCHED_BATCH:
	case SCHED_IDLE:
	case SCHED_FIFO:
	case SCHED_RR:
		return prio < sched_get_priority_min(policy) || prio > sched_get_priority_max(policy) ? EINVAL : 0;
	default:
		return EINVAL;
	}
}

int weft__sched_check_set(struct weft__fiber *f, int policy, int prio)
{
	int err = check(policy, prio);

	if (err)
		return err;
	if (weft__is_done(f))
		return ESRCH;
	weft__sched_set(f, policy, prio);
	return 0;
}

WEFT__EXPORT int pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param)
{
	struct weft__fiber *f = of_handle(thread);

	return f ? weft__sched_check_set(f, policy, param->sched_priority) : weft__real(pthread_setschedparam)(thread, policy, param);
}

WEFT__EXPORT int pthread_getschedparam(pthread_t thread, int *policy, struct sched_param *param)
{
	struct weft__fiber *f = of_handle(thread);

	if (!f)
		return weft__real(pthread_getschedparam)(thread, policy, param);
	if (weft__is_done(f))
		return ESRCH;
	*policy = f->policy;
	param->sched_priority = f->prio;
	return 0;
}

WEFT__EXPORT int pthread_setschedprio(pthread_t thread, int prio)
{
	struct weft__fiber *f = of_handle(thread);

	return f ? weft__sched_check_set(f, f->policy, prio) : weft__real(pthread_setschedprio)(thread, prio);
}

WEFT__EXPORT int sched_setscheduler(pid_t id, int policy, const struct sched_param *param)
{
	int err;
	struct weft__fiber *f = weft__sched_of_id(id, &err);

	if (err)
		return fail(err);
	if (!f)
		return weft__real(sched_setscheduler)(id, policy, param);
	return fail(param ? weft__sched_check_set(f, policy & ~SCHED_RESET_ON_FORK, param->sched_priority) : EINVAL);
}

WEFT__EXPORT int sched_getscheduler(pid_t id)
{
	int err;
	struct weft__fiber *f = weft__sched_of_id(id, &err);

	if (err)
		return fail(err);
	return f ? f->policy : weft__real(sched_getscheduler)(id);
}

WEFT__EXPORT int sched_setparam(pid_t id, const struct sched_param *param)
{
	int err;
	struct weft__fiber *f = weft__sched_of_id(id, &err);

	if (err)
		return fail(err);
	if (!f)
		return weft__real(sched_setparam)(id, param);
	return fail(param ? weft__sched_check_set(f, f->policy, param->sched_priority) : EINVAL);
}

WEFT__EXPORT int sched_getparam(pid_t id, struct sched_param *param)
{
	int err;
	struct weft__fiber *f = weft__sched_of_id(id, &err);

	if (err)
		return fail(err);
	if (!f)
		return weft__real(sched_getparam)(id, param);
	if (!param)
		return fail(EINVAL);
	param->sched_priority = f->prio;
	return 0;
}

/* The quantum, for the policies that have one. */
static struct timespec interval(const struct weft__fiber *f)
{
	uint64_t ns = f->policy != SCHED_FIFO ? weft__rt.cfg.quantum_ns : 0;

	return (struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
}

WEFT__EXPORT int sched_rr_get_interval(pid_t id, struct timespec *ts)
{
	int err;
	struct weft__fiber *f = weft__sched_of_id(id, &err);

	if (err)
		return fail(err);
	if (!f)
		return weft__real(sched_rr_get_interval)(id, ts);
	*ts = interval(f);
	return 0;
}

/* --- affinity --- */

/* As the kernel does it: what is beyond the CPUs that can be is ignored. */
static int set_cpus(struct weft__fiber *f, size_t size, const cpu_set_t *given)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	memcpy(&cpus, given, size < sizeof cpus ? size : sizeof cpus);
	return weft__is_done(f) ? ESRCH : -weft__affinity_set(f, &cpus);
}

static int get_cpus(struct weft__fiber *f, size_t size, cpu_set_t *out)
{
	cpu_set_t cpus;

	if (weft__is_done(f))
		return ESRCH;
	weft__affinity_get(f, &cpus);
	for (size_t i = size; i < sizeof cpus; i++)
		if (((const char *)&cpus)[i])
			return EINVAL;		/* does not fit */
	memset(out, 0, size);
	memcpy(out, &cpus, size < sizeof cpus ? size : sizeof cpus);
	return 0;
}

WEFT__EXPORT int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *cpus)
{
	struct weft__fiber *f = of_handle(thread);

	return f ? set_cpus(f, size, cpus) : weft__real(pthread_setaffinity_np)(thread, size, cpus);
}

WEFT__EXPORT int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *cpus)
{
	struct weft__fiber *f = of_handle(thread);

	return f ? get_cpus(f, size, cpus) : weft__real(pthread_getaffinity_np)(thread, size, cpus);
}

WEFT__EXPORT int sched_setaffinity(pid_t id, size_t size, const cpu_set_t *cpus)
{
	int err;
	struct weft__fiber *f = weft__sched_of_id(id, &err);

	if (err)
		return fail(err);
	return f ? fail(set_cpus(f, size, cpus)) : weft__real(sched_setaffinity)(id, size, cpus);
}

WEFT__EXPORT int sched_getaffinity(pid_t id, size_t size, cpu_set_t *cpus)
{
	int err;
	struct weft__fiber *f = weft__sched_of_id(id, &err);

	if (err)
		return fail(err);
	return f ? fail(get_cpus(f, size, cpus)) : weft__real(sched_getaffinity)(id, size, cpus);
}

/* The same as the program's own system calls. -EOPNOTSUPP: not about a fiber. */
long weft__sched_syscall(long nr, const long a[6])
{
	cpu_set_t *cpus = (cpu_set_t *)a[2];
	size_t size = (size_t)a[1];
	long kernel_size;
	int err;
	struct weft__fiber *f = weft__sched_of_id((pid_t)a[0], &err);

	if (err)
		return -err;
	if (!f)
		return -EOPNOTSUPP;
	switch (nr) {
	case SYS_sched_setaffinity:
		return -set_cpus(f, size, cpus);
	case SYS_sched_getaffinity:
		/* how much the kernel would write */
		kernel_size = weft__arch_syscall(nr, 0, a[1], a[2], 0, 0, 0);
		return kernel_size < 0 ? kernel_size : get_cpus(f, (size_t)kernel_size, cpus) ? -EINVAL : kernel_size;
	case SYS_sched_setscheduler:
		return a[2] ? -weft__sched_check_set(f, (int)a[1] & ~SCHED_RESET_ON_FORK, *(const int *)a[2]) : -EINVAL;
	case SYS_sched_getscheduler:
		return f->policy;
	case SYS_sched_setparam:
		return a[1] ? -weft__sched_check_set(f, f->policy, *(const int *)a[1]) : -EINVAL;
	case SYS_sched_getparam:
		if (!a[1])
			return -EINVAL;
		*(int *)a[1] = f->prio;
		return 0;
	case SYS_sched_rr_get_interval:
		if (!a[1])
			return -EFAULT;
		*(struct timespec *)a[1] = interval(f);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* --- concurrency --- */

/* So many VPs, if it comes before the first thread and no setting says otherwise; later, as POSIX has it, a hint. */
WEFT__EXPORT int pthread_setconcurrency(int level)
{
	int err = weft__real(pthread_setconcurrency)(level);

	if (!err)
		weft__vps_wanted = level < WEFT__MAX_VPS ? (unsigned)level : WEFT__MAX_VPS;
	return err;
}

/* --- CPU-time clocks --- */

/* As the kernel makes the clock of a thread, with the fiber's id: clock_getcpuclockid(3). */
enum { CLOCK_KIND = 7, CLOCK_OF_THREAD = 6 };

WEFT__EXPORT int pthread_getcpuclockid(pthread_t thread, clockid_t *id)
{
	struct weft__fiber *f = of_handle(thread);

	if (!f)
		return weft__real(pthread_getcpuclockid)(thread, id);
	if (weft__is_done(f))
		return ESRCH;
	*id = (clockid_t)(~(f->kind == WEFT__MAIN ? (unsigned)getpid() : f->tid) << 3 | CLOCK_OF_THREAD);
	return 0;
}

/* The fiber whose CPU time that is. *err: EINVAL, it has ended. */
static __attribute__((noinline)) struct weft__fiber *of_clock(clockid_t id, int *err)
{
	struct weft__fiber *f;

	*err = 0;
	if (id == CLOCK_THREAD_CPUTIME_ID)
		return weft__sched_of_id(0, err);
	if ((id & CLOCK_KIND) != CLOCK_OF_THREAD)
		return NULL;
	f = weft__sched_of_id((pid_t)~((unsigned)(id >> 3)), err);
	if (*err || (f && weft__is_done(f)))
		*err = EINVAL;
	return f;
}

WEFT__EXPORT int clock_gettime(clockid_t id, struct timespec *ts)
{
	struct weft__fiber *f;
	uint64_t ns;
	int err;

	if (weft__likely(id >= 0 && id != CLOCK_THREAD_CPUTIME_ID))
		return weft__real(clock_gettime)(id, ts);
	f = of_clock(id, &err);
	if (err)
		return fail(err);
	if (!f)
		return weft__real(clock_gettime)(id, ts);
	ns = weft__cputime(f);
	*ts = (struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
	return 0;
}

WEFT__EXPORT int clock_getres(clockid_t id, struct timespec *ts)
{
	struct weft__fiber *f;
	int err;

	if (weft__likely(id >= 0))
		return weft__real(clock_getres)(id, ts);
	f = of_clock(id, &err);
	if (err)
		return fail(err);
	return weft__real(clock_getres)(f ? CLOCK_THREAD_CPUTIME_ID : id, ts);
}
