/* SPDX-License-Identifier: MIT
 * echo_client: load for the echo servers, and their judge. Opens CLIENTS connections, sends ROUNDS
 * messages of SIZE bytes on each, one at a time, and compares every byte that comes back. An event
 * loop in one thread, so that it takes as little as possible of the machine from the server.
 *
 *     echo_client PORT [CLIENTS [ROUNDS [SIZE]]]    (100, 100 and 64 unless told)
 *
 * Prints round trips per second and the time of one, median and 99th percentile. Exit status 0 only
 * if every byte was right.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

#include "echo.h"

enum { EVENTS = 256 };

struct client {
	int fd;
	long number, round;
	size_t sent, got;		/* bytes of this round */
	uint64_t started;		/* this round, nanoseconds */
};

static long clients = 100, rounds = 100, size = 64;
static uint64_t *took;			/* of every round trip */
static size_t trips;
static char *in, *out;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The byte at `i` of that message: differs between clients, rounds and places. */
static char pattern(const struct client *c, size_t i)
{
	return (char)((uint64_t)c->number * 31 + (uint64_t)c->round * 7 + i * 13 + (i >> 8));
}

static void wrong(const struct client *c, const char *what)
{
	fprintf(stderr, "echo_client: client %ld, round %ld: %s\n", c->number, c->round, what);
	exit(1);
}

static int send_some(struct client *c)
{
	while (c->sent < (size_t)size) {
		size_t n = (size_t)size - c->sent;

		for (size_t i = 0; i < n; i++)
			out[i] = pattern(c, c->sent + i);
		ssize_t r = send(c->fd, out, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r < 0 && errno == EAGAIN)
			return 0;
		if (r < 0 && errno != EINTR)
			wrong(c, strerror(errno));
		if (r > 0)
			c->sent += (size_t)r;
	}
	return 1;
}

/* 1 when the echo is complete. */
static int recv_some(struct client *c)
{
	for (;;) {
		ssize_t r = recv(c->fd, in, (size_t)size + 1, MSG_DONTWAIT);

		if (r < 0 && errno == EAGAIN)
			return 0;
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			wrong(c, strerror(errno));
		if (r == 0)
			wrong(c, "the server closed the connection");
		if (c->got + (size_t)r > c->sent)
			wrong(c, "more came back than was sent");
		for (ssize_t i = 0; i < r; i++)
			if (in[i] != pattern(c, c->got + (size_t)i))
				wrong(c, "a byte came back changed");
		c->got += (size_t)r;
		if (c->got == (size_t)size)
			return 1;
	}
}

static void watch(int epoll, int op, struct client *c)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };

	if (c->sent < (size_t)size)
		e.events |= EPOLLOUT;
	if (epoll_ctl(epoll, op, c->fd, &e) < 0)
		echo_fail("epoll_ctl");
}

static int connect_to(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		echo_fail("cannot connect");
	echo_nodelay(fd);
	return fd;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* One event of a client. 1 when it has done all its rounds. */
static int step(int epoll, struct client *c)
{
	int waited_to_send = c->sent < (size_t)size;

	send_some(c);
	while (recv_some(c)) {
		took[trips++] = now() - c->started;
		if (++c->round == rounds)
			return 1;
		c->sent = c->got = 0;
		c->started = now();
		send_some(c);
	}
	if (waited_to_send || c->sent < (size_t)size)
		watch(epoll, EPOLL_CTL_MOD, c);
	return 0;
}

int main(int argc, char **argv)
{
	int port = argc > 1 ? atoi(argv[1]) : 0, epoll;
	struct epoll_event event[EVENTS];
	struct client *all;
	long left;
	double t;

	clients = argc > 2 ? atol(argv[2]) : clients;
	rounds = argc > 3 ? atol(argv[3]) : rounds;
	size = argc > 4 ? atol(argv[4]) : size;
	if (argc < 2 || argc > 5 || port < 1 || port > 65535 || clients < 1 || rounds < 1 ||
	    size < 1 || size > 16 << 20 || clients > 1000000 || rounds > 100000000 / clients) {
		fprintf(stderr, "usage: echo_client PORT [CLIENTS [ROUNDS [SIZE]]]\n");
		return 2;
	}
	echo_raise_limit();
	all = calloc((size_t)clients, sizeof(*all));
	took = calloc((size_t)(clients * rounds), sizeof(*took));
	in = malloc((size_t)size + 1);
	out = malloc((size_t)size);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!all || !took || !in || !out || epoll < 0)
		echo_fail("echo_client");
	for (long i = 0; i < clients; i++) {
		all[i].number = i;
		all[i].fd = connect_to(port);
	}

	t = (double)now();
	for (long i = 0; i < clients; i++) {
		all[i].started = now();
		send_some(&all[i]);
		watch(epoll, EPOLL_CTL_ADD, &all[i]);
	}
	for (left = clients; left > 0;) {
		int n = epoll_wait(epoll, event, EVENTS, 30000);

		if (n == 0) {
			fprintf(stderr, "echo_client: nothing came back for 30 s, "
				"%ld clients are not done\n", left);
			return 1;
		}
		for (int i = 0; i < n; i++) {
			struct client *c = event[i].data.ptr;

			if (step(epoll, c)) {
				close(c->fd);
				left--;
			}
		}
	}
	t = ((double)now() - t) / 1e9;
	qsort(took, trips, sizeof(*took), by_value);
	printf("%ld clients, %ld rounds of %ld bytes: %.0f round trips/s, "
	       "median %.0f us, p99 %.0f us, all bytes right\n",
	       clients, rounds, size, (double)trips / t, (double)took[trips / 2] / 1e3,
	       (double)took[trips * 99 / 100] / 1e3);
	free(all);
	free(took);
	free(in);
	free(out);
	return 0;
}
