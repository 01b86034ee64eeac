/* SPDX-License-Identifier: MIT
 * Calls do all that they were asked for where the kernel does, although threads are preempted: those that only a signal cuts short, and
 * what a blocking call on a socket promises.
 */
#include "io_check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define MANY (16 << 20)

static volatile bool stop;

static void *compute(void *arg)
{
	while (!stop)
		;
	return arg;
}

/* --- what only a signal cuts short --- */

static void devices(char *buf)
{
	static const char *const name[] = { "/dev/zero", "/dev/urandom" };
	struct iovec iov[12];

	for (size_t i = 0; i < COUNT(iov); i++)
		iov[i] = (struct iovec){ buf + i * (MANY / 16), MANY / 16 };
	for (size_t i = 0; i < COUNT(name); i++) {
		int fd = open(name[i], O_RDONLY);

		CHECK(fd >= 0);
		CHECK(read(fd, buf, MANY) == MANY);
		CHECK(readv(fd, iov, COUNT(iov)) == (ssize_t)COUNT(iov) * (MANY / 16));
		CHECK(pread(fd, buf, MANY, 4096) == MANY);
		CHECK(read(fd, buf, 0) == 0);
		close(fd);
		fd = open(name[i], O_WRONLY);
		CHECK(fd >= 0);
		CHECK(write(fd, buf, MANY) == MANY);
		CHECK(pwrite(fd, buf, MANY, 4096) == MANY);
		close(fd);
	}
	CHECK(getrandom(buf, MANY, 0) == MANY);
	CHECK(syscall(SYS_getrandom, buf, MANY, 0) == MANY);
}

static void files(char *buf)
{
	int from = memfd_create("from", 0), to = memfd_create("to", 0);
	char *copy = malloc(MANY);
	off_t at = 0;

	CHECK(from >= 0 && to >= 0 && copy);
	CHECK(write(from, buf, MANY) == MANY);
	CHECK(sendfile(to, from, &at, MANY) == MANY && at == MANY);
	CHECK(sendfile(to, from, &at, 1) == 0);
	CHECK(pread(to, copy, MANY, 0) == MANY && !memcmp(buf, copy, MANY));
	at = 1;
	CHECK(lseek(to, 0, SEEK_SET) == 0);
	CHECK(copy_file_range(from, &at, to, NULL, 2 * MANY, 0) == MANY - 1 && at == MANY);
	CHECK(pread(to, copy, MANY - 1, 0) == MANY - 1 && !memcmp(buf + 1, copy, MANY - 1));
	close(from);
	close(to);
	free(copy);
}

static void *drain(void *arg)
{
	static char buf[1 << 16];
	intptr_t total = 0;
	ssize_t n;

	while ((n = read((int)(intptr_t)arg, buf, sizeof buf)) > 0) {
		total += n;
		if (total % 7 == 0)
			nap(1);
	}
	return (void *)total;
}

static void to_socket(void)
{
	int file = memfd_create("file", 0), fds[2];
	off_t at = 0;
	pthread_t t;
	ssize_t n;

	CHECK(ftruncate(file, MANY) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	t = start(drain, (void *)(intptr_t)fds[0]);
	CHECK(sendfile(fds[1], file, &at, MANY) == MANY);
	close(fds[1]);
	CHECK(join(t) == (void *)(intptr_t)MANY);
	close(fds[0]);
	/* a pipe is only filled */
	CHECK(pipe(fds) == 0);
	at = 0;
	n = sendfile(fds[1], file, &at, MANY);
	CHECK(n > 0 && n < MANY);
	close(fds[0]);
	close(fds[1]);
	/* and a socket that does not block, too */
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	at = 0;
	n = sendfile(fds[1], file, &at, MANY);
	CHECK(n > 0 && n < MANY && at == n);
	FAILS(sendfile(fds[1], file, &at, MANY), EAGAIN);
	close(fds[0]);
	close(fds[1]);
	close(file);
}

static void beside_hogs(void)
{
	char *buf = malloc(MANY);
	pthread_t hogs[3];

	CHECK(buf);
	stop = false;
	for (size_t i = 0; i < COUNT(hogs); i++)
		hogs[i] = start(compute, NULL);
	devices(buf);
	files(buf);
	to_socket();
	stop = true;
	for (size_t i = 0; i < COUNT(hogs); i++)
		join(hogs[i]);
	free(buf);
}

/* --- sockets --- */

static struct sockaddr_in at;

static int listener(void)
{
	int l = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t size = sizeof at;

	at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CHECK(bind(l, (struct sockaddr *)&at, sizeof at) == 0 && listen(l, 5) == 0);
	CHECK(getsockname(l, (struct sockaddr *)&at, &size) == 0);
	return l;
}

static void make_pair(int fds[2])
{
	int l = listener();

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(fds[0], (struct sockaddr *)&at, sizeof at) == 0);
	fds[1] = accept(l, NULL, NULL);
	CHECK(fds[1] >= 0);
	close(l);
}

/* Until nothing has come for a while: the other side waits. (A reset that comes between two tries of one call is met by the second.) */
static void settled(int fd)
{
	for (int before = -1, now = 0, calm = 0; calm < 5; before = now) {
		nap(20);
		CHECK(ioctl(fd, FIONREAD, &now) == 0);
		calm = now == before ? calm + 1 : 0;
	}
}

/* Takes or sends a little, then resets the connection. */
static void *reset_later(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct linger at_once = { 1, 0 };

	CHECK(send(fd, "01234", 5, 0) == 5);
	settled(fd);
	CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
	close(fd);
	return NULL;
}

/* The call that was under way returns its part, the next one the error. */
static void reset_after_a_part(int how)
{
	size_t len = how ? MANY : 10;
	char *buf = calloc(1, len);
	int fds[2];
	pthread_t t;
	ssize_t n;

	make_pair(fds);
	t = start(reset_later, (void *)(intptr_t)fds[1]);
	n = how == 0 ? recv(fds[0], buf, len, MSG_WAITALL) : how == 1 ? send(fds[0], buf, len, 0) : write(fds[0], buf, len);
	CHECK(n > 0 && n < (ssize_t)len);
	join(t);
	if (how)
		FAILS(write(fds[0], buf, 1), ECONNRESET);
	else
		FAILS(recv(fds[0], buf, len, 0), ECONNRESET);
	close(fds[0]);
	free(buf);
}

static void send_with(int fd, const char *text, int pass)
{
	union {
		struct cmsghdr c;
		char room[CMSG_SPACE(sizeof(int))];
	} u = { .c = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (char *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u };

	memcpy(CMSG_DATA(&u.c), &pass, sizeof pass);
	CHECK(sendmsg(fd, &m, 0) == (ssize_t)iov.iov_len);
}

static void *send_parts(void *arg)
{
	int fd = (int)(intptr_t)arg;

	nap(20);
	CHECK(send(fd, "01234", 5, 0) == 5);
	nap(20);
	send_with(fd, "56789", fd);
	return NULL;
}

/* MSG_WAITALL: descriptors come with whichever part they were sent with, which is the last. */
static void all_with_descriptors(void)
{
	for (int first = 0; first < 2; first++) {
		union {
			struct cmsghdr c;
			char room[CMSG_SPACE(sizeof(int))];
		} u;
		char buf[20];
		struct iovec iov = { buf, 10 };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof u };
		int fds[2], got;
		pthread_t t;

		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
		if (first)
			send_with(fds[1], "abcde", fds[1]);
		else
			t = start(send_parts, (void *)(intptr_t)fds[1]);
		CHECK(recvmsg(fds[0], &m, MSG_WAITALL) == (first ? 5 : 10));
		CHECK(m.msg_controllen >= CMSG_LEN(sizeof(int)) && !(m.msg_flags & MSG_CTRUNC));
		memcpy(&got, CMSG_DATA(&u.c), sizeof got);
		CHECK(got != fds[1] && send(got, "x", 1, 0) == 1);
		if (!first)
			join(t);
		close(got);
		close(fds[0]);
		close(fds[1]);
	}
}

static void *send_slowly(void *arg)
{
	for (int i = 0; i < 8; i++) {
		CHECK(send((int)(intptr_t)arg, "0123456789", 10, 0) == 10);
		nap(5);
	}
	return NULL;
}

/* SO_RCVLOWAT: with less than that a read waits, also if some is there already. */
static void low_water(void)
{
	int fds[2], most = 40;
	char buf[100];

	for (int how = 0; how < 2; how++) {
		pthread_t t;
		ssize_t n;

		make_pair(fds);
		CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVLOWAT, &most, sizeof most) == 0);
		t = start(send_slowly, (void *)(intptr_t)fds[1]);
		nap(8);
		n = how == 0 ? read(fds[0], buf, sizeof buf) : recv(fds[0], buf, sizeof buf, 0);
		CHECK(n >= 40);
		join(t);
		while (n < 80) {
			ssize_t r = recv(fds[0], buf, sizeof buf, MSG_DONTWAIT);

			CHECK(r > 0);
			n += r;
		}
		FAILS(recv(fds[0], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
		close(fds[0]);
		close(fds[1]);
	}
}

/* Data in the first packet of a connection: the call blocks like any other. */
static void fast_open(void)
{
	struct sockaddr *to = (struct sockaddr *)&at;
	int on = 1;

	for (int i = 0; i < 4; i++) {
		int l = listener(), c = socket(AF_INET, SOCK_STREAM, 0), s;
		char buf[8];

		if (i & 1) {
			CHECK(setsockopt(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on) == 0);
			CHECK(connect(c, to, sizeof at) == 0);
			CHECK((i & 2 ? send(c, "hello", 5, 0) : write(c, "hello", 5)) == 5);
		} else {
			CHECK(sendto(c, "hello", 5, MSG_FASTOPEN, to, sizeof at) == 5);
		}
		s = accept(l, NULL, NULL);
		CHECK(s >= 0 && recv(s, buf, 5, MSG_WAITALL) == 5 && !memcmp(buf, "hello", 5));
		close(s);
		close(c);
		close(l);
	}
}

int main(void)
{
	deadline(60);
	signal(SIGPIPE, SIG_IGN);
	for (int how = 0; how < 3; how++)
		reset_after_a_part(how);
	all_with_descriptors();
	low_water();
	fast_open();
	beside_hogs();
	return 0;
}
