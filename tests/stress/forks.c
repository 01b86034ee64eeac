/* SPDX-License-Identifier: MIT
 * Forks from a busy program: 50 threads compute, sleep, allocate, print, take locks and wait, and eight of them fork, until there were as many
 * forks as asked for. Each child makes a thread, allocates, and says by its exit status what atfork handlers it saw. In the end every child was waited
 * for, no handler is missing, and nothing hangs.
 *
 * usage: forks [FORKS]   (default 1000)
 */
#include <signal.h>
#include <sys/wait.h>

#include "../integration/check.h"

enum { THREADS = 50, FORKERS = 8, CODE = 42 };

static int forks = 1000, begun, ended, stop;
static int prepared, in_parent;			/* written by forking threads only, under libc's lock of the handlers */
static int in_child;
static pid_t parent;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static FILE *sink;

static void on_prepare(void)
{
	pthread_mutex_lock(&m);
	prepared++;
}

static void on_parent(void)
{
	in_parent++;
	pthread_mutex_unlock(&m);
}

static void on_child(void)
{
	in_child++;
	pthread_mutex_unlock(&m);
}

static void *busy(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		char *p = malloc(1 + (unsigned)rand_r(&seed) % 20000);
		struct timespec ts;
		volatile unsigned x = 0;

		CHECK(p != NULL);
		p[0] = 1;
		switch (rand_r(&seed) % 5) {
		case 0:
			for (unsigned i = 0; i < 20000; i++)
				x += i;
			break;
		case 1:
			sleep_ns(rand_r(&seed) % 2000 * 1000ull);
			break;
		case 2:
			fprintf(sink, "%d %u\n", (int)gettid(), x);
			break;
		case 3:
			clock_gettime(CLOCK_REALTIME, &ts);
			ts.tv_nsec += 1000000;
			if (ts.tv_nsec >= 1000000000) {
				ts.tv_nsec -= 1000000000;
				ts.tv_sec++;
			}
			pthread_mutex_lock(&m);
			pthread_cond_timedwait(&c, &m, &ts);
			pthread_mutex_unlock(&m);
			break;
		default:
			pthread_mutex_lock(&m);
			pthread_cond_broadcast(&c);
			pthread_mutex_unlock(&m);
		}
		free(p);
	}
	return NULL;
}

static void *one(void *arg)
{
	char *p = malloc(100);

	CHECK(p != NULL);
	free(p);
	return arg;
}

__attribute__((noreturn)) static void child(int n)
{
	pthread_t t;
	void *r;

	CHECK(getpid() != parent);
	CHECK_EQ(in_child, 1);
	pthread_mutex_lock(&m);
	CHECK(prepared == in_parent + 1);
	pthread_mutex_unlock(&m);
	if (n % 2) {
		CHECK_EQ(pthread_create(&t, NULL, one, &in_child), 0);
		CHECK_EQ(pthread_join(t, &r), 0);
		CHECK(r == &in_child);
	}
	_exit(CODE);
}

static void *forker(void *arg)
{
	int n, status;
	pid_t pid;

	while ((n = __atomic_fetch_add(&begun, 1, __ATOMIC_RELAXED)) < forks) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			child(n);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), CODE);
		__atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];

	if (argc > 1)
		forks = atoi(argv[1]);
	CHECK(forks > 0);
	parent = getpid();
	sink = fopen("/dev/null", "w");
	CHECK(sink != NULL);
	CHECK_EQ(pthread_atfork(on_prepare, on_parent, on_child), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, i < FORKERS ? forker : busy, (void *)(intptr_t)i), 0);
	for (int i = 0; i < FORKERS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = FORKERS; i < THREADS; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	CHECK_EQ(ended, forks);
	CHECK_EQ(prepared, forks);
	CHECK_EQ(in_parent, forks);
	/* no zombie */
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	printf("forks: %d forks, %d children waited for\n", forks, ended);
	return 0;
}
