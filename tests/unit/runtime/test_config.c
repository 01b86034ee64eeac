/* SPDX-License-Identifier: MIT
 * runtime/config.c: every kind of value, what is refused and in which words.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weft/config.h"
#include "weft/sched.h"

TestSuite(config, .timeout = 10);

static char err[256];

static int set(struct weft_config *c, const char *env, const char *value)
{
	err[0] = '\0';
	return weft_config_set(c, env, value, err, sizeof(err));
}

/* Store `value`, which must be accepted. */
static struct weft_config with(const char *env, const char *value)
{
	struct weft_config c;

	weft_config_defaults(&c);
	cr_assert_eq(set(&c, env, value), 0, "%s=%s: %s", env, value, err);
	cr_assert_str_empty(err);
	return c;
}

/* `value` must be refused, changing nothing, in words that name variable and value. */
static void refuses(const char *env, const char *value)
{
	struct weft_config c, before;
	char start[128];

	weft_config_defaults(&c);
	before = c;
	cr_assert_eq(set(&c, env, value), -EINVAL, "%s=%s is accepted", env, value);
	cr_assert_eq(memcmp(&c, &before, sizeof(c)), 0);
	snprintf(start, sizeof(start), "%s=%s: not ", env, value);
	cr_assert_eq(strncmp(err, start, strlen(start)), 0, "message: %s", err);
	cr_assert_gt(strlen(err), strlen(start));
}

static void clear(void)
{
	const struct weft_config_option *o;

	for (unsigned i = 0; (o = weft_config_option(i)); i++)
		unsetenv(o->env);
	unsetenv("WEFT_SHIM");
}

Test(config, defaults)
{
	struct weft_config c;

	memset(&c, 0x5a, sizeof(c));
	weft_config_defaults(&c);
	cr_assert_eq(c.vps, 0);
	cr_assert_eq(c.quantum_ns, 3000000);
	cr_assert_eq(c.stack_size, 0);
	cr_assert_eq(c.blocked, WEFT_BLOCKED_AUTO);
	cr_assert_str_eq(c.policy, "fifo");
	cr_assert_eq(c.stats, 0);
	cr_assert_eq(c.inherit, 1);
	cr_assert_eq(c.verbose, 0);
	cr_assert_eq(c.signo, 0);
	cr_assert_eq(c.tls_shared, 0);
	cr_assert_eq(c.scope_posix, 0);
	cr_assert_eq(c.fsbase_syscall, 0);
	cr_assert_eq(c.guard_mprotect, 0);
	cr_assert_eq(c.membarrier_off, 0);
	cr_assert_eq(c.uring, 0);
	cr_assert_eq(c.bind, 0);
	cr_assert_eq(c.fuzz_ns, 0);
}

Test(config, every_row_is_complete_and_its_default_valid)
{
	const struct weft_config_option *o;
	struct weft_config c, d;
	unsigned n = 0;

	weft_config_defaults(&d);
	for (unsigned i = 0; (o = weft_config_option(i)); i++, n++) {
		char lower[32] = "";

		cr_assert_eq(strncmp(o->env, "WEFT_", 5), 0);
		for (size_t k = 0; o->env[5 + k]; k++)
			lower[k] = (char)(o->env[5 + k] | 0x20);
		cr_assert_str_eq(o->option, lower);
		cr_assert(o->values && *o->values && o->summary && *o->summary);
		c = with(o->env, o->def);
		cr_assert_eq(memcmp(&c, &d, sizeof(c)), 0, "%s: default changes something", o->env);
		refuses(o->env, "nonsense");
		refuses(o->env, "");
	}
	cr_assert_eq(n, 17);
	cr_assert_null(weft_config_option(n + 100));
}

Test(config, vps)
{
	cr_assert_eq(with("WEFT_VPS", "1").vps, 1);
	cr_assert_eq(with("WEFT_VPS", "1024").vps, 1024);
	cr_assert_eq(with("WEFT_VPS", "auto").vps, 0);
	cr_assert_eq(with("WEFT_VPS", "0").vps, 0);
	refuses("WEFT_VPS", "1025");
	refuses("WEFT_VPS", "-1");
	refuses("WEFT_VPS", "+1");
	refuses("WEFT_VPS", " 1");
	refuses("WEFT_VPS", "1 ");
	refuses("WEFT_VPS", "2k");
	refuses("WEFT_VPS", "0x2");
	refuses("WEFT_VPS", "18446744073709551617");
	refuses("WEFT_VPS", "abc");
	cr_assert_str_eq(err, "WEFT_VPS=abc: not a number between 1 and 1024 or 'auto'");
}

Test(config, times)
{
	cr_assert_eq(with("WEFT_QUANTUM", "500").quantum_ns, 500000);
	cr_assert_eq(with("WEFT_QUANTUM", "20us").quantum_ns, 20000);
	cr_assert_eq(with("WEFT_QUANTUM", "20000ns").quantum_ns, 20000);
	cr_assert_eq(with("WEFT_QUANTUM", "4ms").quantum_ns, 4000000);
	cr_assert_eq(with("WEFT_QUANTUM", "10S").quantum_ns, 10000000000);
	refuses("WEFT_QUANTUM", "19us");
	refuses("WEFT_QUANTUM", "19999ns");
	refuses("WEFT_QUANTUM", "10001ms");
	refuses("WEFT_QUANTUM", "0");
	refuses("WEFT_QUANTUM", "auto");
	refuses("WEFT_QUANTUM", "ms");
	refuses("WEFT_QUANTUM", "4 ms");
	refuses("WEFT_QUANTUM", "4m");
	refuses("WEFT_QUANTUM", "1.5ms");
	refuses("WEFT_QUANTUM", "18446744073709551615s");
	cr_assert_eq(with("WEFT_FUZZ", "off").fuzz_ns, 0);
	cr_assert_eq(with("WEFT_FUZZ", "0").fuzz_ns, 0);
	cr_assert_eq(with("WEFT_FUZZ", "20us").fuzz_ns, 20000);
	refuses("WEFT_FUZZ", "10us");
	refuses("WEFT_FUZZ", "on");
}

Test(config, sizes)
{
	cr_assert_eq(with("WEFT_STACK", "auto").stack_size, 0);
	cr_assert_eq(with("WEFT_STACK", "0").stack_size, 0);
	cr_assert_eq(with("WEFT_STACK", "16384").stack_size, 16384);
	cr_assert_eq(with("WEFT_STACK", "16k").stack_size, 16384);
	cr_assert_eq(with("WEFT_STACK", "8M").stack_size, 8 << 20);
	cr_assert_eq(with("WEFT_STACK", "64g").stack_size, UINT64_C(64) << 30);
	refuses("WEFT_STACK", "16383");
	refuses("WEFT_STACK", "15k");
	refuses("WEFT_STACK", "65g");
	refuses("WEFT_STACK", "68719476737");
	refuses("WEFT_STACK", "17179869185g");
	refuses("WEFT_STACK", "1kb");
	refuses("WEFT_STACK", "k");
}

Test(config, words)
{
	cr_assert_eq(with("WEFT_BLOCKED", "records").blocked, WEFT_BLOCKED_RECORDS);
	cr_assert_eq(with("WEFT_BLOCKED", "marks").blocked, WEFT_BLOCKED_MARKS);
	cr_assert_eq(with("WEFT_BLOCKED", "state").blocked, WEFT_BLOCKED_STATE);
	refuses("WEFT_BLOCKED", "record");
	refuses("WEFT_BLOCKED", "marks|state");
	refuses("WEFT_BLOCKED", "Marks");
	cr_assert_str_eq(err, "WEFT_BLOCKED=Marks: not auto, records, marks or state");
	cr_assert_eq(with("WEFT_STATS", "1").stats, 1);
	cr_assert_eq(with("WEFT_INHERIT", "0").inherit, 0);
	cr_assert_eq(with("WEFT_VERBOSE", "1").verbose, 1);
	refuses("WEFT_STATS", "2");
	cr_assert_str_eq(err, "WEFT_STATS=2: not 0 or 1");
	cr_assert_eq(with("WEFT_TLS", "shared").tls_shared, 1);
	cr_assert_eq(with("WEFT_SCOPE", "posix").scope_posix, 1);
	refuses("WEFT_SCOPE", "system");
	cr_assert_eq(with("WEFT_FSBASE", "arch_prctl").fsbase_syscall, 1);
	cr_assert_eq(with("WEFT_GUARD", "mprotect").guard_mprotect, 1);
	cr_assert_eq(with("WEFT_MEMBARRIER", "off").membarrier_off, 1);
	cr_assert_eq(with("WEFT_URING", "eventfd").uring, 1);
	cr_assert_eq(with("WEFT_URING", "off").uring, 2);
	cr_assert_eq(with("WEFT_BIND", "cpu").bind, 1);
	cr_assert_eq(with("WEFT_BIND", "node").bind, 2);
}

Test(config, policy)
{
	char name[] = "rr";
	struct weft_config c = with("WEFT_POLICY", name);

	/* It must not point into memory of the caller. */
	cr_assert_eq(c.policy, weft_sched_find("rr")->name);
	refuses("WEFT_POLICY", "lottery");
}

Test(config, signals)
{
	cr_assert_eq(with("WEFT_SIGNAL", "auto").signo, 0);
	cr_assert_eq(with("WEFT_SIGNAL", "64").signo, 64);
	cr_assert_eq(with("WEFT_SIGNAL", "SIGALRM").signo, 14);
	cr_assert_eq(with("WEFT_SIGNAL", "14").signo, 14);
	cr_assert_eq(with("WEFT_SIGNAL", "usr2").signo, 12);
	cr_assert_eq(with("WEFT_SIGNAL", "SIGRTMIN").signo, 34);
	cr_assert_eq(with("WEFT_SIGNAL", "SIGRTMIN+3").signo, 37);
	cr_assert_eq(with("WEFT_SIGNAL", "RTMAX-1").signo, 63);
	cr_assert_eq(with("WEFT_SIGNAL", "SIGRTMAX").signo, 64);
	refuses("WEFT_SIGNAL", "SIGKILL");
	refuses("WEFT_SIGNAL", "9");
	refuses("WEFT_SIGNAL", "11");
	refuses("WEFT_SIGNAL", "32");
	refuses("WEFT_SIGNAL", "33");
	refuses("WEFT_SIGNAL", "65");
	refuses("WEFT_SIGNAL", "SIGRTMIN+31");
	refuses("WEFT_SIGNAL", "SIGRTMAX+1");
	refuses("WEFT_SIGNAL", "SIG");
	refuses("WEFT_SIGNAL", "r");
}

Test(config, unknown_name)
{
	struct weft_config c;

	weft_config_defaults(&c);
	cr_assert_eq(set(&c, "WEFT_VP", "1"), -ENOENT);
	cr_assert_not_null(strstr(err, "WEFT_VP:"));
	cr_assert_eq(set(&c, "WEFT_VPSS", "1"), -ENOENT);
	cr_assert_eq(set(&c, "", "1"), -ENOENT);
}

Test(config, message_is_cut_and_clean)
{
	struct weft_config c;
	char value[5000], small[8];

	weft_config_defaults(&c);
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	value[1] = '\033';
	cr_assert_eq(set(&c, "WEFT_VPS", value), -EINVAL);
	cr_assert_null(strchr(err, '\033'));
	cr_assert_not_null(strstr(err, "...: not a number"), "%s", err);
	cr_assert_eq(weft_config_set(&c, "WEFT_VPS", value, small, sizeof(small)), -EINVAL);
	cr_assert_eq(strlen(small), sizeof(small) - 1);
	cr_assert_eq(weft_config_set(&c, "WEFT_VPS", value, NULL, 0), -EINVAL);
	cr_assert_eq(weft_config_set(&c, "WEFT_NO", value, NULL, 0), -ENOENT);
}

Test(config, from_env)
{
	struct weft_config c;

	clear();
	setenv("WEFT_VPS", "3", 1);
	setenv("WEFT_STACK", "64k", 1);
	setenv("WEFT_STATS", "", 1);		/* as good as unset */
	setenv("WEFT_SHIM", "/x/y.so", 1);	/* the command's own */
	setenv("WEFTED", "1", 1);
	cr_assert_eq(weft_config_from_env(&c, err, sizeof(err)), 0, "%s", err);
	cr_assert_eq(c.vps, 3);
	cr_assert_eq(c.stack_size, 65536);
	cr_assert_eq(c.stats, 0);
	cr_assert_eq(c.quantum_ns, 3000000);
}

Test(config, from_env_wrong_value)
{
	struct weft_config c;

	clear();
	setenv("WEFT_QUANTUM", "soon", 1);
	cr_assert_eq(weft_config_from_env(&c, err, sizeof(err)), -EINVAL);
	cr_assert_eq(strncmp(err, "WEFT_QUANTUM=soon: ", 19), 0);
}

Test(config, from_env_unknown_name)
{
	struct weft_config c;

	clear();
	setenv("WEFT_VSP", "2", 1);
	cr_assert_eq(weft_config_from_env(&c, err, sizeof(err)), -ENOENT);
	cr_assert_not_null(strstr(err, "WEFT_VSP:"));
	unsetenv("WEFT_VSP");
	setenv("WEFT_SHIMS", "2", 1);
	cr_assert_eq(weft_config_from_env(&c, err, sizeof(err)), -ENOENT);
	clearenv();
	cr_assert_eq(weft_config_from_env(&c, err, sizeof(err)), 0);
}
