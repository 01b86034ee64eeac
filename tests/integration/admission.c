/* SPDX-License-Identifier: MIT
 * A program that leaks parked threads gets EAGAIN in the end, and everything else goes on: with an end of address space
 * (RLIMIT_AS), and, where we may make a memory cgroup, with an end of memory. Memory is overcommitted: NPTL is killed in the
 * latter case, so it is weft's alone.
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

enum { MOST = 200000, LIMIT_MB = 96 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t go = PTHREAD_COND_INITIALIZER, here = PTHREAD_COND_INITIALIZER;
static int parked, turn;		/* guarded by lock */
static pthread_t *thread;

/* Wait until it is turn `arg`. */
static void *park(void *arg)
{
	pthread_mutex_lock(&lock);
	parked++;
	pthread_cond_signal(&here);
	while (turn < (int)(intptr_t)arg)
		pthread_cond_wait(&go, &lock);
	pthread_mutex_unlock(&lock);
	return arg;
}

static void next_turn(void)
{
	pthread_mutex_lock(&lock);
	turn++;
	pthread_cond_broadcast(&go);
	pthread_mutex_unlock(&lock);
}

/* Threads until there can be no more. */
static int leak(const pthread_attr_t *attr)
{
	int err = 0, n, again;

	for (n = 0; n < MOST && (err = pthread_create(&thread[n], attr, park, (void *)1)) == 0; n++)
		;
	CHECK_EQ(err, EAGAIN);
	again = pthread_create(&thread[n], attr, park, (void *)1);
	if (again == 0)
		n++;			/* something was given back meanwhile: as good */
	else
		CHECK_EQ(again, EAGAIN);
	return n;
}

static void run(int at_least)
{
	pthread_attr_t attr;
	int n, before;

	CHECK_EQ(pthread_attr_init(&attr), 0);
	CHECK_EQ(pthread_attr_setstacksize(&attr, 64 * 1024), 0);
	n = leak(&attr);
	CHECK(n >= at_least);

	/* All of them run, wait and end, and then there is room again. */
	pthread_mutex_lock(&lock);
	while (parked < n)
		pthread_cond_wait(&here, &lock);
	pthread_mutex_unlock(&lock);
	next_turn();
	for (int i = 0; i < n; i++)
		CHECK_EQ((intptr_t)join_thread(thread[i]), 1);
	before = n;
	for (n = 0; n < before / 2; n++)
		CHECK_EQ(pthread_create(&thread[n], &attr, park, (void *)2), 0);
	next_turn();
	for (int i = 0; i < n; i++)
		CHECK_EQ((intptr_t)join_thread(thread[i]), 2);
}

static long status_kb(const char *field)
{
	char line[200];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "re");

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			kb = atol(line + strlen(field));
	fclose(f);
	return kb;
}

static bool put(const char *dir, const char *file, const char *text)
{
	char path[400];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}

/* A memory cgroup of our own with a limit, at the root of either version's usual place; false where we may not. */
static bool make_cgroup(char *dir, size_t size)
{
	static const struct {
		const char *top, *limit, *swap;
	} kind[] = {
		{ "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes" },
		{ "/sys/fs/cgroup", "memory.max", "memory.swap.max" },
	};
	char text[32];

	snprintf(text, sizeof(text), "%d", LIMIT_MB << 20);
	for (int i = 0; i < 2; i++) {
		snprintf(dir, size, "%s/weft-admission-%d", kind[i].top, (int)getpid());
		if (mkdir(dir, 0700) != 0)
			continue;
		if (put(dir, kind[i].limit, text)) {
			put(dir, kind[i].swap, i == 0 ? text : "0");
			return true;
		}
		rmdir(dir);
	}
	return false;
}

static void in_cgroup(char *self)
{
	char dir[200];
	int status = -1;
	pid_t pid;

	if (!make_cgroup(dir, sizeof(dir)))
		return;
	pid = fork();
	if (pid == 0) {
		if (!put(dir, "cgroup.procs", "0"))
			_exit(77);
		execl("/proc/self/exe", self, "limited", (char *)NULL);
		_exit(98);
	}
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	for (int i = 0; i < 100 && rmdir(dir) != 0 && errno == EBUSY; i++)
		sleep_ns(10 * MS);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		return;
	CHECK_EQ(status, 0);
}

int main(int argc, char **argv)
{
	struct weft_stats s;
	struct rlimit l;

	thread = malloc((MOST + 1) * sizeof(*thread));
	CHECK(thread != NULL);
	if (argc > 1) {
		run(2000);
		return 0;
	}
	if (stats(&s))
		in_cgroup(argv[0]);
	CHECK_EQ(getrlimit(RLIMIT_AS, &l), 0);
	l.rlim_cur = (rlim_t)(status_kb("VmSize:") + 400 * 1024) * 1024;
	CHECK_EQ(setrlimit(RLIMIT_AS, &l), 0);
	run(1000);
	return 0;
}
