/* SPDX-License-Identifier: MIT
 * What the kernel says of a process: memory, threads, CPU time; and of the machine's memory.
 *
 * Not for:   a measured loop: each call opens a file.
 */
#ifndef WEFT_BENCH_PROC_H
#define WEFT_BENCH_PROC_H

#include "bench.h"

#include <sys/types.h>

/* A number of /proc/PID/status, such as "VmRSS:" (KiB) or "Threads:"; 0 where there is none. */
static inline unsigned long proc_status(pid_t pid, const char *field)
{
	char path[64], line[256];
	unsigned long value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			value = strtoul(line + strlen(field), NULL, 10);
	fclose(f);
	return value;
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts = { 0, 0 };

	must(clock_gettime(clock, &ts) ? errno : 0, "clock_gettime");
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
