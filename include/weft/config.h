/* SPDX-License-Identifier: MIT
 * weft/config.h: the settings of the runtime, one table for the library, the
 * `weft` command and the manual.
 *
 * Every setting is an environment variable. `weft run --NAME=VALUE` only checks the
 * value with weft_config_set() and puts it into the environment of the program.
 */
#ifndef WEFT_CONFIG_H
#define WEFT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a worker that stalls in the kernel is noticed. */
enum weft_blocked_source {
	WEFT_BLOCKED_AUTO,		/* the best one that works here */
	WEFT_BLOCKED_RECORDS,		/* perf switch records */
	WEFT_BLOCKED_MARKS,		/* wrappers of system calls mark entry and exit */
	WEFT_BLOCKED_STATE,		/* /proc/self/task/TID/stat, sampled */
};

struct weft_config {
	unsigned vps;			/* WEFT_VPS: 0 = as many as the CPUs allow; 1..1024 */
	uint64_t quantum_ns;		/* WEFT_QUANTUM: time slice, e.g. 4ms, 500us; plain = µs; see weft(7) */
	size_t stack_size;		/* WEFT_STACK: default stack size, e.g. 256k; 0 = RLIMIT_STACK */
	enum weft_blocked_source blocked; /* WEFT_BLOCKED: auto, records, marks, state */
	const char *policy;		/* WEFT_POLICY: fifo, rr */
	int scope_posix;		/* WEFT_SCOPE: fiber, posix */
	int stats;			/* WEFT_STATS: 0, 1: print statistics to standard error at exit */
	int inherit;			/* WEFT_INHERIT: 1 = programs that this one starts run under weft too */
	int verbose;			/* WEFT_VERBOSE: 1 = say on standard error what was chosen and why */
	int signo;			/* WEFT_SIGNAL: preemption signal, 0 = SIGRTMAX in the shim */
	int tls_shared;			/* WEFT_TLS: full, shared */
	int fsbase_syscall;		/* WEFT_FSBASE: auto, arch_prctl */
	int guard_mprotect;		/* WEFT_GUARD: auto, mprotect */
	int membarrier_off;		/* WEFT_MEMBARRIER: auto, off */
	int uring;			/* WEFT_URING: auto, eventfd, off */
	int bind;			/* WEFT_BIND: off, cpu, node */
	uint64_t fuzz_ns;		/* WEFT_FUZZ: preempt at random intervals down to this; 0 = off */
};

/* One setting, for help texts and manuals. */
struct weft_config_option {
	const char *env;		/* "WEFT_VPS" */
	const char *option;		/* "vps": weft run --vps=… */
	const char *values;		/* "N|auto" */
	const char *def;		/* the default as text */
	const char *summary;		/* one line */
};

/* The i-th setting, NULL after the last. */
const struct weft_config_option *weft_config_option(unsigned i);

/* Fill `c` with the defaults. */
void weft_config_defaults(struct weft_config *c);

/* Check and store one setting by its environment name. Returns 0, or -EINVAL with a
 * message in `err` that names the variable, the value and what is accepted;
 * -ENOENT if there is no such setting. Does not allocate. */
int weft_config_set(struct weft_config *c, const char *env, const char *value,
		    char *err, size_t errsize);

/* Defaults, then every WEFT_* variable of the environment. Returns 0 or the first error
 * of weft_config_set(); an unknown WEFT_* variable is an error too. */
int weft_config_from_env(struct weft_config *c, char *err, size_t errsize);

/* How many CPUs the calling thread may use now: its affinity mask, capped by the cpu.max (cgroup v1:
 * cpu.cfs_quota_us) of its cgroup and of every ancestor, fractions rounded up; at least 1. So many VPs are made
 * where WEFT_VPS says nothing else. Reads /proc and /sys anew each time, keeps errno. Does not allocate.
 * Context: anywhere but a signal handler. */
unsigned weft_cpus_available(void);

#ifdef __cplusplus
}
#endif
#endif
