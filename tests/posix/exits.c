/* SPDX-License-Identifier: MIT
 * The ends of threads and of the process. The first argument says which; the outputs and exit statuses are compared with those on NPTL
 * (tests/differential/check.sh). Without arguments: all that can be checked from inside.
 */
#include "req.h"

static pthread_t main_thread;
static pthread_key_t key;

static void say(const char *what)
{
	printf("%s\n", what);
	fflush(stdout);
}

static void at_exit(void) { say("atexit"); }
static void destroy(void *v) { printf("destructor %s\n", (char *)v); fflush(stdout); }
static void cleanup(void *v) { printf("cleanup %s\n", (char *)v); fflush(stdout); }

static void *join_main(void *arg)
{
	void *result;

	REQ_IS("main can be joined after its pthread_exit", pthread_join(main_thread, &result), 0);
	REQ_IS("its value", (intptr_t)result, 77);
	printf("joined main: %ld\n", (long)(intptr_t)result);
	if (arg)
		exit(req_end());
	return NULL;
}

static void *late(void *arg)
{
	sleep_ms(20);
	say("late thread");
	return arg;
}

static void *exiter(void *arg) { (void)arg; exit(13); }
static void *stuck(void *arg) { pause(); return arg; }

static void *handlers(void *arg)
{
	pthread_setspecific(key, "of the thread");
	pthread_cleanup_push(cleanup, "outer");
	pthread_cleanup_push(cleanup, "inner");
	pthread_cleanup_push(cleanup, "popped");
	pthread_cleanup_pop(1);
	pthread_cleanup_push(cleanup, "never");
	pthread_cleanup_pop(0);
	pthread_exit(arg);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return NULL;
}

static int fork_order;
static void prepare1(void) { printf("prepare 1\n"); }
static void prepare2(void) { printf("prepare 2\n"); }
static void parent1(void) { printf("parent 1\n"); }
static void parent2(void) { printf("parent 2\n"); }
static void child1(void) { printf("child 1 %d\n", fork_order++); }
static void child2(void) { printf("child 2 %d\n", fork_order++); }

static void *forker(void *arg)
{
	pid_t pid;

	printf("before\n");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		in_thread(late, NULL);
		exit(21);
	}
	printf("child: %d\n", reap(pid));
	return arg;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	main_thread = pthread_self();
	pthread_key_create(&key, destroy);
	atexit(at_exit);
	if (!strcmp(mode, "join-main")) {
		start(join_main, NULL);
		sleep_ms(5);
		pthread_exit((void *)77);
	}
	if (!strcmp(mode, "join-main-late")) {
		start(stuck, NULL);
		start(join_main, "exit");
		sleep_ms(5);
		pthread_exit((void *)77);
	}
	if (!strcmp(mode, "exit-main")) {	/* the others go on, status 0 */
		pthread_detach(start(late, NULL));
		pthread_setspecific(key, "of main");
		pthread_cleanup_push(cleanup, "of main");
		pthread_exit((void *)5);
		pthread_cleanup_pop(0);
	}
	if (!strcmp(mode, "alone"))		/* the only thread */
		pthread_exit((void *)5);
	if (!strcmp(mode, "exit")) {		/* exit by a thread while others live */
		start(stuck, NULL);
		start(exiter, NULL);
		pause();
	}
	if (!strcmp(mode, "return")) {
		start(stuck, NULL);
		return 14;
	}
	if (!strcmp(mode, "handlers")) {
		printf("result %ld\n", in_thread(handlers, (void *)6));
		return 0;
	}
	if (!strcmp(mode, "fork")) {
		REQ_IS("pthread_atfork", pthread_atfork(prepare1, parent1, child1), 0);
		REQ_IS("pthread_atfork", pthread_atfork(prepare2, parent2, child2), 0);
		in_thread(forker, NULL);
		return req_end();
	}
	if (!strcmp(mode, "abort")) {
		start(stuck, NULL);
		abort();
	}
	if (!strcmp(mode, "segv")) {
		start(stuck, NULL);
		raise(SIGSEGV);
	}
	if (!strcmp(mode, "quick")) {
		start(stuck, NULL);
		quick_exit(15);
	}
	if (!strcmp(mode, "exec")) {
		start(stuck, NULL);
		execl("/bin/echo", "echo", "executed", NULL);
	}
	return req_end();
}
