/* SPDX-License-Identifier: MIT
 * How many CPUs this process may use. See cpus.h.
 */
#include "upcall/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>

#include "upcall/cgroup.h"
#include "weft/config.h"

static void limit(unsigned *least, uint64_t quota, uint64_t period)
{
	uint64_t cpus;

	if (!period)
		return;
	cpus = quota / period + (quota % period != 0);
	if (!cpus)
		cpus = 1;
	if (cpus < *least)
		*least = (unsigned)cpus;
}

/* "max" and version 1's "-1" are no numbers: unlimited. */
static void look_at(const char *dir, enum weft__cgroup_version version, void *least)
{
	char quota[64], period[64];
	const char *q = quota, *p = period;
	uint64_t amount, length;

	if (version == WEFT__CGROUP_V2) {
		if (weft__cgroup_read(dir, "cpu.max", quota, sizeof(quota)) &&
		    weft__cgroup_number(&q, &amount) && weft__cgroup_number(&q, &length))
			limit(least, amount, length);
		return;
	}
	if (weft__cgroup_read(dir, "cpu.cfs_quota_us", quota, sizeof(quota)) &&
	    weft__cgroup_number(&q, &amount) &&
	    weft__cgroup_read(dir, "cpu.cfs_period_us", period, sizeof(period)) &&
	    weft__cgroup_number(&p, &length))
		limit(least, amount, length);
}

unsigned weft__cpus_quota(const char *root)
{
	unsigned least = WEFT__CPUS_UNLIMITED;

	weft__cgroups_each(root, "cpu", look_at, &least);
	return least;
}

unsigned weft__cpus_affinity(void)
{
	cpu_set_t set[8192 / CPU_SETSIZE];	/* as many as Linux supports */
	int error = errno, n = 0;

	if (!sched_getaffinity(0, sizeof(set), set))
		n = CPU_COUNT_S(sizeof(set), set);
	errno = error;
	return n > 0 ? (unsigned)n : 1;
}

unsigned weft__cpus_allowed(void)
{
	unsigned cpus = weft__cpus_affinity(), quota = weft__cpus_quota("");

	return quota < cpus ? quota : cpus;
}

__attribute__((visibility("default"))) unsigned weft_cpus_available(void)
{
	return weft__cpus_allowed();
}
