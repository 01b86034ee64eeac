/* SPDX-License-Identifier: MIT
 * What a runtime may remember of a socket (io_edges.c), and those who ask for it otherwise: poll alone, beside reads and in turn with
 * them, and the program's own epoll.
 */
#include "sock_check.h"

#include <poll.h>
#include <sys/epoll.h>

/* Poll alone, and after reads of every kind: a time limit is kept, and what is there is found, however it came. */
static void poll_limits(bool tcp)
{
	struct timespec none = { 0, 0 };
	struct pollfd p;
	char buf[8];
	int fds[2];
	double begin;

	make_pair(fds, tcp);
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	for (int i = 0; i < 24; i++) {
		struct task t = { .fd = fds[0], .len = 8 };
		pthread_t id;

		FAILS(recv(fds[0], buf, 8, MSG_DONTWAIT), EAGAIN);
		begin = now();
		CHECK(poll(&p, 1, 3) == 0 && now() - begin > 0.0029);
		if (i & 1)
			CHECK(poll(&p, 1, 0) == 0 && ppoll(&p, 1, &none, NULL) == 0);
		CHECK(send(fds[1], "abcd", 4, 0) == 4);
		if (i & 16)
			CHECK(ppoll(&p, 1, &none, NULL) == 1 && p.revents == POLLIN);
		if (i & 2)
			nap(3);
		/* there before the poll began, or not long after it */
		CHECK(poll(&p, 1, i & 4 ? 1000 : 10000) == 1 && p.revents == POLLIN);
		CHECK(poll(&p, 1, -1) == 1 && p.revents == POLLIN);
		CHECK(recv(fds[0], buf, 8, MSG_PEEK | (i & 1 ? MSG_DONTWAIT : 0)) == 4);
		CHECK(poll(&p, 1, 10000) == 1);
		CHECK(recv(fds[0], buf, 2, i & 1 ? MSG_DONTWAIT : 0) == 2);
		CHECK(poll(&p, 1, 10000) == 1);
		CHECK(recv(fds[0], buf, 8, i & 1 ? MSG_DONTWAIT : 0) == 2);
		if (i & 8) {
			id = start(send_soon, &fds[1]);
			CHECK(poll(&p, 1, -1) == 1 && p.revents == POLLIN);
			receiver(&t);
			CHECK(t.result == 1);
			join(id);
		}
	}
	close_pair(fds);
}

static void *poll_it(void *arg)
{
	struct task *t = arg;
	struct pollfd p = { .fd = t->fd, .events = POLLIN };

	t->result = poll(&p, 1, 10000) == 1 ? p.revents : -errno;
	return NULL;
}

/* Closed, or shut down, under a poll that waits; several polls and a read at once. */
static void poll_and_others(bool tcp)
{
	for (int i = 0; i < 12; i++) {
		struct task t[3];
		pthread_t id[3];
		char c;
		int fds[2];

		make_pair(fds, tcp);
		FAILS(recv(fds[0], &c, 1, MSG_DONTWAIT), EAGAIN);
		for (int k = 0; k < 3; k++) {
			t[k] = (struct task){ .fd = fds[0], .len = 1 };
			id[k] = start(k == 1 && i % 3 == 0 ? receiver : poll_it, &t[k]);
		}
		if (i & 1)
			settle();
		if (i % 3 == 2)
			CHECK(shutdown(fds[0], SHUT_RD) == 0);
		else
			CHECK(send(fds[1], "xy", 2, 0) == 2);
		for (int k = 0; k < 3; k++) {
			join(id[k]);
			CHECK(t[k].result == 1 || (t[k].result & POLLIN));
		}
		close_pair(fds);
	}
}

/* The program's own epoll, and poll, on a socket that threads wait for as well. */
static void own_epoll(bool tcp)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };
	struct task t = { .len = 1 };
	int fds[2], ep = epoll_create1(0);
	struct pollfd p;
	pthread_t id;

	make_pair(fds, tcp);
	e.data.fd = t.fd = fds[0];
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &e) == 0);
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	for (int i = 0; i < 30; i++) {
		id = start(receiver, &t);
		if (i & 1)
			settle();
		CHECK(send(fds[1], "xy", 2, 0) == 2);
		join(id);
		CHECK(t.result == 1);
		CHECK(epoll_wait(ep, &e, 1, 10000) == 1 && e.data.fd == fds[0]);
		CHECK(poll(&p, 1, 10000) == 1);		/* one byte is left: level */
		receiver(&t);
		CHECK(t.result == 1);
		CHECK(poll(&p, 1, 0) == 0);
	}
	CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, fds[0], NULL) == 0);
	close_pair(fds);
	close(ep);
}

/* poll and a receive in turn, each waiting for real. */
static void poll_in_turn(bool tcp)
{
	struct task t = { .len = 8 };
	struct pollfd p;
	int fds[2];

	make_pair(fds, tcp);
	t.fd = fds[0];
	for (int i = 0; i < 8; i++) {
		pthread_t id = start(send_soon, &fds[1]);

		p = (struct pollfd){ .fd = fds[0], .events = i & 2 ? POLLIN : POLLIN | POLLPRI };
		if (i & 1)
			CHECK(poll(&p, 1, 10000) == 1 && p.revents == POLLIN);
		receiver(&t);
		CHECK(t.result == 1);
		join(id);
	}
	close_pair(fds);
}

static void *all(void *arg)
{
	(void)arg;
	for (int tcp = 0; tcp < 2; tcp++) {
		own_epoll(tcp);
		poll_in_turn(tcp);
		poll_limits(tcp);
		poll_and_others(tcp);
	}
	return NULL;
}

int main(void)
{
	in_main_and_a_thread(all);
	return 0;
}
