/* SPDX-License-Identifier: MIT
 * CPU quotas of our cgroup and all above it, versions 2 and 1.
 *
 * Model:     /proc/self/cgroup names our cgroup in each hierarchy, /proc/self/mountinfo where the
 *            hierarchy is mounted and which of its directories is the mount's root.
 */
#include "tools/tool.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mount {
	char root[PATH_MAX];
	char point[PATH_MAX];
};

bool weft__read_number(const char *path, int64_t *out)
{
	FILE *f = fopen(path, "re");
	long long n;
	bool ok;

	if (!f)
		return false;
	ok = fscanf(f, "%lld", &n) == 1;
	fclose(f);
	*out = n;
	return ok;
}

/* Is `word` one of "a,b,c"? */
static bool in_list(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; *p;) {
		size_t len = strcspn(p, ",");

		if (len == n && !memcmp(p, word, n))
			return true;
		p += len + (p[len] == ',');
	}
	return false;
}

/* Where the cgroup v2 hierarchy (v1: the one with the cpu controller) is mounted. */
static bool find_mount(bool v2, struct mount *m)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, type[32], super[512];
	bool found = false;
	size_t size = 0;

	while (f && !found && getline(&line, &size, f) > 0) {
		const char *dash = strstr(line, " - ");

		/* id parent dev root point options… - type source super-options */
		if (!dash || sscanf(dash, " - %31s %*s %511s", type, super) != 2 ||
		    strcmp(type, v2 ? "cgroup2" : "cgroup") || (!v2 && !in_list(super, "cpu")))
			continue;
		found = sscanf(line, "%*s %*s %*s %4095s %4095s", m->root, m->point) == 2;
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* Our cgroup in that hierarchy, into path[PATH_MAX]. */
static bool find_cgroup(bool v2, char *path)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	while (f && !found && getline(&line, &size, f) > 0) {
		char *controllers = strchr(line, ':'), *dir;

		dir = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!dir)
			continue;
		*dir++ = '\0';
		controllers++;
		dir[strcspn(dir, "\n")] = '\0';
		if (v2 ? *controllers != '\0' : !in_list(controllers, "cpu"))
			continue;
		found = strlen(dir) < PATH_MAX;
		if (found)
			strcpy(path, dir);
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* CPUs that the cgroup in directory `dir` allows, 0 = no limit. */
static double quota_of(bool v2, const char *dir)
{
	char path[2 * PATH_MAX + 32];
	long long quota = 0, period = 0;
	int64_t q, p;
	FILE *f;

	if (v2) {
		snprintf(path, sizeof(path), "%s/cpu.max", dir);
		f = fopen(path, "re");
		if (!f)
			return 0;
		/* "max 100000" reads as no number at all. */
		if (fscanf(f, "%lld %lld", &quota, &period) != 2)
			quota = 0;
		fclose(f);
	} else {
		snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", dir);
		if (!weft__read_number(path, &q))
			return 0;
		snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
		if (!weft__read_number(path, &p))
			return 0;
		quota = q;
		period = p;
	}
	return quota > 0 && period > 0 ? (double)quota / (double)period : 0;
}

static void tightest(bool v2, struct weft__quota *q)
{
	static char cgroup[PATH_MAX], dir[2 * PATH_MAX];
	static struct mount m;
	const char *below = cgroup;
	size_t n, top;

	if (!find_cgroup(v2, cgroup) || !find_mount(v2, &m))
		return;
	/* A container may see only a part of the tree: what is above it is out of sight. */
	n = strlen(m.root);
	if (n > 1 && !strncmp(cgroup, m.root, n) && (cgroup[n] == '/' || !cgroup[n]))
		below = cgroup + n;
	else if (n > 1 || strstr(cgroup, "/.."))
		below = "";
	top = (size_t)snprintf(dir, sizeof(dir), "%s", m.point);
	snprintf(dir + top, sizeof(dir) - top, "%s", strcmp(below, "/") ? below : "");
	for (;;) {
		double cpus = quota_of(v2, dir);

		if (cpus > 0 && (q->cpus <= 0 || cpus < q->cpus)) {
			q->cpus = cpus;
			snprintf(q->cgroup, sizeof(q->cgroup), "%.*s", (int)sizeof(q->cgroup) - 1,
				 dir[top] ? dir + top : "/");
		}
		if (strlen(dir) <= top)
			return;
		*strrchr(dir, '/') = '\0';
	}
}

void weft__cgroup_quota(struct weft__quota *q)
{
	memset(q, 0, sizeof(*q));
	tightest(true, q);
	tightest(false, q);
}
