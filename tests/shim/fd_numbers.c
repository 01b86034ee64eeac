/* SPDX-License-Identifier: MIT
 * A new descriptor has the lowest number that is free (POSIX, open and "File Descriptor Allocation"), and a child has no others than its
 * parent, also while threads that block one after another have the runtime make workers, with descriptors of their own.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "synctest.h"

enum { BLOCKED = 48, ROUNDS = 3 };

static char path[64];
static int held[BLOCKED];	/* each an open file description with a lock that another one has */
static int lock;

static void *blocked(void *arg)
{
	int fd = held[(intptr_t)arg];

	CHECK(flock(fd, LOCK_SH) == 0 && flock(fd, LOCK_UN) == 0);
	return NULL;
}

/* Each makes and closes descriptors; the lowest free number is `n`. */

#define MAKES(call) do { int fd_ = (call); CHECK_IS(fd_, n); close(fd_); } while (0)

static void streams(int n)
{
	char name[] = "/tmp/weft-fd-XXXXXX";
	FILE *f = fopen("/dev/null", "r");
	DIR *d;

	CHECK_IS(fileno(f), n);
	fclose(f);
	f = tmpfile();
	CHECK_IS(fileno(f), n);
	fclose(f);
	d = opendir("/");
	CHECK_IS(dirfd(d), n);
	closedir(d);
	MAKES(mkstemp(name));
	unlink(name);
}

static void sockets(int n)
{
	struct msghdr m = { .msg_iov = &(struct iovec){ &(char){ 0 }, 1 }, .msg_iovlen = 1 };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	int fds[2];

	MAKES(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK_IS(fds[0], n);
	CHECK_IS(fds[1], n + 1);
	m.msg_control = &control;
	m.msg_controllen = sizeof control;
	control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.head), &lock, sizeof(int));
	CHECK(sendmsg(fds[0], &m, 0) == 1);
	m.msg_controllen = sizeof control;
	CHECK(recvmsg(fds[1], &m, 0) == 1);
	CHECK_IS(*(int *)CMSG_DATA(&control.head), n + 2);
	close(n + 2);
	close(fds[1]);
	close(fds[0]);
}

static void others(int n)
{
	sigset_t set;
	int fds[2];

	sigemptyset(&set);
	MAKES(open("/dev/null", O_RDONLY));
	MAKES(openat(AT_FDCWD, "/dev/null", O_WRONLY | O_CLOEXEC));
	MAKES(dup(0));
	MAKES(fcntl(0, F_DUPFD, 0));
	MAKES(eventfd(0, 0));
	MAKES(epoll_create1(0));
	MAKES(timerfd_create(CLOCK_MONOTONIC, 0));
	MAKES(signalfd(-1, &set, 0));
	MAKES(inotify_init1(0));
	MAKES(memfd_create("weft", 0));
	MAKES((int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY));
	MAKES((int)syscall(SYS_fcntl, 0, F_DUPFD, 0));
	CHECK(pipe(fds) == 0);
	CHECK_IS(fds[0], n);
	CHECK_IS(fds[1], n + 1);
	close(fds[0]);
	close(fds[1]);
}

/* The child has what we have. */
static void children(int n)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fcntl(n, F_GETFD) >= 0 ? 1 : fcntl(n - 1, F_GETFD) < 0 ? 2 : 0);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK_IS(status, 0);
}

int main(void)
{
	pthread_t t[BLOCKED];
	int n;

	snprintf(path, sizeof path, "/tmp/weft-fd-%d", (int)getpid());
	lock = open(path, O_RDWR | O_CREAT, 0600);
	for (int i = 0; i < BLOCKED; i++)
		held[i] = open(path, O_RDWR);
	unlink(path);
	n = held[BLOCKED - 1] + 1;
	for (int round = 0; round < ROUNDS; round++) {
		CHECK(flock(lock, LOCK_EX) == 0);
		for (int i = 0; i < BLOCKED; i++) {
			t[i] = start(blocked, (void *)(intptr_t)i);
			others(n);
			sockets(n);
			streams(n);
			if (i % 8 == 0)
				children(n);
		}
		CHECK(flock(lock, LOCK_UN) == 0);
		for (int i = 0; i < BLOCKED; i++)
			finish(t[i]);
	}
	return 0;
}
