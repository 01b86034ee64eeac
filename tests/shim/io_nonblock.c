/* SPDX-License-Identifier: MIT
 * O_NONBLOCK, time limits of sockets, ends of streams, closing under a waiter, numbers that are
 * used again.
 */
#include "io_check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

static char buf[1 << 20];

static void nonblocking(void)
{
	int fds[2], l;
	ssize_t n, total = 0;

	CHECK(pipe2(fds, O_NONBLOCK) == 0);
	FAILS(read(fds[0], buf, 1), EAGAIN);
	while ((n = write(fds[1], buf, sizeof buf)) > 0)
		total += n;		/* parts are what is asked for here */
	CHECK(errno == EAGAIN && total >= 4096 && total < (ssize_t)sizeof buf);
	CHECK(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	close(fds[0]);
	close(fds[1]);

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	FAILS(recv(fds[0], buf, 1, 0), EAGAIN);
	FAILS(recv(fds[0], buf, 1, MSG_WAITALL), EAGAIN);
	FAILS(read(fds[0], buf, 1), EAGAIN);
	n = send(fds[1], buf, sizeof buf, 0);
	CHECK(n > 0 && n < (ssize_t)sizeof buf);
	while (send(fds[1], buf, 4096, 0) > 0)
		;
	FAILS(send(fds[1], buf, sizeof buf, 0), EAGAIN);
	close(fds[0]);
	close(fds[1]);

	/* the call's own flag on a blocking socket */
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	FAILS(recv(fds[0], buf, 1, MSG_DONTWAIT), EAGAIN);
	n = send(fds[1], buf, sizeof buf, MSG_DONTWAIT);
	CHECK(n > 0 && n < (ssize_t)sizeof buf);
	CHECK(!(fcntl(fds[0], F_GETFL) & O_NONBLOCK));
	close(fds[0]);
	close(fds[1]);

	l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(listen(l, 5) == 0);
	FAILS(accept(l, NULL, NULL), EAGAIN);
	close(l);
}

static void errors(void)
{
	int fds[2], s;

	FAILS(read(-1, buf, 1), EBADF);
	FAILS(write(9999, buf, 1), EBADF);
	FAILS(recv(9999, buf, 1, 0), EBADF);
	FAILS(close(9999), EBADF);
	CHECK(pipe(fds) == 0);
	FAILS(recv(fds[0], buf, 1, 0), ENOTSOCK);
	FAILS(accept(fds[0], NULL, NULL), ENOTSOCK);
	FAILS(read(fds[1], buf, 1), EBADF);
	FAILS(write(fds[0], buf, 1), EBADF);
	FAILS(pread(fds[0], buf, 1, 0), ESPIPE);
	CHECK(read(fds[0], buf, 0) == 0);
	close(fds[0]);
	signal(SIGPIPE, SIG_IGN);
	FAILS(write(fds[1], buf, 1), EPIPE);
	close(fds[1]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	FAILS(accept(fds[0], NULL, NULL), EINVAL);
	close(fds[0]);
	FAILS(write(fds[1], buf, 1), EPIPE);
	FAILS(send(fds[1], buf, 1, 0), EPIPE);
	CHECK(read(fds[1], buf, 1) == 0);
	close(fds[1]);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	FAILS(accept(s, NULL, NULL), EOPNOTSUPP);
	close(s);
}

static void time_limits(void)
{
	struct timeval tv = { 0, 60000 };
	int fds[2], l;
	double t;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0);
	t = now();
	FAILS(recv(fds[0], buf, 1, 0), EAGAIN);
	CHECK(now() - t >= 0.058 && now() - t < 5);
	t = now();
	FAILS(read(fds[0], buf, 1), EAGAIN);
	CHECK(now() - t >= 0.058);
	t = now();
	CHECK(send(fds[1], "abc", 3, 0) == 3);
	CHECK(recv(fds[0], buf, 10, MSG_WAITALL) == 3);
	CHECK(now() - t >= 0.058);
	t = now();
	CHECK(send(fds[0], buf, sizeof buf, 0) < (ssize_t)sizeof buf);
	CHECK(now() - t >= 0.058);
	FAILS(send(fds[0], buf, sizeof buf, 0), EAGAIN);
	close(fds[0]);
	close(fds[1]);
	l = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(listen(l, 5) == 0);
	CHECK(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	t = now();
	FAILS(accept(l, NULL, NULL), EAGAIN);
	CHECK(now() - t >= 0.058);
	close(l);
}

static void *timed_reader(void *arg)
{
	ssize_t n = recv((int)(intptr_t)arg, buf, 1, 0);

	return (void *)(intptr_t)(n < 0 ? -errno : n);
}

/* A signal that is ignored does not end a call, not even one with a time limit. */
static void ignored_signals(void)
{
	static const int sigs[] = { SIGCHLD, SIGURG, SIGWINCH, SIGCONT };
	struct timeval tv = { 20, 0 };

	for (size_t i = 0; i < 2 * COUNT(sigs); i++) {
		int fds[2], sig = sigs[i / 2];
		pthread_t t;

		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
		CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
		t = start(timed_reader, (void *)(intptr_t)fds[0]);
		nap(10);
		CHECK((i & 1 ? kill(getpid(), sig) : pthread_kill(t, sig)) == 0);
		nap(10);
		CHECK(send(fds[1], "x", 1, 0) == 1);
		CHECK(join(t) == (void *)1);
		close(fds[0]);
		close(fds[1]);
	}
}

static int reads_now, interrupted;

static void on_usr1(int sig)
{
	(void)sig;
}

static void *read_again(void *arg)
{
	char c;

	for (;;) {
		ssize_t n;

		__atomic_store_n(&reads_now, 1, __ATOMIC_SEQ_CST);
		n = read((int)(intptr_t)arg, &c, 1);
		__atomic_store_n(&reads_now, 0, __ATOMIC_SEQ_CST);
		if (n == 0)
			return NULL;
		CHECK(n == 1 || errno == EINTR);
		if (n < 0)
			__atomic_add_fetch(&interrupted, 1, __ATOMIC_SEQ_CST);
	}
}

/* A handler without SA_RESTART ends the call, although at the same moment something comes that another thread takes away. */
static void interrupted_in_passing(void)
{
	struct sigaction sa = { .sa_handler = on_usr1 };
	int fds[2], late = 0;
	pthread_t t;
	char c;

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	t = start(read_again, (void *)(intptr_t)fds[0]);
	for (int i = 0; i < 100; i++) {
		int before;

		while (!__atomic_load_n(&reads_now, __ATOMIC_SEQ_CST))
			nap(1);
		nap(3);			/* by now it waits */
		before = __atomic_load_n(&interrupted, __ATOMIC_SEQ_CST);
		CHECK(send(fds[1], "x", 1, 0) == 1);
		if (recv(fds[0], &c, 1, MSG_DONTWAIT) != 1)
			continue;	/* it was faster */
		CHECK(pthread_kill(t, SIGUSR1) == 0);
		for (int ms = 0; __atomic_load_n(&interrupted, __ATOMIC_SEQ_CST) == before; ms++) {
			if (ms == 500) {	/* it did not wait yet, on a busy machine */
				late++;
				CHECK(pthread_kill(t, SIGUSR1) == 0);
			}
			nap(1);
		}
	}
	CHECK(late < 5);
	close(fds[1]);
	join(t);
	close(fds[0]);
}

static volatile sig_atomic_t sigpipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

static void *close_later(void *arg)
{
	nap(30);
	close((int)(intptr_t)arg);
	return NULL;
}

/* The other end goes away under a blocking write. */
static void broken_pipe(void)
{
	int fds[2];
	pthread_t t;
	ssize_t n;

	signal(SIGPIPE, on_sigpipe);
	CHECK(pipe(fds) == 0);
	t = start(close_later, (void *)(intptr_t)fds[0]);
	n = write(fds[1], buf, sizeof buf);
	CHECK(n > 0 && n < (ssize_t)sizeof buf);
	join(t);
	sigpipes = 0;
	FAILS(write(fds[1], buf, 1), EPIPE);
	CHECK(sigpipes == 1);
	close(fds[1]);

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	t = start(close_later, (void *)(intptr_t)fds[0]);
	n = write(fds[1], buf, sizeof buf);
	CHECK(n > 0 && n < (ssize_t)sizeof buf);
	join(t);
	CHECK(sigpipes == 1);
	FAILS(write(fds[1], buf, 1), EPIPE);
	CHECK(sigpipes == 2);
	FAILS(send(fds[1], buf, 1, MSG_NOSIGNAL), EPIPE);
	CHECK(sigpipes == 2);
	close(fds[1]);
	signal(SIGPIPE, SIG_IGN);
}

static int reading;

static void *reader(void *arg)
{
	char c;
	ssize_t n;

	__atomic_store_n(&reading, 1, __ATOMIC_SEQ_CST);
	n = read((int)(intptr_t)arg, &c, 1);

	return (void *)(intptr_t)(n < 0 ? -errno : n);
}

/* A waiter's descriptor is closed: Linux lets it wait for the old file, others tell it EBADF. It
 * ends either way when the other side goes, and never takes anything from the number's next
 * owner. */
static void close_under_waiter(void)
{
	for (int round = 0; round < 8; round++) {
		int fds[2], next[2];
		pthread_t t;
		intptr_t r;

		CHECK(pipe(fds) == 0);
		__atomic_store_n(&reading, 0, __ATOMIC_SEQ_CST);
		t = start(reader, (void *)(intptr_t)fds[0]);
		while (!__atomic_load_n(&reading, __ATOMIC_SEQ_CST))
			nap(1);
		nap(40);		/* by now it waits, even on a busy machine */
		if (round & 1) {
			close(fds[0]);
			CHECK(pipe(next) == 0);
		} else {
			CHECK(pipe(next) == 0);
			CHECK(dup2(next[0], fds[0]) == fds[0]);
		}
		CHECK(write(next[1], "x", 1) == 1);
		nap(5);
		close(fds[1]);
		r = (intptr_t)join(t);
		CHECK(r == 0 || r == -EBADF);
		CHECK(read(next[0], buf, 1) == 1);
		close(next[0]);
		close(next[1]);
		if (!(round & 1))
			close(fds[0]);
	}
}

static void *close_now(void *arg)
{
	close((int)(intptr_t)arg);
	return NULL;
}

/* A close that lingers has given the number away at its beginning; the next owner is not to notice. */
static void close_that_lingers(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger linger = { 1, 2 };
	struct timeval tv = { 0, 60000 };
	socklen_t size = sizeof at;
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), peer, next[64], i = 0;
	pthread_t t;
	double begin;
	char byte;

	CHECK(bind(l, (struct sockaddr *)&at, size) == 0 && listen(l, 5) == 0);
	CHECK(getsockname(l, (struct sockaddr *)&at, &size) == 0);
	CHECK(connect(c, (struct sockaddr *)&at, size) == 0);
	peer = accept(l, NULL, NULL);
	while (send(c, buf, sizeof buf, MSG_DONTWAIT) > 0)
		;
	CHECK(setsockopt(c, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
	t = start(close_now, (void *)(intptr_t)c);
	while (fcntl(c, F_GETFD) >= 0)
		nap(1);
	do
		CHECK((next[i] = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
	while (next[i++] != c && i < 64);
	CHECK(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
	begin = now();
	FAILS(recv(c, &byte, 1, 0), EAGAIN);
	CHECK(now() - begin >= 0.058 && now() - begin < 1.5);
	close(peer);			/* with unread data: resets, and the close ends */
	join(t);
	close(l);
	while (i)
		close(next[--i]);
}

/* What does not replace the descriptor does not disturb who waits for it. */
static void failed_dup2(void)
{
	int fds[2];
	pthread_t t;

	CHECK(pipe(fds) == 0);
	t = start(reader, (void *)(intptr_t)fds[0]);
	nap(20);
	FAILS(dup2(9999, fds[0]), EBADF);
	FAILS(dup2(-1, fds[0]), EBADF);
	FAILS(dup3(fds[1], fds[0], O_APPEND), EINVAL);
	CHECK(dup2(fds[0], fds[0]) == fds[0]);
	nap(5);
	CHECK(write(fds[1], "x", 1) == 1);
	CHECK(join(t) == (void *)1);
	close(fds[0]);
	close(fds[1]);
}

/* shutdown is the portable way to get a waiter out. */
static void shutdown_under_waiter(void)
{
	int fds[2];
	pthread_t t;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	t = start(reader, (void *)(intptr_t)fds[0]);
	nap(10);
	shutdown(fds[0], SHUT_RDWR);
	CHECK(join(t) == (void *)0);
	close(fds[0]);
	close(fds[1]);
}

/* A number that was a pipe becomes a file, by way of stdio, and a pipe again. */
static void numbers_again(void)
{
	char name[] = "/tmp/io_nonblock_XXXXXX";
	int file = mkstemp(name);

	CHECK(file >= 0);
	unlink(name);
	CHECK(write(file, buf, 100000) == 100000);
	for (int i = 0; i < 50; i++) {
		int fds[2], n;
		char path[64];
		FILE *f;

		CHECK(pipe(fds) == 0);
		CHECK(write(fds[1], "ab", 2) == 2);
		CHECK(read(fds[0], buf, 10) == 2);
		f = fdopen(fds[0], "r");
		CHECK(f && fclose(f) == 0);
		snprintf(path, sizeof path, "/proc/self/fd/%d", file);
		f = fopen(path, "r");
		CHECK(f && fileno(f) == fds[0]);
		n = (int)read(fileno(f), buf, 99999);
		CHECK(n == 99999);
		fclose(f);
		f = popen("echo hello", "r");
		CHECK(f && fgets(buf, 100, f) && !strcmp(buf, "hello\n"));
		CHECK(pclose(f) == 0);
		close(fds[1]);
	}
	close(file);
}

static void *all(void *arg)
{
	(void)arg;
	nonblocking();
	errors();
	time_limits();
	ignored_signals();
	interrupted_in_passing();
	broken_pipe();
	close_under_waiter();
	close_that_lingers();
	failed_dup2();
	shutdown_under_waiter();
	numbers_again();
	return NULL;
}

int main(void)
{
	deadline(60);
	all(NULL);			/* in the main thread, before there is another */
	join(start(all, NULL));
	all(NULL);			/* and after */
	return 0;
}
