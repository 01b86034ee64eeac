/* SPDX-License-Identifier: MIT
 * How much memory is left for more threads. See memory.h.
 */
#include "upcall/memory.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "upcall/cgroup.h"

enum {
	TEXT = 4096,
	PLACES = 8192,
	RESERVE_SHARE = 16,
};
#define RESERVE_MAX (256ull << 20)

/* The directories, each a digit for the version of cgroups and a string; an empty one ends them.
 * Written by weft__memory_find, which runs before there is a second thread of ours. */
static char places[PLACES];
static size_t places_end;

static void remember(const char *dir, enum weft__cgroup_version version, void *arg)
{
	size_t n = strlen(dir) + 1;

	(void)arg;
	if (n + 2 > PLACES - places_end)
		return;
	places[places_end++] = (char)('1' + version);
	memcpy(places + places_end, dir, n);
	places_end += n;
	places[places_end] = 0;
}

void weft__memory_find(const char *root)
{
	places_end = 0;
	places[0] = 0;
	weft__cgroups_each(root, "memory", remember, NULL);
}

/* The number in the line of `text` that begins with `name`; 0 where there is none. */
static uint64_t field(const char *text, const char *name)
{
	size_t n = strlen(name);
	uint64_t value;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) || (line[n] != ' ' && line[n] != ':'))
			continue;
		line += n + (line[n] == ':');
		return weft__cgroup_number(&line, &value) ? value : 0;
	}
	return 0;
}

static uint64_t less_reserve(uint64_t left, uint64_t total)
{
	uint64_t reserve = total / RESERVE_SHARE;

	if (reserve > RESERVE_MAX)
		reserve = RESERVE_MAX;
	return left > reserve ? left - reserve : 0;
}

static bool amount(const char *dir, const char *file, uint64_t *out)
{
	char text[64];
	const char *p = text;

	return weft__cgroup_read(dir, file, text, sizeof(text)) && weft__cgroup_number(&p, out);
}

/* Of the machine's free swap, what one cgroup may use. Most containers may use none. Version 1 limits memory and swap together. */
static uint64_t swap_in(const char *dir, bool v1, uint64_t swap, uint64_t limit, uint64_t used)
{
	uint64_t max, now;

	if (!amount(dir, v1 ? "memory.memsw.limit_in_bytes" : "memory.swap.max", &max) || max >= UINT64_MAX / 4 ||
	    !amount(dir, v1 ? "memory.memsw.usage_in_bytes" : "memory.swap.current", &now))
		return swap;
	if (v1) {
		max = max > limit ? max - limit : 0;
		now = now > used ? now - used : 0;
	}
	max = max > now ? max - now : 0;
	return swap < max ? swap : max;
}

/* What is left below the limit of one cgroup. Version 1 writes "no limit" as a huge number. */
static uint64_t left_in(const char *dir, enum weft__cgroup_version version, uint64_t swap, char *text)
{
	bool v1 = version == WEFT__CGROUP_V1;
	uint64_t limit, used, cache;

	if (!amount(dir, v1 ? "memory.limit_in_bytes" : "memory.max", &limit) ||
	    limit >= UINT64_MAX / 4 ||
	    !amount(dir, v1 ? "memory.usage_in_bytes" : "memory.current", &used) ||
	    !weft__cgroup_read(dir, "memory.stat", text, TEXT))
		return UINT64_MAX;
	swap = swap_in(dir, v1, swap, limit, used);
	if (v1)
		cache = field(text, "total_inactive_file") + field(text, "total_active_file");
	else
		cache = field(text, "inactive_file") + field(text, "active_file");
	used = used > cache ? used - cache : 0;
	return less_reserve((limit > used ? limit - used : 0) + swap, limit);
}

uint64_t weft__memory_spare(const char *root)
{
	uint64_t least = UINT64_MAX, swap = 0;
	int error = errno;
	char text[TEXT];

	if (weft__cgroup_read(root, "proc/meminfo", text, sizeof(text)) &&
	    field(text, "MemAvailable")) {
		swap = field(text, "SwapFree") << 10;
		least = less_reserve((field(text, "MemAvailable") << 10) + swap,
				     field(text, "MemTotal") << 10);
	}
	for (const char *p = places; *p; p += strlen(p) + 1) {
		uint64_t left = left_in(p + 1, (enum weft__cgroup_version)(*p - '1'), swap, text);

		if (left < least)
			least = left;
	}
	errno = error;
	return least;
}
