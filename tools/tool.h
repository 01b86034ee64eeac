/* SPDX-License-Identifier: MIT
 * What the files of the `weft` command share.
 *
 * Model:     main.c dispatches; run.c reads options and replaces itself by the program; check.c
 *            looks at the program first, because the dynamic linker ignores LD_PRELOAD silently
 *            where it does not apply; info.c prints what probe.c and limits.c found out.
 * Context:   one thread, before anything else runs.
 */
#ifndef WEFT_TOOLS_TOOL_H
#define WEFT_TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weft/config.h"

/* Exit statuses, those of env(1) and timeout(1). */
enum {
	WEFT__EXIT_REFUSED = 125,	/* weft failed, or would not run the program */
	WEFT__EXIT_CANNOT_RUN = 126,	/* found, but cannot be run at all */
	WEFT__EXIT_NOT_FOUND = 127,
};

/* "weft: …" and a newline on standard error. */
void weft__complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Flush standard output. 0, or WEFT__EXIT_REFUSED with a message. */
int weft__finish_output(void);

/* run.c, info.c: argv[0] is the command's name. Return the exit status. */
int weft__cmd_run(int argc, char **argv);
int weft__cmd_info(int argc, char **argv);

/* The settings on standard output, one line each; info.c and --help. */
void weft__print_settings(void);

/* --- check.c --- */

/* Find `name` as execvp(3) would, into path[size]. 0 or an exit status, with a message. */
int weft__find_program(const char *name, char *path, size_t size);

/* Would the program at `path`, or the interpreter of the script there, run under weft?
 * 0 or an exit status, with a message. *shell is set if it is text without "#!", which execvp(3)
 * gives to /bin/sh. */
int weft__check_program(const char *path, bool *shell);

/* --- sanitizer.c --- */

/* Does the program need the shared runtime of AddressSanitizer or ThreadSanitizer? Then its name goes into name[size]. */
bool weft__sanitizer(const char *path, char *name, size_t size);

/* --- probe.c: try what the runtime would use. Results: 0 works, or -errno --- */

enum weft__records_step {
	WEFT__RECORDS_OPEN,	/* perf_event_open */
	WEFT__RECORDS_MAP,	/* the ring */
	WEFT__RECORDS_READ,	/* a record after a sleep */
	WEFT__RECORDS_WORK,
};

int weft__probe_records(enum weft__records_step *step);
int weft__probe_guard(void);
int weft__probe_membarrier(void);
int weft__probe_uring(void);
bool weft__probe_fsbase(void);
unsigned weft__probe_affinity(void);

/* The first private glibc symbol that is missing, NULL if all are there. */
const char *weft__probe_libc(void);

/* What to do about weft__probe_records() failing with `err` at `step`. */
const char *weft__records_advice(enum weft__records_step step, int err, char *buf, size_t size);

/* --- limits.c --- */

struct weft__quota {
	double cpus;			/* CPUs per second of time; 0 = no limit */
	char cgroup[256];		/* the cgroup that sets it */
};

/* The tightest CPU quota of our cgroup and its ancestors. */
void weft__cgroup_quota(struct weft__quota *q);

/* A number in a file of /proc or /sys. */
bool weft__read_number(const char *path, int64_t *out);

#endif
