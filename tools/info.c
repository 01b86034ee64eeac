/* SPDX-License-Identifier: MIT
 * weft info: what this machine offers, and what weft will therefore use.
 *
 * Model:     a list of rows, each with what is here, what follows from it with the settings of the
 *            environment, and its value for --json. Text and JSON are two prints of that list.
 */
#include "tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <gnu/libc-version.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "weft/sched.h"
#include "weft/weft.h"

#define ROWS_MAX 32
#define NPTL_STACK_IF_UNLIMITED (2ULL << 20)
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

struct row {
	const char *key;		/* in JSON */
	const char *label;
	char here[256];
	char use[160];
	struct json_object *value;	/* in JSON */
};

static struct row rows[ROWS_MAX];
static unsigned nr_rows;

/* A new row; `here` is formatted. Its use is added by use(). */
__attribute__((format(printf, 4, 5)))
static void add(const char *key, const char *label, struct json_object *value,
		const char *here, ...)
{
	struct row *r = &rows[nr_rows];
	va_list ap;

	if (nr_rows == ROWS_MAX) {
		json_object_put(value);
		return;
	}
	nr_rows++;
	r->key = key;
	r->label = label;
	r->value = value;
	va_start(ap, here);
	vsnprintf(r->here, sizeof(r->here), here, ap);
	va_end(ap);
}

__attribute__((format(printf, 1, 2)))
static void use(const char *fmt, ...)
{
	struct row *r = &rows[nr_rows - 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->use, sizeof(r->use), fmt, ap);
	va_end(ap);
}

static const char *bytes(uint64_t n, char buf[32])
{
	if (n && n % (1 << 20) == 0)
		snprintf(buf, 32, "%llu MiB", (unsigned long long)n >> 20);
	else if (n && n % (1 << 10) == 0)
		snprintf(buf, 32, "%llu KiB", (unsigned long long)n >> 10);
	else
		snprintf(buf, 32, "%llu bytes", (unsigned long long)n);
	return buf;
}

static struct json_object *json_limit(rlim_t n)
{
	return n == RLIM_INFINITY ? json_object_new_string("unlimited") :
				    json_object_new_int64((int64_t)n);
}

static void add_cpus(const struct weft_config *c)
{
	unsigned affinity = weft__probe_affinity();
	struct weft__quota q;

	add("cpus", "CPUs by affinity", json_object_new_int((int)affinity), "%u", affinity);
	if (c->vps)
		use("%u VPs (WEFT_VPS)", c->vps);
	else
		use("%u VPs", weft_cpus_available());
	weft__cgroup_quota(&q);
	if (q.cpus > 0)
		add("cpu_quota", "CPU quota of cgroups", json_object_new_double(q.cpus),
		    "%.2f CPUs (%s)", q.cpus, q.cgroup);
	else
		add("cpu_quota", "CPU quota of cgroups", NULL, "none");
	use("%s", q.cpus > 0 && !c->vps ? "limits the VPs" : "");
}

static void add_preemption(const struct weft_config *c)
{
	char signal[32] = "the last real-time signal";

	if (c->signo)
		snprintf(signal, sizeof(signal), "signal %d (WEFT_SIGNAL)", c->signo);
	add("quantum_ns", "Quantum", json_object_new_int64((int64_t)c->quantum_ns), "%g ms",
	    (double)c->quantum_ns / 1e6);
	use("preemption by %s", signal);
}

static void add_switching(const struct weft_config *c)
{
	const char *missing = weft__probe_libc();
	bool fsbase = weft__probe_fsbase();

	add("fsgsbase", "FSGSBASE", json_object_new_boolean(fsbase), fsbase ? "yes" : "no");
	use("%s", c->fsbase_syscall ? "arch_prctl (WEFT_FSBASE)" : fsbase ? "wrfsbase" :
	    "arch_prctl: slower switches");
	add("glibc_private", "glibc", json_object_new_boolean(!missing), "%s, %s%s",
	    gnu_get_libc_version(), missing ? "lacks " : "private symbols resolve",
	    missing ? missing : "");
	use("%s", c->tls_shared ? "shared TLS (WEFT_TLS)" : missing ?
	    "shared TLS: no errno or thread_local per fiber" : "full TLS per fiber");
}

static void add_blocked(const struct weft_config *c)
{
	static const char *const forced[] = {
		NULL, "switch records (WEFT_BLOCKED)", "marks (WEFT_BLOCKED)",
		"task state (WEFT_BLOCKED)",
	};
	enum weft__records_step step;
	char advice[256];
	int r = weft__probe_records(&step);

	add("switch_records", "Switch records", json_object_new_boolean(!r), "%s",
	    r ? weft__records_advice(step, -r, advice, sizeof(advice)) : "work");
	if (c->blocked == WEFT_BLOCKED_AUTO)
		use("%s", r ? "marks and task state, to see what blocks" : "to see what blocks");
	else if (c->blocked == WEFT_BLOCKED_RECORDS && r)
		use("nothing: WEFT_BLOCKED=records makes weft refuse to start");
	else
		use("%s", forced[c->blocked]);
}

static void add_memory(const struct weft_config *c)
{
	unsigned long frame = getauxval(AT_MINSIGSTKSZ);
	int64_t maps = 65530, overcommit = 0;
	int r = weft__probe_guard();
	struct rlimit stack = { 0, 0 };
	uint64_t size;
	char text[32];

	weft__read_number("/proc/sys/vm/max_map_count", &maps);
	add("guard_regions", "Guard regions", json_object_new_boolean(!r), "%s",
	    r ? "no (they need Linux 6.13)" : "work");
	if (r || c->guard_mprotect)
		use("mprotect%s: at most %lld guarded stacks",
		    c->guard_mprotect ? " (WEFT_GUARD)" : "", (long long)(maps * 45 / 100));
	else
		use("to guard stacks");
	add("max_map_count", "vm.max_map_count", json_object_new_int64(maps), "%lld",
	    (long long)maps);

	getrlimit(RLIMIT_STACK, &stack);
	size = stack.rlim_cur == RLIM_INFINITY ? NPTL_STACK_IF_UNLIMITED : stack.rlim_cur;
	add("stack_limit", "Stack limit", json_limit(stack.rlim_cur), "%s",
	    stack.rlim_cur == RLIM_INFINITY ? "unlimited" : bytes(stack.rlim_cur, text));
	if (c->stack_size)
		use("stacks of %s (WEFT_STACK)", bytes(c->stack_size, text));
	else
		use("stacks of %s", bytes(size, text));
	add("minsigstksz", "Signal frame", json_object_new_int64((int64_t)frame), "%lu bytes", frame);
	use("added twice to every stack");

	weft__read_number("/proc/sys/vm/overcommit_memory", &overcommit);
	add("overcommit_memory", "vm.overcommit_memory", json_object_new_int64(overcommit), "%lld",
	    (long long)overcommit);
	use("%s", overcommit == 2 ? "stacks count in full: choose small ones (--stack)" :
	    "stacks cost what they touch");
}

static void add_kernel(const struct weft_config *c)
{
	int barrier = weft__probe_membarrier(), uring = weft__probe_uring();

	add("membarrier", "membarrier", json_object_new_boolean(!barrier), "%s",
	    barrier ? strerror(-barrier) : "private expedited works");
	use("%s", c->membarrier_off ? "fences (WEFT_MEMBARRIER)" : barrier ? "fences" :
	    "instead of fences on fast paths");
	add("io_uring", "io_uring", json_object_new_boolean(!uring), "%s",
	    uring ? strerror(-uring) : "works");
	use("%s", c->uring == 2 ? "not used (WEFT_URING)" : uring ? "file I/O blocks its worker" :
	    "may carry file I/O");
}

static void add_limit(const char *key, const char *label, int which, const char *text)
{
	struct rlimit r = { 0, 0 };
	char number[32] = "unlimited";

	getrlimit(which, &r);
	if (r.rlim_cur != RLIM_INFINITY)
		snprintf(number, sizeof(number), "%llu", (unsigned long long)r.rlim_cur);
	add(key, label, json_limit(r.rlim_cur), "%s", number);
	use("%s", text);
}

static void add_policies(const struct weft_config *c)
{
	struct json_object *list = json_object_new_array();
	const struct weft_sched_ops *ops;
	char names[128] = "";

	for (unsigned i = 0; (ops = weft_sched_nth(i)); i++) {
		size_t n = strlen(names);

		json_object_array_add(list, json_object_new_string(ops->name));
		snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "", ops->name);
	}
	add("policies", "Policies", list, "%s", names);
	use("%s", c->policy);
}

static void print_text(void)
{
	struct utsname u;

	uname(&u);
	printf("weft %d.%d on %s %s, %s\n\n%-22s %-34s %s\n", WEFT_VERSION_MAJOR,
	       WEFT_VERSION_MINOR, u.sysname, u.release, u.machine, "", "this machine",
	       "what weft uses");
	for (unsigned i = 0; i < nr_rows; i++) {
		const struct row *r = &rows[i];

		if (strlen(r->here) <= 34)
			printf("%-22s %-34s %s\n", r->label, r->here, r->use);
		else
			printf("%-22s %s\n%-22s %-34s %s\n", r->label, r->here, "", "", r->use);
	}
}

static void print_json(void)
{
	struct json_object *all = json_object_new_object();
	struct utsname u;
	char version[32];

	uname(&u);
	snprintf(version, sizeof(version), "%d.%d", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR);
	json_object_object_add(all, "weft", json_object_new_string(version));
	json_object_object_add(all, "kernel", json_object_new_string(u.release));
	json_object_object_add(all, "machine", json_object_new_string(u.machine));
	json_object_object_add(all, "glibc", json_object_new_string(gnu_get_libc_version()));
	for (unsigned i = 0; i < nr_rows; i++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "value", rows[i].value);
		json_object_object_add(o, "text", json_object_new_string(rows[i].here));
		json_object_object_add(o, "use", json_object_new_string(rows[i].use));
		json_object_object_add(all, rows[i].key, o);
	}
	puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(all);
}

static int help(void)
{
	puts("Usage: weft info [--json]\n"
	     "\n"
	     "Show what this machine offers (each facility is tried, not looked up) and what weft\n"
	     "will use of it, with the WEFT_* settings of the environment.\n"
	     "\n"
	     "  -j, --json   as one JSON object: NAME: { value, text, use }\n"
	     "  -h, --help   show this help\n"
	     "\n"
	     "Example:\n"
	     "  weft info --json | jq -r .switch_records.use");
	return weft__finish_output();
}

static int usage_error(void)
{
	fputs("Try 'weft info --help'.\n", stderr);
	return WEFT__EXIT_REFUSED;
}

int weft__cmd_info(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct weft_config config;
	bool json = false;
	char err[256];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+jh", options, NULL)) != -1) {
		if (c == 'h')
			return help();
		if (c != 'j') {
			weft__complain("info: unknown option '%s'", argv[optind - 1]);
			return usage_error();
		}
		json = true;
	}
	if (argv[optind]) {
		weft__complain("info: unexpected argument '%s'", argv[optind]);
		return usage_error();
	}
	if (weft_config_from_env(&config, err, sizeof(err))) {
		weft__complain("%s", err);
		return WEFT__EXIT_REFUSED;
	}
	add_cpus(&config);
	add_preemption(&config);
	add_policies(&config);
	add_switching(&config);
	add_blocked(&config);
	add_kernel(&config);
	add_memory(&config);
	add_limit("nproc_limit", "Process limit", RLIMIT_NPROC, "bounds the kernel threads");
	add_limit("nofile_limit", "Descriptor limit", RLIMIT_NOFILE, "");
	if (json)
		print_json();
	else
		print_text();
	return weft__finish_output();
}
