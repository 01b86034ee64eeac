/* SPDX-License-Identifier: MIT
 * No handler is installed here, so no call may fail with EINTR, come back early or late by much: whatever signals the
 * runtime sends itself must stay its own. Every kind of timed wait, beside threads that compute. Best with WEFT_FUZZ.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"

static uint64_t deadline;
static int stop;

static void *compute(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

enum { WAIT_NS = 3000000 };
static const struct timespec wait_ts = { 0, WAIT_NS };

static void w_nanosleep(void)
{
	CHECK_EQ(nanosleep(&wait_ts, NULL), 0);
}

static void w_clock_nanosleep(void)
{
	struct timespec t = in_ns(CLOCK_MONOTONIC, WAIT_NS);

	CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
}

static void w_usleep(void)
{
	CHECK_EQ(usleep(WAIT_NS / 1000), 0);
}

static void w_poll(void)
{
	CHECK_EQ(poll(NULL, 0, WAIT_NS / 1000000), 0);
}

static void w_poll_pipe(void)
{
	struct pollfd p;
	int fd[2];

	CHECK_EQ(pipe(fd), 0);
	p = (struct pollfd){ fd[0], POLLIN, 0 };
	CHECK_EQ(poll(&p, 1, WAIT_NS / 1000000), 0);
	CHECK_EQ(ppoll(&p, 1, &wait_ts, NULL), 0);
	close(fd[0]);
	close(fd[1]);
}

static void w_select(void)
{
	struct timeval t = { 0, WAIT_NS / 1000 };
	int fd[2];
	fd_set set;

	CHECK_EQ(select(0, NULL, NULL, NULL, &t), 0);
	CHECK_EQ(pipe(fd), 0);
	FD_ZERO(&set);
	FD_SET(fd[0], &set);
	t = (struct timeval){ 0, WAIT_NS / 1000 };
	CHECK_EQ(select(fd[0] + 1, &set, NULL, NULL, &t), 0);
	CHECK(!FD_ISSET(fd[0], &set));
	FD_ZERO(&set);
	FD_SET(fd[1], &set);
	CHECK_EQ(pselect(fd[1] + 1, NULL, &set, NULL, &wait_ts, NULL), 1);
	sleep_ns(WAIT_NS);
	close(fd[0]);
	close(fd[1]);
}

static void w_epoll(void)
{
	struct epoll_event e = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), fd[2];

	CHECK(ep >= 0);
	CHECK_EQ(pipe(fd), 0);
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e), 0);
	CHECK_EQ(epoll_wait(ep, &e, 1, WAIT_NS / 1000000), 0);
	CHECK_EQ(epoll_pwait(ep, &e, 1, WAIT_NS / 1000000, NULL), 0);
	CHECK_EQ(write(fd[1], "x", 1), 1);
	CHECK_EQ(epoll_wait(ep, &e, 1, -1), 1);
	close(ep);
	close(fd[0]);
	close(fd[1]);
}

/* signal(7): a socket with a timeout is never restarted by SA_RESTART. */
static void w_recv(void)
{
	struct timeval t = { 0, WAIT_NS / 1000 };
	char c[64];
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	CHECK_EQ(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
	CHECK_EQ(setsockopt(sv[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)), 0);
	CHECK_EQ(recv(sv[0], c, 1, 0), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(read(sv[0], c, 1), -1);
	CHECK_EQ(errno, EAGAIN);
	while (send(sv[0], c, sizeof(c), MSG_DONTWAIT) > 0)
		;
	CHECK_EQ(send(sv[0], c, 1, 0), -1);
	CHECK_EQ(errno, EAGAIN);
	close(sv[0]);
	close(sv[1]);
}

static void w_semop(void)
{
	struct sembuf op = { 0, -1, 0 };
	int id = semget(IPC_PRIVATE, 1, 0600);

	CHECK(id >= 0);
	CHECK_EQ(semtimedop(id, &op, 1, &wait_ts), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(semctl(id, 0, IPC_RMID), 0);
}

static void w_sigtimedwait(void)
{
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	CHECK_EQ(sigtimedwait(&s, NULL, &wait_ts), -1);
	CHECK_EQ(errno, EAGAIN);
}

static void w_futex(void)
{
	int word = 0;

	CHECK_EQ(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &wait_ts, NULL, 0), -1);
	CHECK_EQ(errno, ETIMEDOUT);
	CHECK_EQ(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &wait_ts, NULL, 0), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
	CHECK_EQ(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &wait_ts, NULL, 0), -1);
	CHECK_EQ(errno, ETIMEDOUT);
}

static void w_sync(void)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;
	struct timespec t = in_ns(CLOCK_REALTIME, WAIT_NS);
	int r;
	sem_t s;

	pthread_mutex_lock(&m);
	r = pthread_cond_timedwait(&c, &m, &t);
	if (r == 0)	/* a spurious wake-up is allowed */
		sleep_ns(WAIT_NS);
	else
		CHECK_EQ(r, ETIMEDOUT);
	pthread_mutex_unlock(&m);
	CHECK_EQ(sem_init(&s, 0, 0), 0);
	t = in_ns(CLOCK_REALTIME, WAIT_NS);
	CHECK_EQ(sem_timedwait(&s, &t), -1);
	CHECK_EQ(errno, ETIMEDOUT);
	t = in_ns(CLOCK_MONOTONIC, WAIT_NS);
	CHECK_EQ(sem_clockwait(&s, CLOCK_MONOTONIC, &t), -1);
	CHECK_EQ(errno, ETIMEDOUT);
}

/* Calls without a time limit, which somebody ends: waitpid, flock, open of a FIFO, msgrcv. */
static void w_child(void)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		syscall(SYS_nanosleep, &wait_ts, NULL);
		_exit(3);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

static void w_msgrcv(void)
{
	struct { long type; char text[8]; } m = { 1, "hello" };
	int id = msgget(IPC_PRIVATE, 0600);
	pid_t pid;

	CHECK(id >= 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		syscall(SYS_nanosleep, &wait_ts, NULL);
		_exit(msgsnd(id, &m, sizeof(m.text), 0) != 0);
	}
	memset(m.text, 0, sizeof(m.text));
	CHECK_EQ(msgrcv(id, &m, sizeof(m.text), 0, 0), sizeof(m.text));
	CHECK(strcmp(m.text, "hello") == 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	CHECK_EQ(msgctl(id, IPC_RMID, NULL), 0);
}

static const struct { const char *name; void (*fn)(void); bool timed; } waits[] = {
	{ "nanosleep", w_nanosleep, true }, { "clock_nanosleep", w_clock_nanosleep, true }, { "usleep", w_usleep, true },
	{ "poll", w_poll, true }, { "poll_pipe", w_poll_pipe, true }, { "select", w_select, true },
	{ "epoll", w_epoll, true }, { "recv", w_recv, true }, { "semop", w_semop, true },
	{ "sigtimedwait", w_sigtimedwait, true }, { "futex", w_futex, true }, { "sync", w_sync, true },
	{ "child", w_child, false }, { "msgrcv", w_msgrcv, false },
};
enum { WAITS = sizeof(waits) / sizeof(waits[0]) };
static long done[WAITS];

static void *waiter(void *arg)
{
	int i = (int)(intptr_t)arg;
	uint64_t t0, t;

	while (now_ns() < deadline) {
		t0 = now_ns();
		waits[i].fn();
		t = now_ns() - t0;
		if (waits[i].timed && t < WAIT_NS - 100000) {
			fprintf(stderr, "%s came back after %llu ns\n", waits[i].name, (unsigned long long)t);
			CHECK(!"early");
		}
		if (t > 10 * SEC) {
			fprintf(stderr, "%s came back after %llu ns\n", waits[i].name, (unsigned long long)t);
			CHECK(!"late");
		}
		done[i]++;
		if (done[i] % 8 == 0)
			spin_ns(MS);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[WAITS], c[3];
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	CHECK_EQ(pthread_sigmask(SIG_BLOCK, &s, NULL), 0);
	deadline = now_ns() + (uint64_t)((argc > 1 ? atof(argv[1]) : 1.5) * 1e9);
	for (int i = 0; i < 3; i++)
		c[i] = start_thread(compute, NULL);
	for (intptr_t i = 0; i < WAITS; i++)
		t[i] = start_thread(waiter, (void *)i);
	for (int i = 0; i < WAITS; i++) {
		join_thread(t[i]);
		printf("%s%s %ld", i ? ", " : "", waits[i].name, done[i]);
		CHECK(done[i] > 0);
	}
	printf("\n");
	stop = 1;
	for (int i = 0; i < 3; i++)
		join_thread(c[i]);
	return 0;
}
