/* SPDX-License-Identifier: MIT
 * The `weft` command: weft run, weft info, weft --help, weft --version.
 */
#include "tools/tool.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "weft/weft.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", weft__cmd_run },
	{ "info", weft__cmd_info },
};

static const char help_text[] =
	"Usage: weft run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	"       weft info [--json]\n"
	"       weft --help | --version\n"
	"\n"
	"weft runs the threads of an unmodified, dynamically linked program as fibers:\n"
	"many of them on a few kernel threads, preempted, and none held up by another\n"
	"that waits in the kernel.\n"
	"\n"
	"Commands:\n"
	"  run      run a program with its threads as fibers ('weft run --help')\n"
	"  info     show what this machine offers and what weft will use of it\n"
	"\n"
	"Examples:\n"
	"  weft run -- python3 server.py\n"
	"  weft run --vps=2 --stats -- pigz -k big.tar\n"
	"  weft info\n"
	"\n"
	"More: weft(1), weft(7).\n";

void weft__complain(const char *fmt, ...)
{
	static char line[3 * PATH_MAX] = "weft: ";
	const size_t room = sizeof(line) - 1;	/* for the newline */
	size_t n = strlen("weft: ");
	va_list ap;
	int r;

	/* Not stdio on standard error: it puts 8 KiB on a stack that may be
	 * just what we complain about. */
	fflush(stdout);
	va_start(ap, fmt);
	r = vsnprintf(line + n, room - n, fmt, ap);
	va_end(ap);
	if (r > 0)
		n += (size_t)r < room - n ? (size_t)r : room - n - 1;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return;		/* nobody is left to be told */
}

int weft__finish_output(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	weft__complain("cannot write to standard output: %s", strerror(errno));
	return WEFT__EXIT_REFUSED;
}

static int help(void)
{
	fputs(help_text, stdout);
	return weft__finish_output();
}

static int version(void)
{
	printf("weft %d.%d\n", WEFT_VERSION_MAJOR, WEFT_VERSION_MINOR);
	return weft__finish_output();
}

static int usage_error(void)
{
	fputs("Try 'weft --help'.\n", stderr);
	return WEFT__EXIT_REFUSED;
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;

	if (!word) {
		weft__complain("no command given; there are 'weft run' and 'weft info'");
		return usage_error();
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(word, commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
		return help();
	if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		return version();
	if (word[0] == '-')
		weft__complain("unknown option '%s'; options of a run come after 'weft run'", word);
	else
		weft__complain("unknown command '%s'; to run a program: weft run -- %s", word,
			       word);
	return usage_error();
}
