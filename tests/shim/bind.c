/* SPDX-License-Identifier: MIT
 * Threads and processes see the CPUs that the process has, wherever the runtime keeps its virtual processors (WEFT_BIND; under the preload the program
 * runs once in each way): by every call that asks, and in children made in every way. A thread with a mask of its own runs there, and others do not.
 * Bound virtual processors are, in fact.
 */
#include "io_check.h"

#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <dirent.h>
#include <sys/wait.h>

enum { THREADS = 8 };

extern char **environ;
static char list[256];			/* what the process may use, as the kernel has it */
static cpu_set_t all;
static atomic_bool stop;

/* Cpus_allowed_list of a thread, without its newline. */
static bool read_list(const char *path, char *to)
{
	FILE *f = fopen(path, "r");
	char line[400];
	bool found = false;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "Cpus_allowed_list: %255s", to) == 1)
			found = true;
	if (f)
		fclose(f);
	return found;
}

static void same_as_ours(const char *path)
{
	char got[256];

	CHECK(read_list(path, got));
	if (strcmp(got, list))
		fprintf(stderr, "%s has %s, not %s\n", path, got, list);
	CHECK(strcmp(got, list) == 0);
}

static void ended_well(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	while (waitpid(pid, &status, 0) < 0)
		CHECK(errno == EINTR);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void see_all(void)
{
	cpu_set_t cpus;

	CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_EQUAL(&cpus, &all));
	CHECK(pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus) == 0 && CPU_EQUAL(&cpus, &all));
}

static void children(void)
{
	char command[400], *argv[] = { "sh", "-c", command, NULL }, got[256];
	pid_t pid = fork();
	FILE *f;

	if (pid == 0) {
		same_as_ours("/proc/self/status");
		_exit(0);
	}
	ended_well(pid);
	snprintf(command, sizeof command, "read -r a b <<X\n$(grep Cpus_allowed_list: /proc/self/status)\nX\n[ \"$b\" = '%s' ]", list);
	pid = vfork();
	if (pid == 0) {
		execv("/bin/sh", argv);
		_exit(1);
	}
	ended_well(pid);
	CHECK(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
	ended_well(pid);
	CHECK(system(command) == 0);
	f = popen("grep Cpus_allowed_list: /proc/self/status", "r");
	CHECK(f && fscanf(f, "Cpus_allowed_list: %255s", got) == 1 && strcmp(got, list) == 0);
	CHECK(pclose(f) == 0);
	CHECK(execl("/nonexistent", "x", (char *)NULL) == -1 && errno == ENOENT);
	see_all();
}

static void *compute(void *arg)
{
	volatile unsigned n = 0;

	while (!stop)
		n++;
	see_all();
	return arg;
}

/* On one CPU after the other. */
static void *wander(void *arg)
{
	cpu_set_t one;

	for (int round = 0; round < 3; round++)
		for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
			if (!CPU_ISSET(cpu, &all))
				continue;
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			CHECK(pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0);
			for (int i = 0; i < 20; i++) {
				CHECK(sched_getcpu() == cpu);
				sched_yield();
			}
		}
	return arg;
}

static void *work(void *arg)
{
	see_all();
	for (int i = 0; i < 3; i++)
		children();
	return arg;
}

/* Is any kernel thread of this process on one CPU alone? */
static bool any_bound(void)
{
	char path[300], got[256];
	DIR *d = opendir("/proc/self/task");
	bool found = false;

	for (struct dirent *e; (e = readdir(d)); ) {
		snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
		if (e->d_name[0] != '.' && read_list(path, got) && !strpbrk(got, ",-"))
			found = true;
	}
	closedir(d);
	return found;
}

int main(int argc, char **argv)
{
	const char *how = getenv("WEFT_BIND");
	pthread_t t[THREADS];

	(void)argc;
	deadline(55);
	CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
	CHECK(read_list("/proc/self/status", list));
	if (getenv("BIND_LIST"))	/* we were executed by one who was bound */
		CHECK(strcmp(list, getenv("BIND_LIST")) == 0);
	for (int i = 0; i < THREADS; i++)
		t[i] = start(i == 0 ? wander : i < 3 ? compute : work, NULL);
	work(NULL);
	if (how && !strcmp(how, "cpu") && CPU_COUNT(&all) > 1)
		CHECK(any_bound());
	for (int i = 3; i < THREADS; i++)
		join(t[i]);
	join(t[0]);
	stop = true;
	join(t[1]);
	join(t[2]);
	see_all();
	if (getenv("LD_PRELOAD") && (!how || strcmp(how, "node"))) {
		setenv("BIND_LIST", list, 1);
		setenv("WEFT_BIND", how ? "node" : "cpu", 1);
		execv("/proc/self/exe", argv);
		CHECK(!"exec");
	}
	return 0;
}
