/* SPDX-License-Identifier: MIT
 * Reads and writes of files, through the page cache and past it (O_DIRECT), by many threads: data,
 * errors, ends of files, the shared file position, O_APPEND, fork, close and signals meanwhile.
 * Where the file system has no O_DIRECT, those parts run through the page cache once more.
 */
#include "io_check.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define BLOCK 4096
#define THREADS 24
#define OWN 8			/* blocks of one thread */
#define ROUNDS 60

static char name[] = "diskio.XXXXXX";

struct block {
	uint32_t word[BLOCK / 4];
};

static void fill(struct block *b, uint32_t seed)
{
	for (uint32_t i = 0; i < BLOCK / 4; i++)
		b->word[i] = seed * 2654435761u + i;
}

static bool is(const struct block *b, uint32_t seed)
{
	for (uint32_t i = 0; i < BLOCK / 4; i++)
		if (b->word[i] != seed * 2654435761u + i)
			return false;
	return true;
}

static struct block *blocks(size_t n)
{
	void *p;

	CHECK(posix_memalign(&p, BLOCK, n * BLOCK) == 0);
	return p;
}

/* A new, nameless file. `flags` may hold O_DIRECT and O_APPEND. */
static int file(int flags)
{
	char path[sizeof name];
	int fd, tmp;

	memcpy(path, name, sizeof name);
	tmp = mkstemp(path);
	CHECK(tmp >= 0);
	fd = open(path, O_RDWR | flags);
	if (fd < 0 && errno == EINVAL)
		fd = open(path, O_RDWR | (flags & ~O_DIRECT));
	CHECK(fd >= 0);
	CHECK(unlink(path) == 0);
	CHECK(close(tmp) == 0);
	return fd;
}

/* With blocks 0 .. n-1, on the disk and not in the cache. */
static int filled(int flags, uint32_t n)
{
	int fd = file(flags);
	struct block *b = blocks(1);

	for (uint32_t i = 0; i < n; i++) {
		fill(b, i);
		CHECK(pwrite(fd, b, BLOCK, (off_t)i * BLOCK) == BLOCK);
	}
	CHECK(fsync(fd) == 0);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	free(b);
	return fd;
}

/* --- every thread its own blocks of one file --- */

struct job {
	int fd;
	uint32_t nr;
};

static void run_all(void *(*fn)(void *), int fd)
{
	struct job job[THREADS];
	pthread_t t[THREADS];

	for (uint32_t i = 0; i < THREADS; i++) {
		job[i] = (struct job){ fd, i };
		t[i] = start(fn, &job[i]);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		join(t[i]);
}

static void *mixed(void *arg)
{
	struct job *j = arg;
	struct block *b = blocks(2);
	uint32_t version[OWN] = { 0 };
	unsigned seed = j->nr + 1;

	for (uint32_t i = 0; i < OWN; i++) {
		fill(b, j->nr * OWN + i);
		CHECK(pwrite(j->fd, b, BLOCK, (off_t)(j->nr * OWN + i) * BLOCK) == BLOCK);
	}
	for (int r = 0; r < ROUNDS; r++) {
		uint32_t i = (uint32_t)rand_r(&seed) % (OWN - 1), nr = j->nr * OWN + i;
		off_t at = (off_t)nr * BLOCK;
		struct iovec v[2] = { { b, BLOCK }, { b + 1, BLOCK } };

		memset(b, 0x55, 2 * sizeof *b);
		switch (rand_r(&seed) % 6) {
		case 0:
			fill(b, nr + 1000 * ++version[i]);
			CHECK(pwrite(j->fd, b, BLOCK, at) == BLOCK);
			break;
		case 1:
			fill(b, nr + 1000 * ++version[i]);
			fill(b + 1, nr + 1 + 1000 * ++version[i + 1]);
			CHECK(pwritev(j->fd, v, 2, at) == 2 * BLOCK);
			break;
		case 2:
			CHECK(preadv(j->fd, v, 2, at) == 2 * BLOCK);
			CHECK(is(b, nr + 1000 * version[i]) && is(b + 1, nr + 1 + 1000 * version[i + 1]));
			break;
		case 3:
			CHECK(fdatasync(j->fd) == 0);
			CHECK(posix_fadvise(j->fd, at, BLOCK, POSIX_FADV_DONTNEED) == 0);
			/* fall through */
		default:
			errno = 77;
			CHECK(pread(j->fd, b, BLOCK, at) == BLOCK);
			CHECK(errno == 77);
			CHECK(is(b, nr + 1000 * version[i]));
		}
	}
	free(b);
	return NULL;
}

static void test_data(int flags)
{
	int fd = file(flags);

	run_all(mixed, fd);
	CHECK(close(fd) == 0);
}

/* --- errors and ends --- */

static void *errors(void *arg)
{
	int flags = *(int *)arg, fd = filled(flags, 3), ro, dir, p[2];
	struct block *b = blocks(4);
	struct iovec bad = { (void *)BLOCK, BLOCK };
	bool direct = (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
	volatile int minus = -1;
	struct statfs where;
	char path[64];

	FAILS(pread(-1, b, BLOCK, 0), EBADF);
	FAILS(pwrite(9999, b, BLOCK, 0), EBADF);
	FAILS(read(9999, b, BLOCK), EBADF);
	FAILS(pread(fd, b, BLOCK, -1), EINVAL);
	FAILS(preadv(fd, &bad, minus, 0), EINVAL);
	FAILS(pwrite(fd, b, BLOCK, -BLOCK), EINVAL);
	FAILS(pread(fd, (void *)BLOCK, BLOCK, 0), EFAULT);
	FAILS(read(fd, (void *)BLOCK, BLOCK), EFAULT);
	CHECK(lseek(fd, 0, SEEK_CUR) == 0);
	FAILS(pwrite(fd, (void *)BLOCK, BLOCK, 0), EFAULT);
	FAILS(preadv(fd, &bad, 1, 0), EFAULT);
	CHECK(fstatfs(fd, &where) == 0);
	if (direct && where.f_type != TMPFS_MAGIC) {	/* there is nothing there to be aligned for */
		FAILS(pread(fd, (char *)b + 1, BLOCK, 0), EINVAL);
		FAILS(pread(fd, b, BLOCK, 7), EINVAL);
		FAILS(read(fd, b, 100), EINVAL);
		CHECK(lseek(fd, 0, SEEK_CUR) == 0);
	}
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | (direct ? O_DIRECT : 0));
	CHECK(ro >= 0);
	FAILS(pwrite(ro, b, BLOCK, 0), EBADF);
	FAILS(write(ro, b, BLOCK), EBADF);
	CHECK(lseek(ro, 0, SEEK_CUR) == 0);
	CHECK(pread(ro, b, 0, 0) == 0 && pread(ro, b, BLOCK, BLOCK) == BLOCK && is(b, 1));
	close(ro);
	dir = open(".", O_RDONLY | O_DIRECTORY);
	FAILS(pread(dir, b, BLOCK, 0), EISDIR);
	FAILS(read(dir, b, BLOCK), EISDIR);
	close(dir);
	CHECK(pipe(p) == 0);
	FAILS(pread(p[0], b, BLOCK, 0), ESPIPE);
	FAILS(fsync(p[0]), EINVAL);
	FAILS(fdatasync(p[0]), EINVAL);
	FAILS(fsync(-1), EBADF);
	FAILS(fdatasync(-1), EBADF);
	close(p[0]);
	close(p[1]);
	/* ends */
	CHECK(ftruncate(fd, 2 * BLOCK + 100) == 0);
	memset(b, 0x55, 4 * sizeof *b);
	CHECK(pread(fd, b, 4 * BLOCK, BLOCK) == BLOCK + 100 && is(b, 1));
	CHECK(direct || ((unsigned char *)b)[BLOCK + 100] == 0x55);
	CHECK(pread(fd, b, BLOCK, 3 * BLOCK) == 0);
	CHECK(pread(fd, b, BLOCK, 1l << 40) == 0);
	CHECK(read(fd, b, 4 * BLOCK) == 2 * BLOCK + 100 && is(b, 0) && is(b + 1, 1));
	CHECK(lseek(fd, 0, SEEK_CUR) == 2 * BLOCK + 100);
	CHECK(lseek(fd, 3 * BLOCK, SEEK_SET) == 3 * BLOCK && read(fd, b, BLOCK) == 0);
	CHECK(lseek(fd, 0, SEEK_CUR) == 3 * BLOCK);
	/* part in the cache, part not */
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	CHECK(pread(fd, b, 100 * !direct, 0) == 100 * !direct);
	CHECK(pread(fd, b, 2 * BLOCK, 0) == 2 * BLOCK && is(b, 0) && is(b + 1, 1));
	close(fd);
	/* no regular file of a disk */
	fd = open("/proc/self/status", O_RDONLY);
	CHECK(pread(fd, b, 5, 0) == 5 && memcmp(b, "Name:", 5) == 0);
	CHECK(read(fd, b, 5) == 5 && pread(fd, b, 5, 0) == 5 && memcmp(b, "Name:", 5) == 0);
	close(fd);
	free(b);
	return NULL;
}

static void test_errors(int flags)
{
	join(start(errors, &flags));
}

/* --- the file position, shared by all, and by a second descriptor --- */

#define SHARED (THREADS * 16)

static atomic_int times[SHARED];
static int second;

static void *read_on(void *arg)
{
	struct job *j = arg;
	int fd = j->nr % 2 ? j->fd : second;
	struct block *b = blocks(1);

	for (;;) {
		ssize_t n = read(fd, b, BLOCK);
		uint32_t nr;

		if (n == 0)
			break;
		CHECK(n == BLOCK);
		for (nr = 0; nr < SHARED && b->word[0] != nr * 2654435761u; nr++)
			;
		CHECK(nr < SHARED && is(b, nr));
		atomic_fetch_add(&times[nr], 1);
	}
	free(b);
	return NULL;
}

static void *write_on(void *arg)
{
	struct job *j = arg;
	int fd = j->nr % 2 ? j->fd : second;
	struct block *b = blocks(1);

	for (uint32_t i = 0; i < SHARED / THREADS; i++) {
		fill(b, j->nr * (SHARED / THREADS) + i);
		CHECK(write(fd, b, BLOCK) == BLOCK);
	}
	free(b);
	return NULL;
}

/* All blocks there, once each, in whatever order. */
static void test_position(int flags)
{
	int fd = file(flags);
	struct stat st;

	second = dup(fd);
	run_all(write_on, fd);
	CHECK(lseek(fd, 0, SEEK_CUR) == SHARED * BLOCK);
	CHECK(fstat(fd, &st) == 0 && st.st_size == SHARED * BLOCK);
	CHECK(fsync(fd) == 0);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	memset(times, 0, sizeof times);
	run_all(read_on, fd);
	for (int i = 0; i < SHARED; i++)
		CHECK(times[i] == 1);
	CHECK(lseek(fd, 0, SEEK_CUR) == SHARED * BLOCK);
	close(second);
	close(fd);
}

/* --- fork, close, signals while reads are under way --- */

static atomic_bool stop;

static void *reader(void *arg)
{
	struct job *j = arg;
	struct block *b = blocks(1);
	unsigned seed = j->nr + 99;

	while (!stop) {
		uint32_t nr = (uint32_t)rand_r(&seed) % SHARED;

		if (seed % 16 == 0)
			posix_fadvise(j->fd, 0, 0, POSIX_FADV_DONTNEED);
		CHECK(pread(j->fd, b, BLOCK, (off_t)nr * BLOCK) == BLOCK);
		CHECK(is(b, nr));
	}
	free(b);
	return NULL;
}

static void *child_thread(void *arg)
{
	int fd = *(int *)arg;
	struct block *b = blocks(1);

	for (uint32_t i = 0; i < 20; i++)
		CHECK(pread(fd, b, BLOCK, (off_t)i * BLOCK) == BLOCK && is(b, i));
	free(b);
	return NULL;
}

static void test_fork(int flags)
{
	int fd = filled(flags, SHARED), status;
	struct job job[THREADS];
	pthread_t t[THREADS];

	stop = false;
	for (uint32_t i = 0; i < THREADS; i++) {
		job[i] = (struct job){ fd, i };
		t[i] = start(reader, &job[i]);
	}
	for (int i = 0; i < 8; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			deadline(20);
			child_thread(&fd);
			join(start(child_thread, &fd));
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	stop = true;
	for (uint32_t i = 0; i < THREADS; i++)
		join(t[i]);
	close(fd);
}

static _Atomic int victim;

static void *read_victim(void *arg)
{
	struct block *b = blocks(1);

	(void)arg;
	while (!stop) {
		ssize_t n = pread(victim, b, BLOCK, 5 * BLOCK);

		/* while it is closed, the number may belong to anybody */
		CHECK(n != BLOCK || is(b, 5));
	}
	free(b);
	return NULL;
}

static void test_close(int flags)
{
	int fd = filled(flags, 8);
	pthread_t t[8];

	stop = false;
	victim = dup(fd);
	for (size_t i = 0; i < COUNT(t); i++)
		t[i] = start(read_victim, NULL);
	for (int i = 0; i < 100; i++) {
		nap(1);
		CHECK(close(victim) == 0);
		victim = dup(fd);
		CHECK(victim >= 0);
	}
	stop = true;
	for (size_t i = 0; i < COUNT(t); i++)
		join(t[i]);
	close(victim);
	close(fd);
}

static atomic_int handled;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

static void test_signals(int flags)
{
	int fd = filled(flags, SHARED), sent = 0;
	struct sigaction sa = { .sa_handler = on_signal };
	struct job job[8];
	pthread_t t[8];

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	stop = false;
	handled = 0;
	for (uint32_t i = 0; i < COUNT(t); i++) {
		job[i] = (struct job){ fd, i };
		t[i] = start(reader, &job[i]);
	}
	for (int i = 0; i < 100; i++) {
		int was = handled;

		CHECK(pthread_kill(t[(size_t)i % COUNT(t)], SIGUSR1) == 0);
		sent++;
		for (int k = 0; handled == was && k < 5000; k++)
			nap(1);
	}
	CHECK(handled == sent);
	stop = true;
	for (uint32_t i = 0; i < COUNT(t); i++)
		join(t[i]);
	close(fd);
}

/* --- beside threads that compute --- */

static void *compute(void *arg)
{
	volatile unsigned long *n = arg;

	while (!stop)
		++*n;
	return NULL;
}

static void test_beside_hogs(int flags)
{
	int fd = filled(flags, SHARED);
	static unsigned long n[4];
	struct job job = { fd, 0 };
	pthread_t t[4], r;

	stop = false;
	for (size_t i = 0; i < COUNT(t); i++)
		t[i] = start(compute, &n[i]);
	r = start(child_thread, &job.fd);
	join(r);
	run_all(child_thread, fd);
	stop = true;
	for (size_t i = 0; i < COUNT(t); i++)
		join(t[i]);
	close(fd);
}

int main(int argc, char **argv)
{
	static const int kinds[] = { 0, O_DIRECT };

	(void)argc;
	deadline(55);
	for (size_t i = 0; i < COUNT(kinds); i++) {
		test_data(kinds[i]);
		test_errors(kinds[i]);
		test_position(kinds[i]);
		test_position(kinds[i] | O_APPEND);
		test_fork(kinds[i]);
		test_close(kinds[i]);
		test_signals(kinds[i]);
		test_beside_hogs(kinds[i]);
	}
	/* under the preload twice more, the other ways */
	if (getenv("LD_PRELOAD") && (!getenv("WEFT_URING") || !strcmp(getenv("WEFT_URING"), "eventfd"))) {
		setenv("WEFT_URING", getenv("WEFT_URING") ? "off" : "eventfd", 1);
		execv("/proc/self/exe", argv);
		CHECK(!"exec");
	}
	return 0;
}
