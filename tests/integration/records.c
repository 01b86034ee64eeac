/* SPDX-License-Identifier: MIT
 * Switch records begin while the program runs (upcall/recstart.c), in the child of a fork again; and meanwhile the program notices nothing: what
 * it opens has the lowest number that is free, and a pipe that it closes is closed.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"

static int stop, hogs;		/* more than VPs: something has to be queued */

/* Are there to be any? Asked as the kernel is: for a thread that does not exist. */
static bool expected(void)
{
	const char *source = getenv("WEFT_BLOCKED");
	struct perf_event_attr a = { .size = sizeof a, .type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_DUMMY, .exclude_kernel = 1,
				     .exclude_hv = 1 };

	if (!dlsym(RTLD_DEFAULT, "weft_stats") || (source && strcmp(source, "auto") != 0 && strcmp(source, "records") != 0))
		return false;
	return syscall(SYS_perf_event_open, &a, INT_MAX, -1, -1, 0) < 0 && errno == ESRCH;
}

static int events(void)
{
	char path[64], what[64];
	int n = 0;

	for (int fd = 0; fd < 4096; fd++) {
		ssize_t len;

		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		len = readlink(path, what, sizeof what - 1);
		what[len > 0 ? len : 0] = '\0';
		n += strcmp(what, "anon_inode:[perf_event]") == 0;
	}
	return n;
}

static void *hog(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return arg;
}

static void opens(void)
{
	int lowest = open("/dev/null", O_RDONLY), p[2], fd;

	CHECK(lowest >= 0);
	close(lowest);
	for (int i = 0; i < 100; i++) {
		fd = open("/dev/null", O_RDONLY);
		CHECK_EQ(fd, lowest);
		close(fd);
	}
	CHECK_EQ(pipe(p), 0);
	close(p[1]);
	CHECK_EQ(poll(&(struct pollfd){ p[0], POLLIN, 0 }, 1, 1000), 1);	/* POLLHUP: nobody else has the other end, for longer than a moment */
	close(p[0]);
}

/* Until they have begun; where they are not to, or have begun already, for as long as it would take. */
static void begin(bool begins)
{
	uint64_t end = now_ns() + (begins ? 30 * SEC : 60 * MS);
	pthread_t t[hogs];

	stop = 0;
	for (int i = 0; i < hogs; i++)
		t[i] = start_thread(hog, NULL);
	do
		opens();
	while (now_ns() < end && !(begins && events()));
	CHECK_EQ(events() > 0, begins);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < hogs; i++)
		join_thread(t[i]);
}

int main(void)
{
	bool begins = expected();
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int status;
	pid_t pid;

	hogs = cpus > 8 ? (int)cpus + 4 : 12;
	begin(begins);
	pid = fork();
	if (pid == 0) {
		CHECK_EQ(events(), 0);
		begin(begins);
		exit(0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	return 0;
}
