/* SPDX-License-Identifier: MIT
 * Streams between threads: nothing is lost, nothing comes twice, blocking writes write everything.
 */
#include "io_check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* --- echo --- */

enum { PAIRS = 24, ROUNDS = 200 };

static void *echo(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char buf[300];
	ssize_t n;

	while ((n = read(fd, buf, sizeof buf)) > 0)
		CHECK(write(fd, buf, (size_t)n) == n);
	CHECK(n == 0);
	close(fd);
	return NULL;
}

static void *client(void *arg)
{
	int fd = (int)(intptr_t)arg;
	unsigned seed = (unsigned)fd;
	char out[200], in[200];

	for (int i = 0; i < ROUNDS; i++) {
		size_t n = 1 + (size_t)rand_r(&seed) % sizeof out;

		memset(out, i, n);
		CHECK(send(fd, out, n, 0) == (ssize_t)n);
		CHECK(recv(fd, in, n, MSG_WAITALL) == (ssize_t)n);
		CHECK(memcmp(in, out, n) == 0);
	}
	shutdown(fd, SHUT_WR);
	CHECK(read(fd, in, 1) == 0);
	close(fd);
	return NULL;
}

static void echo_socketpairs(void)
{
	pthread_t t[2 * PAIRS];
	int fds[2];

	for (int i = 0; i < PAIRS; i++) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
		t[2 * i] = start(echo, (void *)(intptr_t)fds[0]);
		t[2 * i + 1] = start(client, (void *)(intptr_t)fds[1]);
	}
	for (int i = 0; i < 2 * PAIRS; i++)
		join(t[i]);
}

static struct sockaddr_in server;

static void *tcp_client(void *arg)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)arg;
	CHECK(fd >= 0);
	CHECK(connect(fd, (struct sockaddr *)&server, sizeof server) == 0);
	return client((void *)(intptr_t)fd);
}

/* Several threads accept on one socket. */
static int listener;

static void *acceptor(void *arg)
{
	int n = (int)(intptr_t)arg;
	pthread_t t[PAIRS];

	for (int i = 0; i < n; i++) {
		int fd = i & 1 ? accept(listener, NULL, NULL) :
				 accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		CHECK(fd >= 0);
		t[i] = start(echo, (void *)(intptr_t)fd);
	}
	for (int i = 0; i < n; i++)
		join(t[i]);
	return NULL;
}

static void echo_tcp(void)
{
	pthread_t c[PAIRS], a[4];
	socklen_t len = sizeof server;

	listener = socket(AF_INET, SOCK_STREAM, 0);
	server = (struct sockaddr_in){ .sin_family = AF_INET };
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(listener, (struct sockaddr *)&server, sizeof server) == 0);
	CHECK(listen(listener, 64) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&server, &len) == 0);
	for (int i = 0; i < 4; i++)
		a[i] = start(acceptor, (void *)(intptr_t)(PAIRS / 4));
	nap(10);
	for (int i = 0; i < PAIRS; i++)
		c[i] = start(tcp_client, NULL);
	for (int i = 0; i < PAIRS; i++)
		join(c[i]);
	for (int i = 0; i < 4; i++)
		join(a[i]);
	close(listener);
}

/* --- one blocking call writes 10 MB; the reader takes odd pieces --- */

enum { BIG = 10 << 20 };
static unsigned char *big;

static void *drain(void *arg)
{
	int fd = (int)(intptr_t)arg;
	unsigned char *in = malloc(100003);
	size_t at = 0, want = 1;
	ssize_t n;

	while ((n = read(fd, in, want)) > 0) {
		CHECK(memcmp(in, big + at, (size_t)n) == 0);
		at += (size_t)n;
		want = (want * 7 + 13) % 100003 + 1;
	}
	CHECK(n == 0);
	free(in);
	close(fd);
	return (void *)at;
}

static void one_big_write(int r, int w, int how)
{
	pthread_t t = start(drain, (void *)(intptr_t)r);
	struct iovec iov[40];
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = COUNT(iov) };
	size_t at = 0;

	for (size_t i = 0; i < COUNT(iov); i++) {
		size_t n = i + 1 < COUNT(iov) ? BIG / COUNT(iov) - i * 1001 % 5000 : BIG - at;

		iov[i] = (struct iovec){ big + at, n };
		at += n;
	}
	switch (how) {
	case 0:
		CHECK(write(w, big, BIG) == BIG);
		break;
	case 1:
		CHECK(writev(w, iov, COUNT(iov)) == BIG);
		break;
	case 2:
		CHECK(send(w, big, BIG, 0) == BIG);
		break;
	case 3:
		CHECK(sendmsg(w, &m, 0) == BIG);
		break;
	}
	close(w);
	CHECK((size_t)join(t) == BIG);
}

static void big_writes(void)
{
	int fds[2];

	big = malloc(BIG);
	for (size_t i = 0; i < BIG; i++)
		big[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
	for (int how = 0; how < 2; how++) {
		CHECK(pipe(fds) == 0);
		one_big_write(fds[0], fds[1], how);
	}
	for (int how = 0; how < 4; how++) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
		one_big_write(fds[0], fds[1], how);
	}
	free(big);
}

/* --- many threads write small records to one pipe, many read them: no record is torn (PIPE_BUF)
 * --- */

enum { WRITERS = 8, READERS = 8, RECORDS = 1500 };

struct record {
	uint32_t who, seq;
	uint32_t body[14];
};

static int shared[2];

static void *record_writer(void *arg)
{
	struct record r = { .who = (uint32_t)(intptr_t)arg };

	for (r.seq = 0; r.seq < RECORDS; r.seq++) {
		for (int i = 0; i < 14; i++)
			r.body[i] = r.who * 100000 + r.seq;
		CHECK(write(shared[1], &r, sizeof r) == (ssize_t)sizeof r);
	}
	return NULL;
}

static void *record_reader(void *arg)
{
	struct record r;
	intptr_t n = 0;
	ssize_t got;

	(void)arg;
	while ((got = read(shared[0], &r, sizeof r)) > 0) {
		CHECK(got == (ssize_t)sizeof r);
		for (int i = 0; i < 14; i++)
			CHECK(r.body[i] == r.who * 100000 + r.seq);
		n++;
	}
	CHECK(got == 0);
	return (void *)n;
}

static void one_pipe_many_threads(void)
{
	pthread_t w[WRITERS], r[READERS];
	intptr_t n = 0;

	CHECK(pipe(shared) == 0);
	for (intptr_t i = 0; i < READERS; i++)
		r[i] = start(record_reader, NULL);
	for (intptr_t i = 0; i < WRITERS; i++)
		w[i] = start(record_writer, (void *)i);
	for (int i = 0; i < WRITERS; i++)
		join(w[i]);
	close(shared[1]);
	for (int i = 0; i < READERS; i++)
		n += (intptr_t)join(r[i]);
	CHECK(n == WRITERS * RECORDS);
	close(shared[0]);
}

int main(void)
{
	deadline(120);
	echo_socketpairs();
	echo_tcp();
	big_writes();
	one_pipe_many_threads();
	return 0;
}
