/* SPDX-License-Identifier: MIT
 * echo_epoll: an echo server as an event loop: one thread, non-blocking sockets, a state per
 * client. It does what echo_threads.c does; what a thread keeps on its stack and in its program
 * counter is struct client and the branches of step() here.
 *
 *     echo_epoll CLIENTS [PORT]                     serves that many clients, then ends
 *
 * Exit status 0 when every client was served without an error.
 */
#include <errno.h>
#include <sys/epoll.h>

#include "echo.h"

enum { EVENTS = 256 };

struct client {
	int fd;
	size_t from, to;		/* bytes of the buffer that wait to be sent */
	char buffer[ECHO_BUFFER];
};

enum outcome { WANTS_INPUT, WANTS_OUTPUT, GONE, FAILED };

static unsigned long long total;

/* Send and receive until one of the two would block. */
static enum outcome step(struct client *c)
{
	for (;;) {
		while (c->from < c->to) {
			ssize_t n = send(c->fd, c->buffer + c->from, c->to - c->from, MSG_NOSIGNAL);

			if (n >= 0)
				c->from += (size_t)n;
			else if (errno == EAGAIN)
				return WANTS_OUTPUT;
			else if (errno != EINTR)
				return FAILED;
		}
		ssize_t got = recv(c->fd, c->buffer, sizeof(c->buffer), 0);
		if (got == 0)
			return GONE;
		if (got < 0) {
			if (errno == EAGAIN)
				return WANTS_INPUT;
			if (errno != EINTR)
				return FAILED;
			continue;
		}
		total += (unsigned long long)got;
		c->from = 0;
		c->to = (size_t)got;
	}
}

static void add_client(int epoll, int listener)
{
	struct epoll_event e = { .events = EPOLLIN };
	struct client *c;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		echo_fail("accept");
	c = malloc(sizeof(*c));
	if (!c)
		echo_fail("malloc");
	c->fd = fd;
	c->from = c->to = 0;
	echo_nodelay(fd);
	e.data.ptr = c;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		echo_fail("epoll_ctl");
}

int main(int argc, char **argv)
{
	struct echo_args args = echo_parse("echo_epoll", argc, argv);
	struct epoll_event event[EVENTS], e = { .events = EPOLLIN };
	long accepted = 0, done = 0, errors = 0;
	int epoll, listener;

	echo_raise_limit();
	listener = echo_listen(args.port);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	/* the listener is the one without a client: data.ptr is NULL */
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) < 0)
		echo_fail("epoll");

	while (done < args.clients) {
		int n = epoll_wait(epoll, event, EVENTS, -1);

		if (n < 0 && errno != EINTR)
			echo_fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct client *c = event[i].data.ptr;

			if (!c) {
				add_client(epoll, listener);
				if (++accepted == args.clients)
					close(listener);	/* leaves the epoll, too */
				continue;
			}
			enum outcome o = step(c);
			if (o == GONE || o == FAILED) {
				errors += o == FAILED;
				done++;
				close(c->fd);
				free(c);
				continue;
			}
			e.events = o == WANTS_OUTPUT ? EPOLLOUT : EPOLLIN;
			e.data.ptr = c;
			if (e.events != (event[i].events & (EPOLLIN | EPOLLOUT)) &&
			    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e) < 0)
				echo_fail("epoll_ctl");
		}
	}
	close(epoll);
	printf("served %ld clients, %llu bytes, %ld errors\n", args.clients, total, errors);
	return errors != 0;
}
