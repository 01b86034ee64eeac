/* SPDX-License-Identifier: MIT
 * Connected sockets, and who receives from them: for the tests of what a runtime may remember of a socket.
 */
#ifndef SOCK_CHECK_H
#define SOCK_CHECK_H

#include "io_check.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>

static inline void make_pair(int fds[2], bool tcp)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t size = sizeof at;
	int l, on = 1;

	if (!tcp) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
		return;
	}
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(l >= 0 && bind(l, (struct sockaddr *)&at, sizeof at) == 0 && listen(l, 5) == 0);
	CHECK(getsockname(l, (struct sockaddr *)&at, &size) == 0);
	fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(fds[1] >= 0 && connect(fds[1], (struct sockaddr *)&at, sizeof at) == 0);
	fds[0] = accept(l, NULL, NULL);
	CHECK(fds[0] >= 0);
	for (int i = 0; i < 2; i++)
		CHECK(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
	close(l);
}

static inline void close_pair(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

struct task {
	int fd;
	size_t len;
	int flags;
	int rounds;
	long result;		/* of the last call, -errno */
	double took;
	char got[64];
};

static inline void *receiver(void *arg)
{
	struct task *t = arg;
	double begin = now();
	ssize_t n = recv(t->fd, t->got, t->len, t->flags);

	t->result = n < 0 ? -errno : n;
	t->took = now() - begin;
	return NULL;
}

/* Wait until a thread waits in a receive of an empty socket: nothing tells, so give it time. */
static inline void settle(void)
{
	nap(15);
}

static inline void *send_soon(void *arg)
{
	nap(10);
	CHECK(send(*(int *)arg, "x", 1, 0) == 1);
	return NULL;
}

static inline void set_limit(int fd, int option, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	CHECK(setsockopt(fd, SOL_SOCKET, option, &tv, sizeof tv) == 0);
}

static inline void in_main_and_a_thread(void *(*all)(void *))
{
	deadline(60);
	signal(SIGPIPE, SIG_IGN);
	all(NULL);
	join(start(all, NULL));
}

#endif
