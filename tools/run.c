/* SPDX-License-Identifier: MIT
 * weft run: check the settings and the program, then become the program.
 *
 * Model:     options are the rows of weft/config.h. Each goes through weft_config_set() and into
 *            the environment, where the runtime reads it. The program replaces this process, so its
 *            exit status and its signals are its own.
 */
#include "tools/tool.h"

#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPTIONS_MAX 64
#define SHIM_NAME "libweft-pthread.so"
#define STACK_LIMIT_MIN (64 * 1024)

enum {
	VAL_HELP = 'h',
	VAL_SETTING = 256,			/* + its number */
	VAL_NO_SETTING = VAL_SETTING + OPTIONS_MAX,	/* + its number: --no-NAME */
};

static struct option options[2 * OPTIONS_MAX];
static char no_names[OPTIONS_MAX][32];

static bool is_switch(const struct weft_config_option *o)
{
	return !strcmp(o->values, "0|1");
}

static void make_options(void)
{
	const struct weft_config_option *o;
	struct option *p = options;

	for (unsigned i = 0; i < OPTIONS_MAX && (o = weft_config_option(i)); i++) {
		*p++ = (struct option){ o->option, is_switch(o) ? optional_argument :
					required_argument, NULL, VAL_SETTING + (int)i };
		if (!is_switch(o))
			continue;
		snprintf(no_names[i], sizeof(no_names[i]), "no-%s", o->option);
		*p++ = (struct option){ no_names[i], no_argument, NULL, VAL_NO_SETTING + (int)i };
	}
	*p++ = (struct option){ "help", no_argument, NULL, VAL_HELP };
	*p = (struct option){ 0 };
}

void weft__print_settings(void)
{
	const struct weft_config_option *o;
	char left[64];

	for (unsigned i = 0; (o = weft_config_option(i)); i++) {
		if (is_switch(o))
			snprintf(left, sizeof(left), "--%s, --no-%s", o->option, o->option);
		else
			snprintf(left, sizeof(left), "--%s=%s", o->option, o->values);
		printf("  %-24s", left);
		if (strlen(left) > 23)
			printf("\n  %-24s", "");
		printf(" %s\n  %-24s [%s, %s]\n", o->summary, "", o->env,
		       !is_switch(o) ? o->def : *o->def == '1' ? "on" : "off");
	}
}

static int help(void)
{
	printf("Usage: weft run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	       "\n"
	       "Run PROGRAM with its threads as fibers. It must be dynamically linked with\n"
	       "glibc, but need not be changed. It replaces weft: its exit status and what\n"
	       "kills it are passed on as they are.\n"
	       "\n"
	       "Options (the environment variable and the default in brackets):\n");
	weft__print_settings();
	printf("  -h, --help               show this help\n"
	       "\n"
	       "TIME: 500us, 4ms, 1s, also ns; a plain number is microseconds.\n"
	       "SIZE: 256k, 8m, 1g; a plain number is bytes.\n"
	       "\n"
	       "Exit status: that of PROGRAM; 125 if weft refuses or fails, 126 if PROGRAM\n"
	       "cannot be run, 127 if it is not found.\n"
	       "\n"
	       "Examples:\n"
	       "  weft run -- python3 server.py             as many VPs as the CPUs allow\n"
	       "  weft run --vps=1 --quantum=1ms -- prog    one fiber at a time, short slices\n"
	       "  weft run --stack=64k --stats -- prog      many small threads; counters at exit\n"
	       "  weft run --no-inherit -- make             not the programs that it starts\n"
	       "  WEFT_VPS=2 weft run -- prog               the same as --vps=2\n");
	return weft__finish_output();
}

static int usage_error(void)
{
	fputs("Try 'weft run --help'.\n", stderr);
	return WEFT__EXIT_REFUSED;
}

/* One option: into `c` as a check, and into the environment for the runtime. */
static int apply(struct weft_config *c, const struct weft_config_option *o, const char *value)
{
	char err[256], prefix[256];
	const char *text = err;
	size_t n;

	if (weft_config_set(c, o->env, value, err, sizeof(err))) {
		/* The user gave an option: name that, not the variable. */
		n = (size_t)snprintf(prefix, sizeof(prefix), "%s=%s: ", o->env, value);
		if (n < sizeof(prefix) && !strncmp(err, prefix, n))
			weft__complain("--%s=%s: %s", o->option, value, text + n);
		else
			weft__complain("--%s: %s", o->option, text);
		return usage_error();
	}
	if (setenv(o->env, value, 1)) {
		weft__complain("--%s: %s", o->option, strerror(errno));
		return WEFT__EXIT_REFUSED;
	}
	return 0;
}

/* What getopt_long() did not like, in our words. */
static int bad_option(int c, char **argv)
{
	const struct weft_config_option *o = NULL;
	const char *word = argv[optind - 1];

	if (c == ':') {
		if (optopt >= VAL_SETTING)
			o = weft_config_option((unsigned)(optopt - VAL_SETTING));
		if (o)
			weft__complain("option '--%s' needs a value: --%s=%s", o->option, o->option,
				       o->values);
		else
			weft__complain("option '%s' needs a value", word);
	} else if (optopt >= VAL_NO_SETTING || optopt == VAL_HELP) {
		weft__complain("option '%s' takes no value", word);
	} else if (optopt) {
		weft__complain("unknown option '-%c'", optopt);
	} else {
		weft__complain("unknown or ambiguous option '%s'", word);
	}
	return usage_error();
}

/* A file that may be preloaded: 0 or errno. */
static int usable(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return errno;
	if (!S_ISREG(st.st_mode))
		return EACCES;
	return access(path, R_OK) ? errno : 0;
}

/* The shim that belongs to this command, into path[PATH_MAX]. The environment goes first (tests, a
 * second installation), then the build tree that we run from, then the place of installation. */
static int find_shim(char *path)
{
	static const char *const near[] = { "", ".libs/", "../.libs/", "../lib/weft/" };
	static char self[PATH_MAX], copy[PATH_MAX];
	const char *env = getenv("WEFT_SHIM");
	struct stat exe, st;
	ssize_t n;
	int err;

	if (env && *env) {
		err = realpath(env, path) ? usable(path) : errno;
		if (!err)
			return 0;
		weft__complain("WEFT_SHIM=%s: %s", env, strerror(err));
		return WEFT__EXIT_REFUSED;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0 && !stat(self, &exe)) {
		self[n] = '\0';
		for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
			strcpy(copy, self);
			err = snprintf(path, PATH_MAX, "%s/%s" SHIM_NAME, dirname(copy), near[i]);
			/* Of the same owner: who copies weft to /tmp must not get /.libs of
			 * somebody else. */
			if (err >= PATH_MAX || stat(path, &st) || st.st_uid != exe.st_uid ||
			    usable(path))
				continue;
			if (realpath(path, copy))
				strcpy(path, copy);
			return 0;
		}
	}
#ifdef WEFT_SHIM_PATH
	err = usable(WEFT_SHIM_PATH);
	if (!err && strlen(WEFT_SHIM_PATH) < PATH_MAX) {
		strcpy(path, WEFT_SHIM_PATH);
		return 0;
	}
	weft__complain("cannot use %s: %s; install weft again, or set WEFT_SHIM to the path of "
		       SHIM_NAME, WEFT_SHIM_PATH, strerror(err));
#else
	weft__complain("cannot find " SHIM_NAME "; set WEFT_SHIM to its path");
#endif
	return WEFT__EXIT_REFUSED;
}

/* Put the shim into LD_PRELOAD, ahead of what is there, unless it is there; a sanitizer's runtime ahead of both. */
static int preload(const char *shim, const char *program)
{
	const char *old = getenv("LD_PRELOAD");
	char first[256] = "";
	size_t len = strlen(shim), size;
	char *value;

	/* The dynamic linker splits at both and knows no escape. */
	if (strpbrk(shim, ": ")) {
		weft__complain("%s: LD_PRELOAD cannot hold a path with a space or a colon; "
			       "install weft elsewhere or set WEFT_SHIM to a link without one", shim);
		return WEFT__EXIT_REFUSED;
	}
	if (!old)
		old = "";
	for (const char *p = old; (p = strstr(p, shim)); p += len)
		if ((p == old || strchr(": ", p[-1])) && (!p[len] || strchr(": ", p[len])))
			return 0;
	if (weft__sanitizer(program, first, sizeof(first) - 1))
		strcat(first, ":");
	size = strlen(first) + len + strlen(old) + 2;
	value = malloc(size);
	if (!value || snprintf(value, size, "%s%s%s%s", first, shim, *old ? ":" : "", old) < 0 ||
	    setenv("LD_PRELOAD", value, 1)) {
		weft__complain("LD_PRELOAD: %s", strerror(errno));
		free(value);
		return WEFT__EXIT_REFUSED;
	}
	free(value);
	return 0;
}

static int check_stack_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_STACK, &r) || r.rlim_cur == RLIM_INFINITY ||
	    r.rlim_cur >= STACK_LIMIT_MIN)
		return 0;
	weft__complain("the stack limit is %llu KiB, too low: weft needs %d; %s",
		       (unsigned long long)r.rlim_cur / 1024, STACK_LIMIT_MIN / 1024,
		       r.rlim_max == RLIM_INFINITY || r.rlim_max >= STACK_LIMIT_MIN || !geteuid() ?
		       "raise it with 'ulimit -s 8192'" :
		       "the hard limit is as low: raise it as root (limits.conf(5), prlimit(1))");
	return WEFT__EXIT_REFUSED;
}

static int check_records(const struct weft_config *c)
{
	enum weft__records_step step;
	char advice[256];
	int r;

	if (c->blocked != WEFT_BLOCKED_RECORDS)
		return 0;
	r = weft__probe_records(&step);
	if (!r)
		return 0;
	weft__complain("--blocked=records: switch records do not work here: %s; or use "
		       "--blocked=auto, marks or state",
		       weft__records_advice(step, -r, advice, sizeof(advice)));
	return WEFT__EXIT_REFUSED;
}

static int become(const char *path, char **argv, bool shell)
{
	size_t n = 0;
	char **sh;
	int err;

	if (!shell) {
		execv(path, argv);
	} else {
		while (argv[n])
			n++;
		sh = calloc(n + 2, sizeof(*sh));
		if (sh) {
			sh[0] = (char *)"sh";
			sh[1] = (char *)path;
			for (size_t i = 1; i < n; i++)
				sh[i + 1] = argv[i];
			execv("/bin/sh", sh);
			free(sh);
		}
	}
	err = errno;
	weft__complain("cannot run '%s': %s", path, strerror(err));
	return err == ENOENT ? WEFT__EXIT_NOT_FOUND : WEFT__EXIT_CANNOT_RUN;
}

int weft__cmd_run(int argc, char **argv)
{
	static char path[PATH_MAX], shim[PATH_MAX];
	const struct weft_config_option *o;
	struct weft_config config;
	char err[256];
	bool shell = false;
	int c, r;

	make_options();
	if (weft_config_from_env(&config, err, sizeof(err))) {
		/* --help helps with just that. */
		if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
			return help();
		weft__complain("%s", err);
		return usage_error();
	}
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		if (c == VAL_HELP)
			return help();
		if (c == '?' || c == ':')
			return bad_option(c, argv);
		if (c >= VAL_NO_SETTING) {
			o = weft_config_option((unsigned)(c - VAL_NO_SETTING));
			r = apply(&config, o, "0");
		} else {
			o = weft_config_option((unsigned)(c - VAL_SETTING));
			r = apply(&config, o, optarg ? optarg : "1");
		}
		if (r)
			return r;
	}
	if (!argv[optind]) {
		weft__complain("no program given; for example: weft run -- python3 server.py");
		return usage_error();
	}
	r = check_stack_limit();
	if (!r)
		r = weft__find_program(argv[optind], path, sizeof(path));
	if (!r)
		r = weft__check_program(path, &shell);
	if (!r)
		r = check_records(&config);
	if (!r)
		r = find_shim(shim);
	if (!r)
		r = preload(shim, path);
	if (r)
		return r;
	if (config.verbose)
		weft__complain("running %s with LD_PRELOAD=%s", path, getenv("LD_PRELOAD"));
	return become(path, argv + optind, shell);
}
