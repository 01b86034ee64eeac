/* SPDX-License-Identifier: MIT
 * Threads that read files beside threads that compute. Every block read is the right one; the readers come forward; signals for the
 * computing threads arrive; a child of fork does the same again; and a computing thread that calls execve while reads are under way
 * becomes the new program, unharmed by what interrupted it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "tests/shim/io_check.h"

#define BLOCK 4096
#define BLOCKS 512
#define READERS 16
#define HOGS 4
#define READS 60		/* each reader */

static char path[] = "io_hogs.XXXXXX";
static int plain, direct;	/* direct: -1 where the file system has no O_DIRECT */
static atomic_bool stop, go_exec;
static atomic_ulong handled;
static volatile unsigned long sink;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

static void *hog(void *arg)
{
	static char *const argv[] = { "true", NULL };

	for (unsigned long n = 0; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
		sink += n * n;
		if (arg && atomic_load_explicit(&go_exec, memory_order_relaxed)) {
			execv("/bin/true", argv);
			CHECK(!"execv");
		}
	}
	return NULL;
}

static void *reader(void *arg)
{
	uintptr_t id = (uintptr_t)arg;
	uint64_t x = 88172645463325252u + id;
	int fd = id % 2 && direct >= 0 ? direct : plain;
	uint32_t *buf;

	CHECK(posix_memalign((void **)&buf, BLOCK, BLOCK) == 0);
	for (unsigned n = 0; n < READS || atomic_load(&go_exec); n++) {
		uint32_t b;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		b = x % BLOCKS;
		if (fd == plain)
			CHECK(posix_fadvise(fd, (off_t)b * BLOCK, BLOCK, POSIX_FADV_DONTNEED) == 0);
		CHECK(pread(fd, buf, BLOCK, (off_t)b * BLOCK) == BLOCK);
		for (unsigned i = 0; i < BLOCK / sizeof *buf; i++)
			CHECK(buf[i] == b * 7919 + i);
	}
	free(buf);
	return NULL;
}

static void together(bool to_exec)
{
	pthread_t h[HOGS], r[READERS];

	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < HOGS; i++)
		CHECK(pthread_create(&h[i], NULL, hog, (void *)(uintptr_t)(to_exec && i == 0)) == 0);
	for (uintptr_t i = 0; i < READERS; i++)
		CHECK(pthread_create(&r[i], NULL, reader, (void *)i) == 0);
	for (unsigned i = 0; i < 50; i++) {
		usleep(1000);
		CHECK(pthread_kill(h[i % HOGS], SIGUSR1) == 0);
	}
	if (to_exec) {
		atomic_store(&go_exec, true);
		pause();
	}
	for (unsigned i = 0; i < READERS; i++)
		CHECK(pthread_join(r[i], NULL) == 0);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < HOGS; i++)
		CHECK(pthread_join(h[i], NULL) == 0);
	CHECK(atomic_load(&handled) > 0);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	static uint32_t block[BLOCK / sizeof(uint32_t)];
	int status;
	pid_t pid;

	plain = mkstemp(path);
	CHECK(plain >= 0);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		for (unsigned i = 0; i < COUNT(block); i++)
			block[i] = b * 7919 + i;
		CHECK(write(plain, block, BLOCK) == BLOCK);
	}
	CHECK(fsync(plain) == 0);
	direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	CHECK(unlink(path) == 0);
	CHECK(posix_fadvise(plain, 0, 0, POSIX_FADV_RANDOM) == 0);
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	together(false);
	for (int i = 0; i < 2; i++) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			together(true);
			_exit(3);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	return 0;
}
