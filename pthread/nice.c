/* SPDX-License-Identifier: MIT
 * The nice value, which Linux has for each thread, and the system calls that take all scheduling attributes at once.
 *
 * Model:     as with policy and priority (schedule.c): a fiber's value is its own, is told, goes on to the threads and processes that it
 *            makes, and never changes a worker's, which carries other fibers too. So no privilege is asked for.
 * Others:    foreign threads, everything before the runtime starts, process groups and users: the kernel's.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pthread/io.h"
#include "pthread/shim.h"
#include "runtime/extras.h"

WEFT__REAL(getpriority);
WEFT__REAL(setpriority);
WEFT__REAL(nice);

enum { NICE_MIN = -20, NICE_MAX = 19 };

/* The fiber that `who` means, NULL: the kernel knows. *err: ESRCH. */
static struct weft__fiber *of_who(int which, id_t who, int *err)
{
	struct weft__fiber *f;

	*err = 0;
	if (which != PRIO_PROCESS)
		return NULL;
	f = weft__sched_of_id((pid_t)who, err);
	if (f && weft__is_done(f))
		*err = ESRCH;
	return f;
}

static void set(struct weft__fiber *f, int value)
{
	f->nice = (int8_t)(value < NICE_MIN ? NICE_MIN : value > NICE_MAX ? NICE_MAX : value);
}

WEFT__EXPORT int getpriority(__priority_which_t which, id_t who)
{
	int err;
	struct weft__fiber *f = of_who((int)which, who, &err);

	if (err) {
		errno = err;
		return -1;
	}
	return f ? f->nice : weft__real(getpriority)(which, who);
}

WEFT__EXPORT int setpriority(__priority_which_t which, id_t who, int value)
{
	int err;
	struct weft__fiber *f = of_who((int)which, who, &err);

	if (err) {
		errno = err;
		return -1;
	}
	if (!f)
		return weft__real(setpriority)(which, who, value);
	set(f, value);
	return 0;
}

WEFT__EXPORT int nice(int inc)
{
	int err;
	struct weft__fiber *f = of_who(PRIO_PROCESS, 0, &err);

	if (!f)
		return weft__real(nice)(inc);
	if (inc < NICE_MIN - NICE_MAX || inc > NICE_MAX - NICE_MIN)
		inc = inc < 0 ? NICE_MIN - NICE_MAX : NICE_MAX - NICE_MIN;
	set(f, f->nice + inc);
	return f->nice;
}

void weft__nice_inherit(const struct weft__fiber *parent)
{
	/* who may not have it, as setting it asked for no privilege, goes without */
	if (parent->worker && parent->nice != weft__nice_of_workers())
		weft__arch_syscall(SYS_setpriority, PRIO_PROCESS, 0, parent->nice, 0, 0, 0);
}

/* --- sched_setattr(2), sched_getattr(2): libc has no functions for them --- */

struct attr {				/* the kernel's struct sched_attr as far as it concerns us: its first version */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t prio;
	uint64_t rest[3];
};
_Static_assert(sizeof(struct attr) == 48, "SCHED_ATTR_SIZE_VER0");

enum { KEEP_POLICY = 8, KEEP_PARAMS = 16 };	/* SCHED_FLAG_… */

static bool has_nice(int policy)
{
	return policy == SCHED_OTHER || policy == SCHED_BATCH;
}

static long get_attr(const struct weft__fiber *f, const long a[6])
{
	struct attr *at = (struct attr *)a[1];
	long r = weft__arch_syscall(SYS_sched_getattr, 0, a[1], a[2], a[3], 0, 0);	/* checks, and fills in the rest */

	if (r < 0)
		return r;
	at->policy = (uint32_t)f->policy;
	at->nice = has_nice(f->policy) ? f->nice : 0;
	at->prio = (uint32_t)f->prio;
	return 0;
}

static long set_attr(struct weft__fiber *f, const long a[6])
{
	const struct attr *at = (const struct attr *)a[1];
	int policy, err;

	if (!at || a[2])
		return -EINVAL;
	if (at->size && at->size < sizeof *at)
		return -E2BIG;
	policy = at->flags & KEEP_POLICY ? f->policy : (int)at->policy;
	err = weft__sched_check_set(f, policy, at->flags & KEEP_PARAMS ? f->prio : (int)at->prio);
	if (!err && has_nice(policy) && !(at->flags & KEEP_PARAMS))
		set(f, at->nice);
	return -err;
}

long weft__nice_syscall(long nr, const long a[6])
{
	bool attrs = nr == SYS_sched_setattr || nr == SYS_sched_getattr;
	int err;
	struct weft__fiber *f = attrs ? of_who(PRIO_PROCESS, (id_t)a[0], &err) : of_who((int)a[0], (id_t)a[1], &err);

	if (err)
		return -err;
	if (!f)
		return -EOPNOTSUPP;
	switch (nr) {
	case SYS_sched_getattr:
		return get_attr(f, a);
	case SYS_sched_setattr:
		return set_attr(f, a);
	case SYS_getpriority:
		return NICE_MAX + 1 - f->nice;	/* as the kernel tells it: without negative values */
	case SYS_setpriority:
		set(f, (int)a[2]);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}
