/* SPDX-License-Identifier: MIT
 * CPUs by affinity and by cgroup limits, on made-up /proc and /sys trees.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "upcall/cpus.h"
#include "weft/config.h"

static char root[64];

static void make_root(void)
{
	strcpy(root, "/tmp/weft-cpus-XXXXXX");
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

TestSuite(cpus, .init = make_root, .fini = remove_root, .timeout = 20);

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

static void v2(const char *cgroup, const char *mount_root, const char *point)
{
	char text[2048];

	snprintf(text, sizeof(text), "0::%s\n", cgroup);
	put("/proc/self/cgroup", text);
	snprintf(text, sizeof(text),
		 "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
		 "23 22 0:21 / /proc rw shared:12 - proc proc rw\n"
		 "35 22 0:30 %s %s rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
		 mount_root, point);
	put("/proc/self/mountinfo", text);
}

Test(cpus, no_proc_no_limit)
{
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED);
	put("/proc/self/cgroup", "");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED);
	put("/proc/self/cgroup", "0::/a\n");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED);
	put("/proc/self/mountinfo", "garbage\n\n1 2\n - \n1 2 3 4 5 6 - cgroup2\n");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED);
}

Test(cpus, v2_rounding)
{
	static const struct {
		const char *text;
		unsigned cpus;
	} c[] = {
		{ "max 100000\n", WEFT__CPUS_UNLIMITED }, { "100000 100000\n", 1 },
		{ "150000 100000\n", 2 }, { "200000 100000\n", 2 }, { "200001 100000\n", 3 },
		{ "1000 100000\n", 1 }, { "1000 1000000\n", 1 }, { "400000 50000\n", 8 },
		{ "0 100000\n", 1 }, { "100000 0\n", WEFT__CPUS_UNLIMITED },
		{ "100000\n", WEFT__CPUS_UNLIMITED }, { "", WEFT__CPUS_UNLIMITED },
		{ "300000 100000", 3 },
	};

	v2("/a", "/", "/sys/fs/cgroup");
	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++) {
		put("/sys/fs/cgroup/a/cpu.max", c[i].text);
		cr_assert_eq(weft__cpus_quota(root), c[i].cpus, "\"%s\"", c[i].text);
	}
}

Test(cpus, v2_every_ancestor_counts)
{
	v2("/user.slice/user-0.slice/job", "/", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/user.slice/user-0.slice/job/cpu.max", "800000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 8);
	put("/sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 3);
	put("/sys/fs/cgroup/user.slice/user-0.slice/cpu.max", "max 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 3);
	put("/sys/fs/cgroup/user.slice/other/cpu.max", "100000 100000\n");
	put("/sys/fs/cpu.max", "100000 100000\n");
	put("/cpu.max", "100000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 3, "neither siblings nor what lies above the mount");
	put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 2, "the mounted root may be a container's");
}

/* A cgroup that was removed while we are in it. */
Test(cpus, v2_missing_directories)
{
	v2("/a/b/c (deleted)", "/", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/a/cpu.max", "500000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 5);
}

Test(cpus, v2_container_without_namespace)
{
	v2("/system.slice/docker-1.scope/x", "/system.slice/docker-1.scope", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/cpu.max", "400000 100000\n");
	put("/sys/fs/cgroup/x/cpu.max", "600000 100000\n");
	put("/sys/fs/cgroup/system.slice/docker-1.scope/x/cpu.max", "100000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 4);
}

Test(cpus, v2_mounts_of_other_cgroups)
{
	v2("/docker-10", "/docker-1", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/cpu.max", "100000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED, "a name that begins like ours");
	v2("/docker-1", "/docker-1/inner", "/sys/fs/cgroup");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED, "a child of ours");
	v2("/docker-1", "/../other", "/sys/fs/cgroup");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED, "beside our namespace");
	v2("/../other", "/", "/sys/fs/cgroup");
	put("/sys/fs/other/cpu.max", "100000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED, "outside of our namespace");
	v2("/..x", "/", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/cpu.max", "max 100000\n");
	put("/sys/fs/cgroup/..x/cpu.max", "100000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 1, "only looks like it");
}

Test(cpus, v2_mount_above_the_namespace)
{
	v2("/", "/../..", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/cpu.max", "700000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 7);
}

Test(cpus, v2_namespace_root)
{
	v2("/", "/", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/cpu.max", "300000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 3);
}

Test(cpus, v2_escaped_mount_point)
{
	v2("/a b", "/a\\040b", "/my\\040cgroups/x\\134y");
	put("/my cgroups/x\\y/cpu.max", "900000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 9);
}

Test(cpus, v1)
{
	put("/proc/self/cgroup", "12:cpuset:/\n4:cpu,cpuacct:/docker/abc:1/x\n"
	    "3:name=systemd:/other\n0::/\n");
	put("/proc/self/mountinfo",
	    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
	    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
	    "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw master:3 propagate_from:2 - "
	    "cgroup cgroup rw,cpu,cpuacct\n"
	    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED);
#define CPU "/sys/fs/cgroup/cpu,cpuacct/docker/abc:1/"
	put(CPU "x/cpu.cfs_quota_us", "-1\n");
	put(CPU "x/cpu.cfs_period_us", "100000\n");
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED);
	put(CPU "cpu.cfs_quota_us", "510000\n");
	put(CPU "cpu.cfs_period_us", "100000\n");
	cr_assert_eq(weft__cpus_quota(root), 6);
	put(CPU "x/cpu.cfs_quota_us", "150000\n");
	cr_assert_eq(weft__cpus_quota(root), 2);
	/* a version 1 file in another hierarchy means nothing */
	put("/sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "1000\n");
	put("/sys/fs/cgroup/cpuset/cpu.cfs_period_us", "1000\n");
	cr_assert_eq(weft__cpus_quota(root), 2);
	/* both versions at once: the tighter one */
	put("/sys/fs/cgroup/unified/cpu.max", "100000 100000\n");
	cr_assert_eq(weft__cpus_quota(root), 1);
}

/* The buffer of a line ends inside lines of every length, and long ones do not hide what
 * follows. */
Test(cpus, long_files)
{
	FILE *f;
	char path[128];

	put("/sys/fs/cgroup/a/cpu.max", "600000 100000\n");
	put("/sys/cut/cpu.max", "100000 100000\n");
	put("/proc/self/cgroup", "1:misc:/\n0::/a\n");
	put("/proc/self/mountinfo", "");
	snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
	f = fopen(path, "w");
	for (int i = 0; i < 500; i++)
		fprintf(f, "%d 1 0:5 / /overlay/%0*d rw - overlay overlay rw,lowerdir=%0*d\n", i,
			1 + i % 97, i, 1 + (i * i) % 9000, i);
	fprintf(f, "35 22 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
	fclose(f);
	cr_assert_eq(weft__cpus_quota(root), 6, "the last line, without a newline");
}

/* The tail of an overlong line must not be taken for a line. */
Test(cpus, overlong_line_is_dropped)
{
	FILE *f;
	char path[128];

	put("/sys/fs/cgroup/cpu.max", "600000 100000\n");
	put("/proc/self/cgroup", "0::/\n");
	put("/proc/self/mountinfo", "");
	snprintf(path, sizeof(path), "%s/proc/self/mountinfo", root);
	for (int shift = 0; shift < 40; shift++) {
		f = fopen(path, "w");
		fprintf(f, "%0*d ", 2030 + shift, 1);
		fprintf(f, "35 22 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
		fclose(f);
		/* cut in its first word or right behind it: never a complete line */
		cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED, "shift %d", shift);
	}
}

Test(cpus, names_too_long_are_no_limit)
{
	char cgroup[6000] = "/a";

	v2("/a", "/", "/sys/fs/cgroup");
	memset(cgroup + 2, 'x', sizeof(cgroup) - 3);
	memcpy(cgroup, "0::/", 4);
	put("/proc/self/cgroup", cgroup);
	cr_assert_eq(weft__cpus_quota(root), WEFT__CPUS_UNLIMITED);
}

Test(cpus, errno_is_kept)
{
	errno = 4711;
	weft__cpus_quota(root);
	weft__cpus_allowed();
	cr_assert_eq(errno, 4711);
}

Test(cpus, affinity)
{
	cpu_set_t all, one;
	int cpu = 0;

	cr_assert_eq(sched_getaffinity(0, sizeof(all), &all), 0);
	cr_assert_eq(weft__cpus_affinity(), (unsigned)CPU_COUNT(&all));
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	cr_assert_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	cr_assert_eq(weft__cpus_affinity(), 1);
	cr_assert_eq(weft_cpus_available(), 1);
}

Test(cpus, here)
{
	unsigned n = weft_cpus_available();

	cr_assert(n >= 1 && n <= weft__cpus_affinity());
	cr_assert_eq(n, weft__cpus_allowed());
}
