/* SPDX-License-Identifier: MIT
 * Other kinds of descriptors and other waiting calls: FIFO, eventfd, timerfd, files, datagrams in
 *                                                     batches, locks,
 * children; and programs that close everything.
 */
#include "io_check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

static char buf[1 << 20];
static char dir[] = "/tmp/io_kinds_XXXXXX";
static char path[100];

static void *fifo_writer(void *arg)
{
	int fd = open(path, O_WRONLY);
	size_t n = 300000;

	(void)arg;
	CHECK(fd >= 0);
	nap(10);
	CHECK(write(fd, "0123456789", 10) == 10);
	nap(10);
	CHECK(write(fd, buf, n) == (ssize_t)n);
	close(fd);
	return NULL;
}

static void fifo(void)
{
	pthread_t t;
	size_t total = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/fifo", dir);
	CHECK(mkfifo(path, 0600) == 0);
	t = start(fifo_writer, NULL);
	fd = open(path, O_RDONLY);		/* waits for the other side */
	CHECK(fd >= 0);
	while ((n = read(fd, buf, 7001)) > 0)
		total += (size_t)n;
	CHECK(n == 0 && total == 300010);
	join(t);
	close(fd);
	unlink(path);
}

static void *event_later(void *arg)
{
	nap(20);
	CHECK(eventfd_write((int)(intptr_t)arg, 5) == 0);
	return NULL;
}

static void anonymous_kinds(void)
{
	struct itimerspec it = { .it_value = { 0, 30000000 } };
	int ev = eventfd(0, 0), tf = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t v = 0;
	pthread_t t = start(event_later, (void *)(intptr_t)ev);
	double t0;

	CHECK(read(ev, &v, 8) == 8 && v == 5);
	join(t);
	t0 = now();
	CHECK(timerfd_settime(tf, 0, &it, NULL) == 0);
	CHECK(read(tf, &v, 8) == 8 && v == 1);
	CHECK(now() - t0 >= 0.03);
	CHECK(open("/dev/null", O_WRONLY) >= 0);
	CHECK(write(tf + 1, buf, sizeof buf) == (ssize_t)sizeof buf);
	close(tf + 1);
	close(ev);
	close(tf);
}

static void files(void)
{
	struct iovec iov[2] = { { buf, 1000 }, { buf + 1000, 2000 } };
	int fd;

	snprintf(path, sizeof path, "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0);
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (char)(i * 7);
	CHECK(write(fd, buf, sizeof buf) == (ssize_t)sizeof buf);
	CHECK(fsync(fd) == 0 && fdatasync(fd) == 0);
	memset(buf, 0, 4000);
	CHECK(pread(fd, buf, 3000, 1) == 3000 && buf[0] == 7);
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	CHECK(readv(fd, iov, 2) == 3000 && buf[2999] == (char)(2999 * 7));
	CHECK(preadv(fd, iov, 2, 10) == 3000 && buf[0] == 70);
	CHECK(pwritev(fd, iov, 2, (off_t)sizeof buf) == 3000);
	CHECK(lseek(fd, 0, SEEK_END) == (off_t)sizeof buf + 3000);
	CHECK(read(fd, buf, 1) == 0);
	close(fd);
	unlink(path);
}

/* --- datagrams --- */

static void *batch_sender(void *arg)
{
	struct mmsghdr v[8];
	struct iovec iov[8];
	int fd = *(int *)arg;

	memset(v, 0, sizeof v);
	for (unsigned i = 0; i < 8; i++) {
		iov[i] = (struct iovec){ buf, 10 + i };
		v[i].msg_hdr.msg_iov = &iov[i];
		v[i].msg_hdr.msg_iovlen = 1;
	}
	nap(20);
	CHECK(sendmmsg(fd, v, 3, 0) == 3);
	nap(20);
	CHECK(sendmmsg(fd, v + 3, 5, 0) == 5);
	return NULL;
}

static void datagrams(void)
{
	struct timespec limit = { 0, 80000000 };
	struct mmsghdr v[8];
	struct iovec iov[8];
	pthread_t t;
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
	memset(v, 0, sizeof v);
	for (unsigned i = 0; i < 8; i++) {
		iov[i] = (struct iovec){ buf + 100 * i, 100 };
		v[i].msg_hdr.msg_iov = &iov[i];
		v[i].msg_hdr.msg_iovlen = 1;
	}
	t = start(batch_sender, &fds[1]);
	CHECK(recvmmsg(fds[0], v, 8, 0, NULL) == 8);	/* waits for all */
	for (unsigned i = 0; i < 8; i++)
		CHECK(v[i].msg_len == 10 + i);
	join(t);
	t = start(batch_sender, &fds[1]);
	CHECK(recvmmsg(fds[0], v, 8, MSG_WAITFORONE, NULL) >= 1);
	join(t);
	while (recv(fds[0], buf, 100, MSG_DONTWAIT) > 0)
		;
	/* the kernel looks at the time after each datagram only: send one when it is over */
	CHECK(send(fds[1], "a", 1, 0) == 1);
	t = start(batch_sender, &fds[1]);
	limit.tv_nsec = 10000000;
	{
		int n = recvmmsg(fds[0], v, 8, 0, &limit);

		CHECK(n >= 1 && n < 8);
	}
	join(t);
	close(fds[0]);
	close(fds[1]);
}

/* A datagram socket is writable while the queue of the one it sends to is full. */
static void *slow_receiver(void *arg)
{
	int n = 0;

	nap(30);
	while (n < 200) {
		CHECK(recv((int)(intptr_t)arg, buf + 1000, 100, 0) > 0);
		n++;
	}
	return NULL;
}

static void full_datagram_queue(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r = socket(AF_UNIX, SOCK_DGRAM, 0), s = socket(AF_UNIX, SOCK_DGRAM, 0);
	pthread_t t;

	snprintf(addr.sun_path, sizeof addr.sun_path, "%s/sock", dir);
	CHECK(bind(r, (struct sockaddr *)&addr, sizeof addr) == 0);
	t = start(slow_receiver, (void *)(intptr_t)r);
	for (int i = 0; i < 200; i++)
		CHECK(sendto(s, buf, 50, 0, (struct sockaddr *)&addr, sizeof addr) == 50);
	join(t);
	close(r);
	close(s);
	unlink(addr.sun_path);
}

/* --- locks, children, queues --- */

static int held;

static void *lock_taker(void *arg)
{
	int fd = open(path, O_RDWR);

	(void)arg;
	CHECK(flock(fd, LOCK_EX) == 0);
	CHECK(__atomic_load_n(&held, __ATOMIC_SEQ_CST) == 0);
	close(fd);
	return NULL;
}

static void locks(void)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	pthread_t t[4];
	int fd;

	snprintf(path, sizeof path, "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	CHECK(flock(fd, LOCK_EX) == 0);
	held = 1;
	for (int i = 0; i < 4; i++)
		t[i] = start(lock_taker, NULL);
	nap(30);
	__atomic_store_n(&held, 0, __ATOMIC_SEQ_CST);
	CHECK(flock(fd, LOCK_UN) == 0);
	for (int i = 0; i < 4; i++)
		join(t[i]);
	CHECK(fcntl(fd, F_SETLKW, &fl) == 0);
	CHECK(lockf(fd, F_LOCK, 0) == 0);
	close(fd);
	unlink(path);
}

static void *wait_child(void *arg)
{
	int status;

	CHECK(waitpid((pid_t)(intptr_t)arg, &status, 0) == (pid_t)(intptr_t)arg);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	return NULL;
}

static void children(void)
{
	siginfo_t si;
	pid_t pid = fork();

	if (pid == 0) {
		nap(30);
		_exit(7);
	}
	join(start(wait_child, (void *)(intptr_t)pid));
	FAILS(waitpid(pid, NULL, 0), ECHILD);
	pid = fork();
	if (pid == 0) {
		nap(10);
		_exit(3);
	}
	CHECK(waitid(P_PID, (id_t)pid, &si, WEXITED) == 0);
	CHECK(si.si_pid == pid && si.si_status == 3);
}

static void *post_later(void *arg)
{
	struct sembuf up = { 0, 1, 0 };
	struct {
		long type;
		char text[8];
	} m = { 1, "hey" };
	int *ids = arg;

	nap(20);
	CHECK(semop(ids[0], &up, 1) == 0);
	nap(20);
	CHECK(msgsnd(ids[1], &m, sizeof m.text, 0) == 0);
	return NULL;
}

static void system_v(void)
{
	int ids[2] = { semget(IPC_PRIVATE, 1, 0600), msgget(IPC_PRIVATE, 0600) };
	struct sembuf down = { 0, -1, 0 };
	struct timespec limit = { 0, 30000000 };
	struct {
		long type;
		char text[8];
	} m;
	pthread_t t;
	double t0;

	CHECK(ids[0] >= 0 && ids[1] >= 0);
	t = start(post_later, ids);
	CHECK(semop(ids[0], &down, 1) == 0);
	CHECK(msgrcv(ids[1], &m, sizeof m.text, 0, 0) == sizeof m.text && !strcmp(m.text, "hey"));
	join(t);
	t0 = now();
	FAILS(semtimedop(ids[0], &down, 1, &limit), EAGAIN);
	CHECK(now() - t0 >= 0.029);
	semctl(ids[0], 0, IPC_RMID);
	msgctl(ids[1], IPC_RMID, NULL);
}

/* --- close everything that is not ours, as daemons do, while another thread waits --- */

static int ping[2], pong[2];

static void *ponger(void *arg)
{
	char c;

	(void)arg;
	while (read(ping[0], &c, 1) == 1)
		CHECK(write(pong[1], &c, 1) == 1);
	return NULL;
}

static void ping_once(void)
{
	char c = 'p';

	CHECK(write(ping[1], &c, 1) == 1);
	CHECK(read(pong[0], &c, 1) == 1);
	nap(2);
}

static long resident_kb(void)
{
	char text[64];
	long pages = 0;
	int fd = open("/proc/self/statm", O_RDONLY);
	ssize_t n = read(fd, text, sizeof text - 1);

	CHECK(n > 0);
	text[n] = 0;
	CHECK(sscanf(text, "%*d %ld", &pages) == 1);
	close(fd);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Numbers that were never open take no memory. */
static void close_a_million(void)
{
	long before = resident_kb();

	for (int fd = 5000; fd < 1000000; fd++)
		close(fd);
	CHECK(resident_kb() < before + 8192);
}

static void close_everything(void)
{
	pthread_t t;

	CHECK(pipe(ping) == 0 && pipe(pong) == 0);
	t = start(ponger, NULL);
	ping_once();
	CHECK(close_range(20, ~0u, 0) == 0);
	ping_once();
	closefrom(20);
	ping_once();
	for (int fd = 20; fd < 5000; fd++)
		close(fd);
	ping_once();
	for (int fd = 20; fd < 5000; fd++)
		syscall(SYS_close, fd);
	syscall(SYS_close_range, 20, ~0u, 0);
	ping_once();
	/* and by a way that no wrapper sees */
	for (int i = 0; i < 5; i++)
		ping_once();
	close(ping[1]);
	join(t);
	close(ping[0]);
	close(pong[0]);
	close(pong[1]);
}

static void *all(void *arg)
{
	(void)arg;
	fifo();
	anonymous_kinds();
	files();
	datagrams();
	full_datagram_queue();
	locks();
	children();
	system_v();
	close_everything();
	close_a_million();
	return NULL;
}

int main(void)
{
	deadline(60);
	CHECK(mkdtemp(dir));
	all(NULL);
	join(start(all, NULL));
	CHECK(rmdir(dir) == 0);
	return 0;
}
