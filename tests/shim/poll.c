/* SPDX-License-Identifier: MIT
 * poll, select and epoll in threads.
 */
#include "io_check.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

static void *write_later(void *arg)
{
	nap(30);
	CHECK(write((int)(intptr_t)arg, "x", 1) == 1);
	return NULL;
}

static void *close_later(void *arg)
{
	nap(30);
	close((int)(intptr_t)arg);
	return NULL;
}

static void test_poll(void)
{
	struct timespec ts = { 0, 40000000 };
	struct pollfd p[40];
	int fds[40][2], file = open("/proc/self/exe", O_RDONLY);
	pthread_t t;
	double t0;
	char c;

	for (int i = 0; i < 40; i++) {
		CHECK(pipe(fds[i]) == 0);
		p[i] = (struct pollfd){ .fd = fds[i][0], .events = POLLIN };
	}
	/* time limits */
	CHECK(poll(p, 40, 0) == 0);
	t0 = now();
	CHECK(poll(p, 40, 40) == 0);
	CHECK(now() - t0 >= 0.039 && now() - t0 < 5);
	t0 = now();
	CHECK(ppoll(p, 3, &ts, NULL) == 0 && ts.tv_nsec == 40000000);
	CHECK(now() - t0 >= 0.039);
	t0 = now();
	CHECK(poll(NULL, 0, 30) == 0);
	CHECK(now() - t0 >= 0.029);
	/* one of many */
	t = start(write_later, (void *)(intptr_t)fds[33][1]);
	CHECK(poll(p, 40, -1) == 1);
	for (int i = 0; i < 40; i++)
		CHECK(p[i].revents == (i == 33 ? POLLIN : 0));
	CHECK(read(fds[33][0], &c, 1) == 1);
	join(t);
	/* entries that are not there, closed, or always ready */
	p[0].fd = -1;
	p[1].fd = 9999;
	CHECK(poll(p, 2, -1) == 1 && p[0].revents == 0 && p[1].revents == POLLNVAL);
	p[1] = (struct pollfd){ .fd = file, .events = POLLIN };
	CHECK(poll(p, 2, -1) == 1 && p[1].revents == POLLIN);
	p[1].events = 0;		/* a file is never ready for nothing */
	t0 = now();
	CHECK(poll(p, 3, 30) == 0);
	CHECK(now() - t0 >= 0.029);
	p[0] = (struct pollfd){ .fd = file, .events = 0 };
	CHECK(poll(p, 1, 10) == 0);
	/* the same descriptor twice, with different wishes */
	p[0] = (struct pollfd){ .fd = fds[0][0], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = fds[0][0], .events = POLLPRI };
	t = start(write_later, (void *)(intptr_t)fds[0][1]);
	CHECK(poll(p, 2, -1) == 1 && p[0].revents == POLLIN && p[1].revents == 0);
	join(t);
	/* hang-up is reported unasked */
	p[0] = (struct pollfd){ .fd = fds[5][0], .events = 0 };
	t = start(close_later, (void *)(intptr_t)fds[5][1]);
	CHECK(poll(p, 1, -1) == 1 && p[0].revents == POLLHUP);
	join(t);
	ts.tv_nsec = 1000000000;
	FAILS(ppoll(p, 1, &ts, NULL), EINVAL);
	for (int i = 0; i < 40; i++) {
		close(fds[i][0]);
		if (i != 5)
			close(fds[i][1]);
	}
	close(file);
}

static void test_select(void)
{
	struct timeval tv = { 0, 50000 };
	struct timespec ts = { 0, 40000000 };
	fd_set r, w, e;
	int fds[2];
	pthread_t t;
	double t0;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(fds[0], &r);
	t0 = now();
	CHECK(select(fds[1] + 1, &r, NULL, NULL, &tv) == 0);
	CHECK(now() - t0 >= 0.049 && tv.tv_sec == 0 && tv.tv_usec == 0);
	CHECK(!FD_ISSET(fds[0], &r));
	FD_SET(fds[0], &r);
	FD_SET(fds[1], &w);
	CHECK(select(fds[1] + 1, &r, &w, NULL, NULL) == 1);
	CHECK(!FD_ISSET(fds[0], &r) && FD_ISSET(fds[1], &w));
	FD_SET(fds[0], &r);
	tv = (struct timeval){ 5, 0 };
	t = start(write_later, (void *)(intptr_t)fds[1]);
	CHECK(select(fds[1] + 1, &r, NULL, NULL, &tv) == 1);
	CHECK(FD_ISSET(fds[0], &r));
	CHECK(tv.tv_sec == 4 && tv.tv_usec > 0 && tv.tv_usec < 990000);
	join(t);
	CHECK(pselect(0, NULL, NULL, NULL, &ts, NULL) == 0 && ts.tv_nsec == 40000000);
	tv = (struct timeval){ 0, 20000 };
	t0 = now();
	CHECK(select(0, NULL, NULL, NULL, &tv) == 0);
	CHECK(now() - t0 >= 0.019);
	FAILS(select(-1, NULL, NULL, NULL, &tv), EINVAL);
	tv = (struct timeval){ -1, 0 };
	FAILS(select(0, NULL, NULL, NULL, &tv), EINVAL);
	/* a hang-up is not exceptional */
	close(fds[1]);
	FD_ZERO(&e);
	FD_SET(fds[0], &e);
	tv = (struct timeval){ 0, 50000 };
	t0 = now();
	CHECK(select(fds[0] + 1, NULL, NULL, &e, &tv) == 0);
	CHECK(now() - t0 >= 0.049);
	close(fds[0]);
	FD_ZERO(&r);
	FD_SET(fds[0], &r);
	FAILS(select(fds[0] + 1, &r, NULL, NULL, NULL), EBADF);
}

static void test_epoll(void)
{
	struct epoll_event ev = { .events = EPOLLIN }, got[4];
	int ep = epoll_create1(0), fds[2];
	pthread_t t;
	double t0;
	char c;

	CHECK(pipe(fds) == 0);
	ev.data.u64 = 42;
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &ev) == 0);
	CHECK(epoll_wait(ep, got, 4, 0) == 0);
	t0 = now();
	CHECK(epoll_wait(ep, got, 4, 30) == 0);
	CHECK(now() - t0 >= 0.029);
	t = start(write_later, (void *)(intptr_t)fds[1]);
	CHECK(epoll_wait(ep, got, 4, -1) == 1 && got[0].data.u64 == 42 && got[0].events == EPOLLIN);
	CHECK(epoll_pwait(ep, got, 4, -1, NULL) == 1);
	CHECK(read(fds[0], &c, 1) == 1);
	join(t);
	FAILS(epoll_wait(ep, got, 0, 10), EINVAL);
	FAILS(epoll_wait(fds[0], got, 4, 10), EINVAL);
	FAILS(epoll_wait(9999, got, 4, 10), EBADF);
	close(ep);
	close(fds[0]);
	close(fds[1]);
}

/* --- an event loop with several threads on one epoll instance --- */

enum { CONNS = 30, LOOPS = 3, MESSAGES = 200 };
static int loop_ep;

static void *event_loop(void *arg)
{
	struct epoll_event ev[8];
	char buf[100];

	(void)arg;
	for (;;) {
		int n = epoll_wait(loop_ep, ev, 8, -1);

		CHECK(n > 0);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			ssize_t got;

			if (fd < 0)
				return NULL;
			while ((got = read(fd, buf, sizeof buf)) > 0)
				CHECK(write(fd, buf, (size_t)got) == got);
			if (got == 0) {
				close(fd);
				continue;
			}
			CHECK(errno == EAGAIN);
			ev[i].events = EPOLLIN | EPOLLONESHOT;
			CHECK(epoll_ctl(loop_ep, EPOLL_CTL_MOD, fd, &ev[i]) == 0);
		}
	}
}

static void *conn(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char out[50], in[50];

	for (int i = 0; i < MESSAGES; i++) {
		size_t got = 0;

		memset(out, i, sizeof out);
		CHECK(write(fd, out, sizeof out) == sizeof out);
		while (got < sizeof in) {
			ssize_t n;

			CHECK(poll(&p, 1, -1) == 1);
			n = recv(fd, in + got, sizeof in - got, MSG_DONTWAIT);
			CHECK(n > 0);
			got += (size_t)n;
		}
		CHECK(memcmp(in, out, sizeof in) == 0);
	}
	close(fd);
	return NULL;
}

static void test_event_loop(void)
{
	pthread_t l[LOOPS], c[CONNS];
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = -1 };
	int stop[2], fds[2];

	loop_ep = epoll_create1(0);
	CHECK(pipe(stop) == 0);
	CHECK(epoll_ctl(loop_ep, EPOLL_CTL_ADD, stop[0], &ev) == 0);
	for (int i = 0; i < LOOPS; i++)
		l[i] = start(event_loop, NULL);
	for (int i = 0; i < CONNS; i++) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
		CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
		ev.events = EPOLLIN | EPOLLONESHOT;
		ev.data.fd = fds[0];
		CHECK(epoll_ctl(loop_ep, EPOLL_CTL_ADD, fds[0], &ev) == 0);
		c[i] = start(conn, (void *)(intptr_t)fds[1]);
	}
	for (int i = 0; i < CONNS; i++)
		join(c[i]);
	CHECK(write(stop[1], "x", 1) == 1);	/* level-triggered: all see it */
	for (int i = 0; i < LOOPS; i++)
		join(l[i]);
	close(loop_ep);
	close(stop[0]);
	close(stop[1]);
}

static void *all(void *arg)
{
	(void)arg;
	test_poll();
	test_select();
	test_epoll();
	return NULL;
}

int main(void)
{
	pthread_t t[10];

	deadline(60);
	all(NULL);
	join(start(all, NULL));
	all(NULL);
	test_event_loop();
	for (size_t i = 0; i < COUNT(t); i++)
		t[i] = start((void *(*)(void *))test_epoll, NULL);
	for (size_t i = 0; i < COUNT(t); i++)
		join(t[i]);
	return 0;
}
