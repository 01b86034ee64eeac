/* SPDX-License-Identifier: MIT
 * The ways in which a process with threads ends. usage: ends MODE; run.sh knows the status and the output that each
 * mode must have.
 */
#include <signal.h>
#include <sys/resource.h>

#include "check.h"

static void at_exit(void)
{
	printf("atexit\n");
}

static void *forever(void *arg)
{
	if (arg == NULL)
		for (;;)
			__asm__ volatile("");
	for (;;)
		pause();
	return NULL;
}

static void *end(void *arg)
{
	const char *mode = arg;
	char *args[] = { "ends", "after", NULL };
	volatile int *nowhere = NULL;

	sleep_ns(20 * MS);
	if (strcmp(mode, "exit") == 0 || strcmp(mode, "main-exited") == 0)
		exit(5);
	if (strcmp(mode, "_exit") == 0)
		_exit(9);
	if (strcmp(mode, "quick_exit") == 0)
		quick_exit(10);
	if (strcmp(mode, "abort") == 0)
		abort();
	if (strcmp(mode, "segv") == 0)
		*nowhere = 1;
	if (strcmp(mode, "raise") == 0)
		raise(SIGTERM);
	if (strcmp(mode, "exec") == 0 || strcmp(mode, "exec-main") == 0) {
		execv("/proc/self/exe", args);
		_exit(50);
	}
	if (strcmp(mode, "last") == 0)
		printf("last thread\n");
	return NULL;
}

static void *child_of_exec(void *arg)
{
	sleep_ns(MS);
	return (char *)arg + 1;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	struct rlimit no_core = { 0, 0 };
	pthread_t t;

	if (strcmp(mode, "after") == 0) {	/* where exec leads */
		for (intptr_t i = 0; i < 5; i++)
			CHECK_EQ((intptr_t)join_thread(start_thread(child_of_exec, (void *)i)), i + 1);
		printf("after exec\n");
		return 7;
	}
	setrlimit(RLIMIT_CORE, &no_core);
	CHECK_EQ(atexit(at_exit), 0);
	printf("buffered\n");		/* standard output is a file here: _exit loses it */
	if (strcmp(mode, "last") != 0 && strcmp(mode, "none") != 0) {
		start_thread(forever, NULL);
		start_thread(forever, (void *)1);
		start_thread(forever, NULL);
	}
	if (strcmp(mode, "return") == 0) {
		sleep_ns(20 * MS);
		return 6;
	}
	if (strcmp(mode, "detached") == 0) {
		t = start_thread(forever, NULL);
		CHECK_EQ(pthread_detach(t), 0);
		sleep_ns(5 * MS);
		return 0;
	}
	if (strcmp(mode, "none") == 0)
		pthread_exit(NULL);	/* the only thread: the process ends with 0 */
	if (strcmp(mode, "exec-main") == 0)
		end(argv[1]);
	t = start_thread(end, argv[1]);
	if (strcmp(mode, "last") == 0 || strcmp(mode, "main-exited") == 0) {
		CHECK_EQ(pthread_detach(t), 0);
		pthread_exit((void *)1);
	}
	join_thread(t);
	printf("not reached\n");
	return 99;
}
