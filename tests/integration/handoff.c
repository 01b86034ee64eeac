/* SPDX-License-Identifier: MIT
 * Hand-off: threads that stall in the kernel do not keep their processors. Two threads block, by turns in flock(2),
 * in open(2) of a FIFO and in fgets(3) on an empty pipe; two compute threads must go on meanwhile.
 *
 * usage: handoff [flock|fifo|fgets]…
 * The bound is generous (a VP lost for good would halve the throughput); `make bench` has the figures.
 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "check.h"

enum { BLOCKERS = 2, COMPUTERS = 2 };

static char dir[] = "/tmp/weft-handoff.XXXXXX";
static const char *kind;
static int lock_holder;
static int pipes[BLOCKERS][2];
static int entered, left, stop;
static uint64_t counts[COMPUTERS];

static void path_of(char *out, size_t size, int i)
{
	snprintf(out, size, "%s/%d", dir, i);
}

static void *blocker(void *arg)
{
	int i = (int)(intptr_t)arg, fd;
	char path[64], line[64];
	FILE *f;

	path_of(path, sizeof(path), kind[1] == 'l' ? 0 : i);
	if (strcmp(kind, "flock") == 0) {
		fd = open(path, O_RDWR);
		CHECK(fd >= 0);
		__atomic_fetch_add(&entered, 1, __ATOMIC_SEQ_CST);
		CHECK_EQ(flock(fd, LOCK_EX), 0);
		CHECK_EQ(flock(fd, LOCK_UN), 0);
		close(fd);
	} else if (strcmp(kind, "fifo") == 0) {
		__atomic_fetch_add(&entered, 1, __ATOMIC_SEQ_CST);
		fd = open(path, O_RDONLY);
		CHECK(fd >= 0);
		close(fd);
	} else {
		f = fdopen(pipes[i][0], "r");
		CHECK(f != NULL);
		__atomic_fetch_add(&entered, 1, __ATOMIC_SEQ_CST);
		CHECK(fgets(line, sizeof(line), f) == line);
		CHECK(strcmp(line, "go on\n") == 0);
		fclose(f);
	}
	__atomic_fetch_add(&left, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *computer(void *arg)
{
	uint64_t n = 0, x = 1;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 1000; i++)
			x = x * 6364136223846793005ull + 1442695040888963407ull;
		n++;
	}
	*(uint64_t *)arg = x == 0 ? 0 : n;
	return NULL;
}

/* Units of work that all compute threads do in 200 ms. */
static uint64_t throughput(void)
{
	pthread_t t[COMPUTERS];
	uint64_t sum = 0, t0 = now_ns(), t1;

	stop = 0;
	for (int i = 0; i < COMPUTERS; i++)
		t[i] = start_thread(computer, &counts[i]);
	sleep_ns(200 * MS);
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	t1 = now_ns();
	for (int i = 0; i < COMPUTERS; i++) {
		join_thread(t[i]);
		sum += counts[i];
	}
	return sum * (200 * MS) / (t1 - t0);
}

static void release(void)
{
	char path[64];
	int fd;

	if (strcmp(kind, "flock") == 0) {
		CHECK_EQ(flock(lock_holder, LOCK_UN), 0);
		return;
	}
	for (int i = 0; i < BLOCKERS; i++) {
		path_of(path, sizeof(path), i);
		if (strcmp(kind, "fifo") == 0) {
			fd = open(path, O_WRONLY);
			CHECK(fd >= 0);
			close(fd);
		} else {
			CHECK_EQ(write(pipes[i][1], "go on\n", 6), 6);
			close(pipes[i][1]);
		}
	}
}

static void run(const char *what)
{
	struct weft_stats before, after;
	pthread_t t[BLOCKERS];
	uint64_t alone = 0, beside = 0;
	char path[64];

	kind = what;
	entered = left = 0;
	for (int i = 0; i < BLOCKERS; i++) {
		path_of(path, sizeof(path), i);
		unlink(path);
		if (strcmp(kind, "fifo") == 0)
			CHECK_EQ(mkfifo(path, 0600), 0);
		CHECK_EQ(pipe(pipes[i]), 0);
	}
	if (strcmp(kind, "flock") == 0) {
		path_of(path, sizeof(path), 0);
		lock_holder = open(path, O_RDWR | O_CREAT, 0600);
		CHECK(lock_holder >= 0);
		CHECK_EQ(flock(lock_holder, LOCK_EX), 0);
	}
	stats(&before);
	alone = throughput();
	for (int i = 0; i < BLOCKERS; i++)
		t[i] = start_thread(blocker, (void *)(intptr_t)i);
	while (__atomic_load_n(&entered, __ATOMIC_SEQ_CST) < BLOCKERS)
		sleep_ns(MS);
	for (int i = 0; i < 5 && beside * 10 < alone * 8; i++) {
		uint64_t n = throughput();

		if (n > beside)
			beside = n;
		n = throughput();	/* the machine may have become slower for all of us */
		if (n > beside)
			beside = n;
	}
	CHECK_EQ(left, 0);
	release();
	for (int i = 0; i < BLOCKERS; i++)
		join_thread(t[i]);
	CHECK_EQ(left, BLOCKERS);
	stats(&after);
	printf("%-6s compute %llu alone, %llu beside: %llu %%; handed on %llu, came back %llu, p50 %llu us, p99 %llu us\n",
	       kind, (unsigned long long)alone, (unsigned long long)beside, (unsigned long long)(beside * 100 / alone),
	       (unsigned long long)(after.blocked - before.blocked),
	       (unsigned long long)(after.unblocked - before.unblocked),
	       (unsigned long long)after.handoff_p50_ns / 1000, (unsigned long long)after.handoff_p99_ns / 1000);
	/* the figure is above; beside other load only this must hold: without the hand-off it would be near nothing */
		CHECK(beside * 5 >= alone);
	for (int i = 0; i < BLOCKERS; i++) {
		path_of(path, sizeof(path), i);
		unlink(path);
		if (strcmp(kind, "fgets") != 0) {
			close(pipes[i][0]);
			close(pipes[i][1]);
		}
	}
	if (strcmp(kind, "flock") == 0)
		close(lock_holder);
}

int main(int argc, char **argv)
{
	CHECK(mkdtemp(dir) != NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2) {
		run("flock");
		run("fifo");
		run("fgets");
	}
	for (int i = 1; i < argc; i++)
		run(argv[i]);
	rmdir(dir);
	return 0;
}
