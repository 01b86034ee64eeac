/* SPDX-License-Identifier: MIT
 * What is left of memory, by the machine and by cgroup limits, on made-up /proc and /sys trees.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "upcall/memory.h"

#define MB (1ull << 20)

static char root[64];

static void make_root(void)
{
	strcpy(root, "/tmp/weft-memory-XXXXXX");
	cr_assert_not_null(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_root(void)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(memory, .init = make_root, .fini = remove_root, .timeout = 20);

/* Write a file below root, its directories included. */
static void put(const char *path, const char *text)
{
	char full[4096], *slash;
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (slash = full + strlen(root); (slash = strchr(slash + 1, '/'));) {
		*slash = 0;
		cr_assert(!mkdir(full, 0700) || errno == EEXIST);
		*slash = '/';
	}
	f = fopen(full, "w");
	cr_assert_not_null(f, "%s: %s", full, strerror(errno));
	fputs(text, f);
	cr_assert_eq(fclose(f), 0);
}

static void machine(void)
{
	put("/proc/meminfo", "MemTotal:        1048576 kB\nMemFree:           1000 kB\n"
			     "MemAvailable:     524288 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n");
}

static void in_v2(const char *max, const char *current, const char *stat)
{
	put("/proc/self/cgroup", "0::/a/b\n");
	put("/proc/self/mountinfo", "35 22 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	put("/sys/fs/cgroup/a/memory.max", max);
	put("/sys/fs/cgroup/a/memory.current", current);
	put("/sys/fs/cgroup/a/memory.stat", stat);
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	put("/sys/fs/cgroup/a/b/memory.current", "1000\n");
	put("/sys/fs/cgroup/a/b/memory.stat", "anon 1000\n");
	weft__memory_find(root);
}

Test(memory, nothing_known)
{
	errno = 7;
	weft__memory_find(root);
	cr_assert_eq(weft__memory_spare(root), UINT64_MAX);
	cr_assert_eq(errno, 7);
}

Test(memory, machine_less_a_sixteenth)
{
	machine();
	weft__memory_find(root);
	cr_assert_eq(weft__memory_spare(root), 512 * MB - 64 * MB);
}

Test(memory, the_reserve_has_an_end)
{
	put("/proc/meminfo", "MemTotal: 1073741824 kB\nMemAvailable: 1048576 kB\n");
	weft__memory_find(root);
	cr_assert_eq(weft__memory_spare(root), 1024 * MB - 256 * MB);
}

Test(memory, swap_counts)
{
	put("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 1024 kB\nSwapFree: 1048576 kB\n");
	weft__memory_find(root);
	cr_assert_eq(weft__memory_spare(root), 1025 * MB - 64 * MB);
}

Test(memory, cgroup_v2_of_an_ancestor)
{
	machine();
	in_v2("167772160\n", "104857600\n", "anon 1\ninactive_file 10485760\nactive_file 20971520\n");
	/* 160 MB, 100 of them used, of which 30 are page cache; a reserve of 10 */
	cr_assert_eq(weft__memory_spare(root), 80 * MB);
}

Test(memory, cgroup_v2_over_its_limit)
{
	machine();
	in_v2("1048576\n", "104857600\n", "anon 104857600\n");
	cr_assert_eq(weft__memory_spare(root), 0);
}

Test(memory, cgroup_v2_without_limit)
{
	machine();
	in_v2("max\n", "104857600\n", "anon 104857600\n");
	cr_assert_eq(weft__memory_spare(root), 448 * MB);
}

Test(memory, cgroup_v1)
{
	machine();
	put("/proc/self/cgroup", "4:memory:/j\n3:cpu,cpuacct:/\n");
	put("/proc/self/mountinfo", "35 22 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n");
	put("/sys/fs/cgroup/memory/memory.stat", "cache 0\n");
	put("/sys/fs/cgroup/memory/j/memory.limit_in_bytes", "167772160\n");
	put("/sys/fs/cgroup/memory/j/memory.usage_in_bytes", "104857600\n");
	put("/sys/fs/cgroup/memory/j/memory.stat",
	    "inactive_file 1\ntotal_inactive_file 10485760\ntotal_active_file 20971520\n");
	weft__memory_find(root);
	cr_assert_eq(weft__memory_spare(root), 80 * MB);
}

Test(memory, swap_that_cgroups_may_not_use)
{
	put("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\nSwapFree: 1048576 kB\n");
	put("/sys/fs/cgroup/a/memory.swap.max", "0\n");
	put("/sys/fs/cgroup/a/memory.swap.current", "0\n");
	in_v2("167772160\n", "104857600\n", "anon 1\n");
	cr_assert_eq(weft__memory_spare(root), 50 * MB);
	put("/sys/fs/cgroup/a/memory.swap.max", "20971520\n");
	put("/sys/fs/cgroup/a/memory.swap.current", "10485760\n");
	cr_assert_eq(weft__memory_spare(root), 60 * MB);
	put("/sys/fs/cgroup/a/memory.swap.max", "max\n");
	cr_assert_eq(weft__memory_spare(root), (60 + 1024 - 10) * MB);
}

Test(memory, swap_that_cgroups_v1_may_not_use)
{
	put("/proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\nSwapFree: 1048576 kB\n");
	put("/proc/self/cgroup", "4:memory:/j\n");
	put("/proc/self/mountinfo", "35 22 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
	put("/sys/fs/cgroup/memory/j/memory.limit_in_bytes", "167772160\n");
	put("/sys/fs/cgroup/memory/j/memory.usage_in_bytes", "104857600\n");
	put("/sys/fs/cgroup/memory/j/memory.stat", "total_inactive_file 0\n");
	put("/sys/fs/cgroup/memory/j/memory.memsw.limit_in_bytes", "188743680\n");
	put("/sys/fs/cgroup/memory/j/memory.memsw.usage_in_bytes", "115343360\n");
	weft__memory_find(root);
	/* 60 MB, and 10 of the 20 that are above the limit; a reserve of 10 */
	cr_assert_eq(weft__memory_spare(root), 60 * MB);
}

/* The real system, whatever it is: an answer, and errno is as it was. */
Test(memory, here)
{
	errno = 7;
	weft__memory_find("");
	cr_assert_gt(weft__memory_spare(""), 0);
	cr_assert_eq(errno, 7);
}
