/* SPDX-License-Identifier: MIT
 * The settings: one table, one parser.
 *
 * Model:     a row of `settings` names a variable, where its value goes and what is accepted.
 *            Adding a setting is adding a row.
 * Context:   start-up and the `weft` command; not thread-safe against setenv(). Never allocates.
 * Not for:   deciding what a setting means; "auto" is stored as 0 and whoever uses it chooses.
 */
#include "weft/config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "weft/sched.h"

#define EXPORT __attribute__((visibility("default")))

#define US UINT64_C(1000)
#define MS (1000 * US)
#define SEC (1000 * MS)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* The kernel's real-time signals that glibc leaves to programs. SIGRTMAX is not used here: under
 * the shim it excludes the very signal that this setting is about. */
#define RT_FIRST 34
#define RT_LAST 64

#define SHOWN_MAX 64	/* bytes of a wrong value that a message repeats */

enum kind {
	COUNT,		/* unsigned */
	TIME,		/* uint64_t, nanoseconds; a plain number is microseconds */
	SIZE,		/* size_t, bytes */
	WORD,		/* int: the index in option.values */
	POLICY,		/* const char *: the policy's own name */
	SIGNAL,		/* int */
};

struct setting {
	struct weft_config_option option;
	enum kind kind;
	size_t offset;		/* in struct weft_config */
	const char *zero;	/* the word that means 0, NULL if 0 is not allowed */
	uint64_t min, max;
	const char *accepts;	/* "… is not ACCEPTS"; NULL: made from option.values */
};

#define FIELD(f) offsetof(struct weft_config, f)

_Static_assert(sizeof(enum weft_blocked_source) == sizeof(int), "WORD stores an int");
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "SIZE holds 64 GiB");

static const struct setting settings[] = {
	{ { "WEFT_VPS", "vps", "N|auto", "auto",
	    "virtual processors: fibers that run at once" },
	  COUNT, FIELD(vps), "auto", 1, 1024, "a number between 1 and 1024 or 'auto'" },
	{ { "WEFT_QUANTUM", "quantum", "TIME", "3ms",
	    "time slice, 20us to 10s" },
	  TIME, FIELD(quantum_ns), NULL, 20 * US, 10 * SEC,
	  "a time between 20us and 10s, such as 500us or 4ms" },
	{ { "WEFT_STACK", "stack", "SIZE|auto", "auto",
	    "default stack, 16k to 64g; auto: the stack limit" },
	  SIZE, FIELD(stack_size), "auto", 16 * KIB, 64 * GIB,
	  "a size between 16k and 64g, such as 256k or 8m, or 'auto'" },
	{ { "WEFT_BLOCKED", "blocked", "auto|records|marks|state", "auto",
	    "how a stall in the kernel is noticed" },
	  WORD, FIELD(blocked), NULL, 0, 0, NULL },
	{ { "WEFT_POLICY", "policy", "fifo|rr", "fifo",
	    "scheduling policy" },
	  POLICY, FIELD(policy), NULL, 0, 0, NULL },
	{ { "WEFT_SCOPE", "scope", "fiber|posix", "fiber",
	    "posix: PTHREAD_SCOPE_SYSTEM, if set, is a kernel thread" },
	  WORD, FIELD(scope_posix), NULL, 0, 0, NULL },
	{ { "WEFT_STATS", "stats", "0|1", "0",
	    "print statistics to standard error at exit" },
	  WORD, FIELD(stats), NULL, 0, 0, NULL },
	{ { "WEFT_INHERIT", "inherit", "0|1", "1",
	    "programs that this one starts run under weft too" },
	  WORD, FIELD(inherit), NULL, 0, 0, NULL },
	{ { "WEFT_VERBOSE", "verbose", "0|1", "0",
	    "say on standard error what was chosen and why" },
	  WORD, FIELD(verbose), NULL, 0, 0, NULL },
	{ { "WEFT_SIGNAL", "signal", "SIGNAL|auto", "auto",
	    "signal that preempts; auto: the last real-time one" },
	  SIGNAL, FIELD(signo), "auto", RT_FIRST, RT_LAST,
	  "a signal that weft can use (SIGRTMIN to SIGRTMAX, SIGALRM, SIGVTALRM, SIGPROF, SIGURG, "
	  "SIGUSR1, SIGUSR2) or 'auto'" },
	{ { "WEFT_TLS", "tls", "full|shared", "full",
	    "thread-local storage: one per fiber or per worker" },
	  WORD, FIELD(tls_shared), NULL, 0, 0, NULL },
	{ { "WEFT_FSBASE", "fsbase", "auto|arch_prctl", "auto",
	    "how to set the thread pointer; auto: wrfsbase" },
	  WORD, FIELD(fsbase_syscall), NULL, 0, 0, NULL },
	{ { "WEFT_GUARD", "guard", "auto|mprotect", "auto",
	    "how to guard stacks; auto: guard regions" },
	  WORD, FIELD(guard_mprotect), NULL, 0, 0, NULL },
	{ { "WEFT_MEMBARRIER", "membarrier", "auto|off", "auto",
	    "membarrier(2) instead of fences on fast paths" },
	  WORD, FIELD(membarrier_off), NULL, 0, 0, NULL },
	{ { "WEFT_URING", "uring", "auto|eventfd|off", "auto",
	    "io_uring for file reads and writes; eventfd: without bells" },
	  WORD, FIELD(uring), NULL, 0, 0, NULL },
	{ { "WEFT_BIND", "bind", "off|cpu|node", "off",
	    "keep each virtual processor on a CPU, or a NUMA node" },
	  WORD, FIELD(bind), NULL, 0, 0, NULL },
	{ { "WEFT_FUZZ", "fuzz", "TIME|off", "off",
	    "preempt at random intervals from TIME up, to test" },
	  TIME, FIELD(fuzz_ns), "off", 20 * US, 10 * SEC,
	  "a time between 20us and 10s, such as 50us, or 'off'" },
};

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

/* Read by the `weft` command, not settings of the runtime. */
static const char *const other_names[] = { "WEFT_SHIM" };

struct unit {
	const char *suffix;	/* lower case */
	uint64_t factor;
};

static const struct unit time_units[] = {
	{ "", US }, { "ns", 1 }, { "us", US }, { "ms", MS }, { "s", SEC }, { NULL, 0 },
};
static const struct unit size_units[] = {
	{ "", 1 }, { "k", KIB }, { "m", MIB }, { "g", GIB }, { NULL, 0 },
};
static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

static const struct {
	const char *name;
	int signo;
} signals[] = {
	{ "ALRM", SIGALRM }, { "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "URG", SIGURG },
	{ "USR1", SIGUSR1 }, { "USR2", SIGUSR2 },
};

/* ASCII only: the program's locale must not change what a setting means. */
static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_nocase(const char *a, const char *b)
{
	while (*a && lower(*a) == lower(*b))
		a++, b++;
	return lower(*a) == lower(*b);
}

/* Decimal digits at *s; moves *s behind them. False: none, or more than 64 bits. */
static bool parse_digits(const char **s, uint64_t *out)
{
	const char *p = *s;
	uint64_t n = 0;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*s = p;
	*out = n;
	return true;
}

static bool parse_number(const char *s, const struct unit *units, uint64_t *out)
{
	uint64_t n;

	if (!parse_digits(&s, &n))
		return false;
	for (; units->suffix; units++) {
		if (!same_nocase(s, units->suffix))
			continue;
		if (n > UINT64_MAX / units->factor)
			return false;
		*out = n * units->factor;
		return true;
	}
	return false;
}

/* A number, SIGALRM, ALRM, SIGRTMIN+3, RTMAX-1. 0: none that may preempt. */
static int parse_signal(const char *s)
{
	uint64_t n;

	if (parse_number(s, no_units, &n)) {
		if (n >= RT_FIRST && n <= RT_LAST)
			return (int)n;
		for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
			if ((uint64_t)signals[i].signo == n)
				return (int)n;
		return 0;
	}
	if (lower(s[0]) == 's' && lower(s[1]) == 'i' && lower(s[2]) == 'g')
		s += 3;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (same_nocase(s, signals[i].name))
			return signals[i].signo;
	if (same_nocase(s, "rtmin"))
		return RT_FIRST;
	if (same_nocase(s, "rtmax"))
		return RT_LAST;
	if (lower(s[0]) != 'r' || lower(s[1]) != 't' || lower(s[2]) != 'm')
		return 0;
	if (lower(s[3]) == 'i' && lower(s[4]) == 'n' && s[5] == '+' &&
	    parse_number(s + 6, no_units, &n) && n <= RT_LAST - RT_FIRST)
		return RT_FIRST + (int)n;
	if (lower(s[3]) == 'a' && lower(s[4]) == 'x' && s[5] == '-' &&
	    parse_number(s + 6, no_units, &n) && n <= RT_LAST - RT_FIRST)
		return RT_LAST - (int)n;
	return 0;
}

/* The place of `s` in "a|b|c", or -1. */
static int parse_word(const char *words, const char *s)
{
	size_t len = strlen(s);

	for (int i = 0;; i++) {
		size_t n = strcspn(words, "|");

		if (n == len && !memcmp(words, s, n))
			return i;
		if (!words[n])
			return -1;
		words += n + 1;
	}
}

static void put(struct weft_config *c, const struct setting *s, const void *value, size_t size)
{
	memcpy((char *)c + s->offset, value, size);
}

/* False: not accepted. */
static bool store(struct weft_config *c, const struct setting *s, const char *value)
{
	const struct weft_sched_ops *policy;
	uint64_t n = 0;
	unsigned count;
	int word;

	switch (s->kind) {
	case COUNT:
	case TIME:
	case SIZE:
		if (s->zero && (!strcmp(value, s->zero) || !strcmp(value, "0")))
			n = 0;
		else if (!parse_number(value, s->kind == TIME ? time_units :
				       s->kind == SIZE ? size_units : no_units, &n) ||
			 n < s->min || n > s->max)
			return false;
		count = (unsigned)n;
		if (s->kind == COUNT)
			put(c, s, &count, sizeof(count));
		else
			put(c, s, &n, sizeof(n));
		return true;
	case WORD:
		word = parse_word(s->option.values, value);
		if (word < 0)
			return false;
		put(c, s, &word, sizeof(word));
		return true;
	case POLICY:
		policy = weft_sched_find(value);
		if (!policy)
			return false;
		/* The ops' string, not the caller's: it lives as long as the library. */
		put(c, s, &policy->name, sizeof(policy->name));
		return true;
	case SIGNAL:
		word = 0;
		if (strcmp(value, s->zero) && strcmp(value, "0")) {
			word = parse_signal(value);
			if (!word)
				return false;
		}
		put(c, s, &word, sizeof(word));
		return true;
	}
	return false;
}

/* `value` cut to what a message should repeat, without control characters. */
static const char *shown(const char *value, char buf[SHOWN_MAX])
{
	size_t i;

	for (i = 0; value[i] && i < SHOWN_MAX - 4; i++)
		buf[i] = (unsigned char)value[i] < ' ' || value[i] == 0x7f ? '?' : value[i];
	strcpy(buf + i, value[i] ? "..." : "");
	return buf;
}

/* "a|b|c" as "a, b or c". */
static void enumerate(const char *words, char *buf, size_t size)
{
	size_t used = 0;

	while (used < size) {
		size_t n = strcspn(words, "|");
		const char *next = words[n] ? words + n + 1 : NULL;
		const char *sep = !next ? "" : strchr(next, '|') ? ", " : " or ";

		used += (size_t)snprintf(buf + used, size - used, "%.*s%s", (int)n, words, sep);
		if (!next)
			break;
		words = next;
	}
}

/* The policies there are, as "a|b|c". */
static void list_policies(char *buf, size_t size)
{
	const struct weft_sched_ops *ops;
	size_t used = 0;

	for (unsigned i = 0; used < size && (ops = weft_sched_nth(i)); i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s", i ? "|" : "", ops->name);
}

static const struct setting *find(const char *env, size_t len)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (!strncmp(settings[i].option.env, env, len) && !settings[i].option.env[len])
			return &settings[i];
	return NULL;
}

static int set(struct weft_config *c, const struct setting *s, const char *value, char *err,
	       size_t errsize)
{
	char copy[SHOWN_MAX], policies[128] = "", words[160];
	const char *accepts = s->accepts;

	if (store(c, s, value))
		return 0;
	if (!accepts) {
		if (s->kind == POLICY)
			list_policies(policies, sizeof(policies));
		enumerate(*policies ? policies : s->option.values, words, sizeof(words));
		accepts = words;
	}
	if (errsize)
		snprintf(err, errsize, "%s=%s: not %s", s->option.env, shown(value, copy), accepts);
	return -EINVAL;
}

EXPORT const struct weft_config_option *weft_config_option(unsigned i)
{
	return i < SETTINGS ? &settings[i].option : NULL;
}

EXPORT void weft_config_defaults(struct weft_config *c)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < SETTINGS; i++)
		store(c, &settings[i], settings[i].option.def);
}

EXPORT int weft_config_set(struct weft_config *c, const char *env, const char *value, char *err,
			   size_t errsize)
{
	const struct setting *s = find(env, strlen(env));
	char copy[SHOWN_MAX];

	if (s)
		return set(c, s, value, err, errsize);
	if (errsize)
		snprintf(err, errsize, "%s: weft has no such setting; 'weft run --help' lists them",
			 shown(env, copy));
	return -ENOENT;
}

EXPORT int weft_config_from_env(struct weft_config *c, char *err, size_t errsize)
{
	weft_config_defaults(c);
	for (char **e = environ; e && *e; e++) {
		size_t len = strcspn(*e, "=");
		const struct setting *s;
		char name[SHOWN_MAX];
		bool other = false;
		int r;

		if (strncmp(*e, "WEFT_", 5) || (*e)[len] != '=')
			continue;
		for (size_t i = 0; i < sizeof(other_names) / sizeof(other_names[0]); i++)
			if (len == strlen(other_names[i]) && !memcmp(*e, other_names[i], len))
				other = true;
		if (other)
			continue;
		s = find(*e, len);
		if (!s) {
			snprintf(name, sizeof(name), "%.*s", (int)len, *e);
			return weft_config_set(c, name, "", err, errsize);
		}
		/* VAR= is how scripts say "unset". */
		if (!(*e)[len + 1])
			continue;
		r = set(c, s, *e + len + 1, err, errsize);
		if (r)
			return r;
	}
	return 0;
}
