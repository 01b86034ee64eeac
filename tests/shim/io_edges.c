/* SPDX-License-Identifier: MIT
 * What a runtime may remember of a socket between two calls, and what may change it: partial reads, several waiters, both
 * directions, numbers that are used again, duplicates, O_NONBLOCK and time limits set later, urgent data. Polls are in
 * io_edges_poll.c, other processes in io_edges_process.c.
 */
#include "sock_check.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

static void *echo(void *arg)
{
	struct task *t = arg;
	char buf[64];
	ssize_t n;

	while ((n = recv(t->fd, buf, t->len, 0)) > 0)
		CHECK(send(t->fd, buf, (size_t)n, 0) == n);
	CHECK(n == 0);
	return NULL;
}

/* Request and answer, messages read whole, in parts and in pairs: after a read that left something behind there is no new event. */
static void parts(bool tcp)
{
	for (size_t len = 1; len <= 8; len += len == 4 ? 4 : 1) {
		struct task t = { .len = len };
		int fds[2];
		char buf[8];
		pthread_t id;

		make_pair(fds, tcp);
		t.fd = fds[0];
		id = start(echo, &t);
		for (int i = 0; i < 60; i++) {
			size_t send_len = 1 + (size_t)i % 8, got = 0;

			memset(buf, 'a' + i % 26, sizeof buf);
			CHECK(send(fds[1], buf, send_len, 0) == (ssize_t)send_len);
			while (got < send_len) {
				ssize_t n = recv(fds[1], buf, sizeof buf, 0);

				CHECK(n > 0);
				for (ssize_t k = 0; k < n; k++)
					CHECK(buf[k] == 'a' + i % 26);
				got += (size_t)n;
			}
		}
		shutdown(fds[1], SHUT_WR);
		join(id);
		close_pair(fds);
	}
}

static int taken;

static void *taker(void *arg)
{
	struct task *t = arg;
	char c;

	while (recv(t->fd, &c, 1, 0) == 1)
		__atomic_add_fetch(&taken, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Eight wait for one socket; each byte is for one of them, and the end for all. */
static void several_waiters(bool tcp)
{
	struct task t = { 0 };
	pthread_t id[8];
	int fds[2];

	make_pair(fds, tcp);
	t.fd = fds[0];
	taken = 0;
	for (int i = 0; i < 8; i++)
		id[i] = start(taker, &t);
	for (int i = 0; i < 200; i++) {
		CHECK(send(fds[1], "abcdefgh", 1 + (size_t)i % 8, 0) == 1 + i % 8);
		if (i % 10 == 0)
			nap(1);
	}
	for (int i = 0; __atomic_load_n(&taken, __ATOMIC_RELAXED) < 25 * 36; i++) {
		CHECK(i < 10000);
		nap(1);
	}
	shutdown(fds[1], SHUT_WR);
	for (int i = 0; i < 8; i++)
		join(id[i]);
	CHECK(taken == 25 * 36);
	close_pair(fds);
}

static char much[300000];

static void *writer(void *arg)
{
	struct task *t = arg;

	for (int i = 0; i < t->rounds; i++)
		CHECK(send(t->fd, much, sizeof much, 0) == sizeof much);
	return NULL;
}

static void *reader(void *arg)
{
	struct task *t = arg;
	size_t left = (size_t)t->rounds * sizeof much;
	char buf[20000];

	while (left) {
		ssize_t n = read(t->fd, buf, sizeof buf);

		CHECK(n > 0);
		left -= (size_t)n;
	}
	return NULL;
}

/* Both ends write more than fits, and read, at the same time. */
static void both_directions(bool tcp)
{
	struct task t[2] = { { .rounds = 5 }, { .rounds = 5 } };
	pthread_t id[4];
	int fds[2];

	make_pair(fds, tcp);
	for (int i = 0; i < 2; i++) {
		t[i].fd = fds[i];
		id[2 * i] = start(writer, &t[i]);
		id[2 * i + 1] = start(reader, &t[i]);
	}
	for (int i = 0; i < 4; i++)
		join(id[i]);
	close_pair(fds);
}

/* A number that is a socket again at once, by all ways in which it may become one. */
static void numbers(bool tcp)
{
	int fds[2], number = -1;

	for (int i = 0; i < 24; i++) {
		struct task t = { .len = 8 };
		int keep = -1, other[2];
		pthread_t id;

		make_pair(fds, tcp);
		if (number >= 0 && fds[0] != number && fds[1] != number) {
			CHECK(dup2(fds[0], number) == number);
			close(fds[0]);
			fds[0] = number;
		}
		number = fds[0];
		t.fd = fds[0];
		id = start(receiver, &t);
		if (i & 1)
			settle();
		CHECK(send(fds[1], "x", 1, 0) == 1);
		join(id);
		CHECK(t.result == 1);
		switch (i % 6) {
		case 0:			/* its file lives on */
			keep = dup(fds[0]);
			close(fds[0]);
			break;
		case 1:
			close(fds[0]);
			break;
		case 2:			/* another file in its place */
			make_pair(other, !tcp);
			CHECK(dup2(other[0], fds[0]) == fds[0]);
			close(other[0]);
			id = start(receiver, &t);
			settle();
			CHECK(send(fds[1], "yy", 2, MSG_NOSIGNAL) == 2 || errno == EPIPE || errno == ECONNRESET);
			CHECK(send(other[1], "z", 1, 0) == 1);
			join(id);
			CHECK(t.result == 1 && t.got[0] == 'z');
			close(other[1]);
			close(fds[0]);
			break;
		case 3:			/* unseen */
			FAILS(syscall(SYS_close, -1), EBADF);
			CHECK(syscall(SYS_close, fds[0]) == 0);
			break;
		case 4: {
			FILE *f = fdopen(fds[0], "r+");

			CHECK(f && fclose(f) == 0);
			break;
		}
		default:
			CHECK(close_range((unsigned)fds[0], (unsigned)fds[0], 0) == 0);
		}
		if (keep >= 0) {	/* it does not disturb the number's next owner */
			CHECK(send(fds[1], "abc", 3, 0) == 3);
			CHECK(recv(keep, t.got, 8, 0) == 3);
			close(keep);
		}
		close(fds[1]);
	}
}

/* A duplicate: one description, two numbers to read it by and to set its flags by. */
static void duplicates(bool tcp)
{
	struct task t = { .len = 8 };
	int fds[2], two, flags;
	pthread_t id;

	make_pair(fds, tcp);
	t.fd = fds[0];
	id = start(receiver, &t);
	settle();
	two = dup(fds[0]);
	CHECK(send(fds[1], "x", 1, 0) == 1);
	join(id);
	CHECK(t.result == 1);
	flags = fcntl(two, F_GETFL);
	CHECK(fcntl(two, F_SETFL, flags | O_NONBLOCK) == 0);
	receiver(&t);
	CHECK(t.result == -EAGAIN);
	CHECK(fcntl(two, F_SETFL, flags) == 0);
	close(fds[0]);
	t.fd = two;
	id = start(receiver, &t);
	settle();
	CHECK(send(fds[1], "yy", 2, 0) == 2);
	join(id);
	CHECK(t.result == 2);
	close(two);
	close(fds[1]);
}

static void *close_it(void *arg)
{
	settle();
	close(*(int *)arg);
	return NULL;
}

/* As tests/shim/io_nonblock does with a pipe. */
static void close_while_waiting(bool tcp)
{
	struct task t = { .len = 8 };
	int fds[2], next[2];
	pthread_t id, closer;

	make_pair(fds, tcp);
	t.fd = fds[0];
	id = start(receiver, &t);
	closer = start(close_it, &fds[0]);
	join(closer);
	make_pair(next, tcp);
	CHECK(send(next[1], "n", 1, 0) == 1);
	nap(3);
	close(fds[1]);
	join(id);
	CHECK(t.result == 0 || t.result == -EBADF || t.result == -ECONNRESET);
	CHECK(recv(next[0], t.got, 8, 0) == 1);
	close_pair(next);
}

/* O_NONBLOCK by every way to set it, and blocking again. */
static void flags(bool tcp)
{
	struct task t = { .len = 8 };
	int fds[2], on = 1, off = 0, old;
	pthread_t id;

	make_pair(fds, tcp);
	t.fd = fds[0];
	for (int i = 0; i < 6; i++) {
		id = start(receiver, &t);	/* so that it is known to block */
		settle();
		CHECK(send(fds[1], "x", 1, 0) == 1);
		join(id);
		CHECK(t.result == 1);
		old = fcntl(fds[0], F_GETFL);
		CHECK(!(old & O_NONBLOCK));
		if (i % 3 == 0)
			CHECK(fcntl(fds[0], F_SETFL, old | O_NONBLOCK) == 0);
		else if (i % 3 == 1)
			CHECK(ioctl(fds[0], FIONBIO, &on) == 0);
		else
			CHECK(syscall(SYS_fcntl, fds[0], F_SETFL, old | O_NONBLOCK) == 0);
		receiver(&t);
		CHECK(t.result == -EAGAIN);
		CHECK(send(fds[1], "x", 1, 0) == 1);
		for (int k = 0; k < 1000; k++) {
			receiver(&t);
			if (t.result != -EAGAIN)
				break;
			nap(1);
		}
		CHECK(t.result == 1);
		if (i % 3 == 0)
			CHECK(fcntl(fds[0], F_SETFL, old) == 0);
		else if (i % 3 == 1)
			CHECK(ioctl(fds[0], FIONBIO, &off) == 0);
		else
			CHECK(syscall(SYS_ioctl, fds[0], FIONBIO, &off) == 0);
	}
	close_pair(fds);
}

/* Time limits that come and go after waits without; they are a listener's heirs', too. */
static void limits(bool tcp)
{
	struct task t = { .len = 8 };
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t size = sizeof at;
	int fds[2], l, c;
	pthread_t id;

	make_pair(fds, tcp);
	t.fd = fds[0];
	for (int i = 0; i < 2; i++) {
		id = start(receiver, &t);
		settle();
		CHECK(send(fds[1], "x", 1, 0) == 1);
		join(id);
		CHECK(t.result == 1);
		set_limit(fds[0], SO_RCVTIMEO, 40);
		receiver(&t);
		CHECK(t.result == -EAGAIN && t.took >= 0.038);
		set_limit(fds[0], SO_RCVTIMEO, 20);
		receiver(&t);
		CHECK(t.result == -EAGAIN && t.took >= 0.018);
		CHECK(send(fds[1], "xy", 2, 0) == 2);
		receiver(&t);
		CHECK(t.result == 2);
		set_limit(fds[0], SO_RCVTIMEO, 0);
	}
	close_pair(fds);
	if (!tcp)
		return;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(l, (struct sockaddr *)&at, sizeof at) == 0 && listen(l, 5) == 0);
	set_limit(l, SO_RCVTIMEO, 30);
	FAILS(accept(l, NULL, NULL), EAGAIN);
	CHECK(getsockname(l, (struct sockaddr *)&at, &size) == 0);
	c = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(c, (struct sockaddr *)&at, sizeof at) == 0);
	set_limit(l, SO_RCVTIMEO, 0);
	t.fd = accept(l, NULL, NULL);
	CHECK(t.fd >= 0);
	receiver(&t);
	CHECK(t.result == -EAGAIN && t.took >= 0.028);
	close(t.fd);
	close(c);
	close(l);
}

/* Reads stop where urgent data are, although more has come. */
static void urgent(void)
{
	for (int i = 0; i < 10; i++) {
		struct task t = { .len = 32 };
		int fds[2];
		size_t got = 0;
		pthread_t id;

		make_pair(fds, true);
		t.fd = fds[0];
		id = start(receiver, &t);
		settle();
		CHECK(send(fds[1], "x", 1, 0) == 1);
		join(id);
		CHECK(send(fds[1], "abc", 3, 0) == 3);
		CHECK(send(fds[1], "d", 1, MSG_OOB) == 1);
		CHECK(send(fds[1], "efg", 3, 0) == 3);
		if (i & 1)
			nap(3);
		if (i & 2) {
			char c;

			while (recv(fds[0], &c, 1, MSG_OOB) != 1)
				nap(1);
			CHECK(c == 'd');
		}
		while (got < 6) {
			receiver(&t);
			CHECK(t.result > 0);
			got += (size_t)t.result;
		}
		CHECK(got == 6);
		close_pair(fds);
	}
}

/* The end, or an error, is there already when what came before it is read: nothing more is going to be reported. */
static void end_behind_data(bool tcp)
{
	for (int i = 0; i < 16; i++) {
		struct task t = { .len = 32 };
		bool reset = tcp && i & 1, polls = i & 4;
		struct linger linger = { .l_onoff = 1 };
		struct pollfd p;
		int fds[2];
		pthread_t id;

		make_pair(fds, tcp);
		t.fd = fds[0];
		p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
		id = start(receiver, &t);
		settle();
		CHECK(send(fds[1], "x", 1, 0) == 1);
		join(id);
		CHECK(send(fds[1], "abc", 3, 0) == 3);
		if (!reset)
			CHECK(shutdown(fds[1], SHUT_WR) == 0);
		if (i & 2)
			nap(5);
		receiver(&t);
		CHECK(t.result == 3);
		if (reset) {
			CHECK(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
			close(fds[1]);
			fds[1] = -1;
		}
		if (i & 8)
			nap(5);
		if (polls)
			CHECK(poll(&p, 1, 10000) == 1 && p.revents & POLLIN);
		receiver(&t);
		CHECK(t.result == (reset ? -ECONNRESET : 0));
		if (polls)
			CHECK(poll(&p, 1, 10000) == 1);
		close(fds[0]);
		if (!reset)
			close(fds[1]);
	}
}

static void *all(void *arg)
{
	(void)arg;
	for (int tcp = 0; tcp < 2; tcp++) {
		parts(tcp);
		several_waiters(tcp);
		both_directions(tcp);
		numbers(tcp);
		duplicates(tcp);
		close_while_waiting(tcp);
		flags(tcp);
		limits(tcp);
		end_behind_data(tcp);
		/* and once more with what is remembered of a time before */
		flags(tcp);
		parts(tcp);
	}
	urgent();
	return NULL;
}

int main(void)
{
	in_main_and_a_thread(all);
	return 0;
}
