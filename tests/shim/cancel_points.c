/* SPDX-License-Identifier: MIT
 * Every cancellation point: a thread that waits in it is cancelled; one that enters it with a request pending
 * never begins; one that has forbidden cancellation stays. What is no point is not left.
 */
#include "synctest.h"

#include <aio.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <threads.h>

static int empty[2];		/* a pipe that nobody writes to */
static int full[2];		/* a pipe that is full */
static int sv[2];		/* sockets with nothing to read; sv[0] cannot be written to */
static int listening, ep, lockfd, msgs, fullmsgs, child;
static mqd_t mq, fullmq;
static sem_t sem, shared_sem;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_t forever;
static char dir[] = "/tmp/weft-cancel-XXXXXX";
static char fifo[sizeof dir + 8], file[sizeof dir + 8], mqname[32];

static char big[1 << 20];
static struct timespec long_ago = { 100, 0 };

static struct timespec later(clockid_t clock)
{
	return in_ms(clock, 100000);
}

static sigset_t usr2(void)
{
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	return s;
}

static void p_testcancel(void) { for (;;) { pthread_testcancel(); sched_yield(); } }
static void p_read(void) { char c; (void)!read(empty[0], &c, 1); }
static void p_readv(void) { char c; struct iovec v = { &c, 1 }; (void)!readv(empty[0], &v, 1); }
static void p_write(void) { (void)!write(full[1], big, 1); }
static void p_writev(void) { struct iovec v = { big, 1 }; (void)!writev(full[1], &v, 1); }
static void p_recv(void) { char c; recv(sv[0], &c, 1, 0); }
static void p_recvfrom(void) { char c; recvfrom(sv[0], &c, 1, 0, NULL, NULL); }
static void p_recvall(void) { char c[8]; recv(sv[0], c, 8, MSG_WAITALL); }
static void p_recvmsg(void)
{
	char c;
	struct iovec v = { &c, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	recvmsg(sv[0], &m, 0);
}
static void p_recvmmsg(void)
{
	char c;
	struct iovec v = { &c, 1 };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &v, .msg_iovlen = 1 } };

	recvmmsg(sv[0], &m, 1, 0, NULL);
}
static void p_send(void) { send(sv[0], big, 1, 0); }
static void p_sendto(void) { sendto(sv[0], big, 1, 0, NULL, 0); }
static void p_sendmsg(void)
{
	struct iovec v = { big, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	sendmsg(sv[0], &m, 0);
}
static void p_accept(void) { accept(listening, NULL, NULL); }
static void p_accept4(void) { accept4(listening, NULL, NULL, SOCK_CLOEXEC); }
static void p_poll(void) { struct pollfd p = { .fd = empty[0], .events = POLLIN }; poll(&p, 1, -1); }
static void p_poll_none(void) { poll(NULL, 0, 100000); }
static void p_ppoll(void) { struct pollfd p = { .fd = empty[0], .events = POLLIN }; ppoll(&p, 1, NULL, NULL); }
static void p_select(void) { fd_set s; FD_ZERO(&s); FD_SET(empty[0], &s); select(empty[0] + 1, &s, NULL, NULL, NULL); }
static void p_select_none(void) { struct timeval tv = { 100, 0 }; select(0, NULL, NULL, NULL, &tv); }
static void p_pselect(void)
{
	sigset_t mask;
	fd_set s;

	sigfillset(&mask);
	FD_ZERO(&s);
	FD_SET(empty[0], &s);
	pselect(empty[0] + 1, &s, NULL, NULL, &long_ago, &mask);
}
static void p_epoll_wait(void) { struct epoll_event e; epoll_wait(ep, &e, 1, -1); }
static void p_epoll_pwait(void) { struct epoll_event e; epoll_pwait(ep, &e, 1, 100000, NULL); }
static void p_sleep(void) { sleep(100); }
static void p_usleep(void) { usleep(100000000); }
static void p_nanosleep(void) { nanosleep(&long_ago, NULL); }
static void p_clock_nanosleep(void) { clock_nanosleep(CLOCK_MONOTONIC, 0, &long_ago, NULL); }
static void p_clock_until(void)
{
	struct timespec ts = later(CLOCK_REALTIME);

	clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL);
}
static void p_cpu_sleep(void) { clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &long_ago, NULL); }
static void p_pause(void) { pause(); }
static void p_sigsuspend(void) { sigset_t s; sigfillset(&s); sigsuspend(&s); }
extern int __xpg_sigpause(int);		/* what sigpause is called in programs */
static void p_sigpause(void) { __xpg_sigpause(SIGUSR2); }
static void p_sigwait(void) { sigset_t s = usr2(); int sig; sigwait(&s, &sig); }
static void p_sigwaitinfo(void) { sigset_t s = usr2(); sigwaitinfo(&s, NULL); }
static void p_sigtimedwait(void) { sigset_t s = usr2(); sigtimedwait(&s, NULL, &long_ago); }
static void unlock(void *m) { CHECK_IS(pthread_mutex_unlock(m), 0); }
static void p_cond_wait(void)
{
	pthread_mutex_lock(&mutex);
	pthread_cleanup_push(unlock, &mutex);
	for (;;)
		pthread_cond_wait(&cond, &mutex);
	pthread_cleanup_pop(1);
}
static void p_cond_timedwait(void)
{
	struct timespec ts = later(CLOCK_REALTIME);

	pthread_mutex_lock(&mutex);
	pthread_cleanup_push(unlock, &mutex);
	while (pthread_cond_timedwait(&cond, &mutex, &ts) == 0)
		;
	pthread_cleanup_pop(1);
}
static void p_cond_clockwait(void)
{
	struct timespec ts = later(CLOCK_MONOTONIC);

	pthread_mutex_lock(&mutex);
	pthread_cleanup_push(unlock, &mutex);
	while (pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &ts) == 0)
		;
	pthread_cleanup_pop(1);
}
static void p_join(void) { pthread_join(forever, NULL); }
static void p_timedjoin(void) { struct timespec ts = later(CLOCK_REALTIME); pthread_timedjoin_np(forever, NULL, &ts); }
static void p_clockjoin(void) { struct timespec ts = later(CLOCK_MONOTONIC); pthread_clockjoin_np(forever, NULL, CLOCK_MONOTONIC, &ts); }
static void p_sem_wait(void) { sem_wait(&sem); }
static void p_sem_timedwait(void) { struct timespec ts = later(CLOCK_REALTIME); sem_timedwait(&sem, &ts); }
static void p_sem_clockwait(void) { struct timespec ts = later(CLOCK_MONOTONIC); sem_clockwait(&sem, CLOCK_MONOTONIC, &ts); }
static void p_sem_shared(void) { sem_wait(&shared_sem); }
static void p_sem_shared_timed(void) { struct timespec ts = later(CLOCK_REALTIME); sem_timedwait(&shared_sem, &ts); }
static void p_open(void) { int fd = open(fifo, O_RDONLY); if (fd >= 0) close(fd); }
static void p_openat(void) { int fd = openat(AT_FDCWD, fifo, O_RDONLY); if (fd >= 0) close(fd); }
static void p_creat(void) { int fd = creat(fifo, 0600); if (fd >= 0) close(fd); }
static void p_setlkw(void)
{
	struct flock fl = { .l_type = F_WRLCK };
	int fd = open(file, O_RDWR);

	fcntl(fd, F_SETLKW, &fl);
}
static void p_lockf(void)
{
	int fd = open(file, O_RDWR);

	(void)!lockf(fd, F_LOCK, 0);
}
static void p_wait(void) { wait(NULL); }
static void p_waitpid(void) { waitpid(child, NULL, 0); }
static void p_wait4(void) { wait4(child, NULL, 0, NULL); }
static void p_waitid(void) { siginfo_t si; waitid(P_PID, (id_t)child, &si, WEXITED); }
static void p_msgrcv(void) { struct { long t; char c[8]; } m; msgrcv(msgs, &m, 8, 0, 0); }
static void p_msgsnd(void) { struct { long t; char c[4096]; } m = { 1, "" }; for (;;) msgsnd(fullmsgs, &m, sizeof m.c, 0); }
static void p_mq_receive(void) { char c[64]; mq_receive(mq, c, sizeof c, NULL); }
static void p_mq_timedreceive(void)
{
	struct timespec ts = later(CLOCK_REALTIME);
	char c[64];

	mq_timedreceive(mq, c, sizeof c, NULL, &ts);
}
static void p_aio_suspend(void)
{
	static char byte;
	static struct aiocb cb;		/* a read that goes on for ever */
	const struct aiocb *list[] = { &cb };

	if (!cb.aio_nbytes) {
		cb.aio_fildes = empty[0];
		cb.aio_buf = &byte;
		cb.aio_nbytes = 1;
		CHECK_IS(aio_read(&cb), 0);
	}
	aio_suspend(list, 1, NULL);
}
static void p_thrd_sleep(void) { thrd_sleep(&long_ago, NULL); }
static void p_thrd_join(void) { thrd_join((thrd_t)forever, NULL); }
static mtx_t mtx;
static cnd_t cnd;
static void unlock_mtx(void *m) { CHECK_IS(mtx_unlock(m), thrd_success); }
static void p_cnd_wait(void)
{
	mtx_lock(&mtx);
	pthread_cleanup_push(unlock_mtx, &mtx);
	for (;;)
		cnd_wait(&cnd, &mtx);
	pthread_cleanup_pop(1);
}
static void p_cnd_timedwait(void)
{
	struct timespec ts = later(CLOCK_REALTIME);

	mtx_lock(&mtx);
	pthread_cleanup_push(unlock_mtx, &mtx);
	while (cnd_timedwait(&cnd, &mtx, &ts) == thrd_success)
		;
	pthread_cleanup_pop(1);
}
static void p_splice(void) { splice(empty[0], NULL, sv[0], NULL, 1, 0); }
static void p_mq_timedsend(void)
{
	struct timespec ts = later(CLOCK_REALTIME);

	mq_timedsend(fullmq, "x", 1, 0, &ts);
}
static void p_mq_send_full(void) { mq_send(fullmq, "x", 1, 0); }

/* Never wait long; only what they do with a request that is pending. */
static void p_close(void) { close(dup(0)); }
static void p_fsync(void) { fsync(lockfd); }
static void p_fdatasync(void) { fdatasync(lockfd); }
static void p_msync(void) { static char page[8192]; msync((void *)(((uintptr_t)page + 4095) & ~4095ul), 4096, MS_ASYNC); }
static void p_tcdrain(void) { tcdrain(lockfd); }
static void p_pread(void) { char c; (void)!pread(lockfd, &c, 1, 0); }
static void p_pwrite(void) { (void)!pwrite(lockfd, "x", 1, 0); }
static void p_poll_now(void) { poll(NULL, 0, 0); }
static void p_write_now(void) { (void)!write(lockfd, "x", 1); }
static void p_mq_send(void) { mq_send(mq, "x", 1, 0); }
static void p_connect(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) }, .sin_port = 9 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	connect(fd, (struct sockaddr *)&a, sizeof a);
	close(fd);
}

/* No points. Each is ended by what main does. */
static void n_mutex(void) { CHECK_IS(pthread_mutex_lock(&held), 0); CHECK_IS(pthread_mutex_unlock(&held), 0); }
static void n_rdlock(void) { CHECK_IS(pthread_rwlock_rdlock(&rwlock), 0); CHECK_IS(pthread_rwlock_unlock(&rwlock), 0); }
static void n_wrlock(void) { CHECK_IS(pthread_rwlock_wrlock(&rwlock), 0); CHECK_IS(pthread_rwlock_unlock(&rwlock), 0); }
static void n_barrier(void) { pthread_barrier_wait(&barrier); }

struct point {
	const char *name;
	void (*fn)(void);
	bool waits;
};
#define W(n) { #n, p_##n, true }
#define N(n) { #n, p_##n, false }
static const struct point points[] = {
	W(testcancel), W(read), W(readv), W(write), W(writev), W(recv), W(recvfrom), W(recvall), W(recvmsg), W(recvmmsg),
	W(send), W(sendto), W(sendmsg), W(accept), W(accept4), W(poll), W(poll_none), W(ppoll), W(select), W(select_none),
	W(pselect), W(epoll_wait), W(epoll_pwait), W(sleep), W(usleep), W(nanosleep), W(clock_nanosleep), W(clock_until),
	W(cpu_sleep), W(pause), W(sigsuspend), W(sigpause), W(sigwait), W(sigwaitinfo), W(sigtimedwait), W(cond_wait),
	W(cond_timedwait), W(cond_clockwait), W(join), W(timedjoin), W(sem_wait), W(sem_timedwait), W(sem_clockwait),
	W(sem_shared), W(sem_shared_timed), W(open), W(openat), W(creat), W(setlkw), W(lockf), W(wait), W(waitpid),
	W(wait4), W(waitid), W(msgrcv), W(msgsnd), W(mq_receive), W(mq_timedreceive), W(thrd_sleep),
	W(thrd_join), W(cnd_wait), W(cnd_timedwait), W(clockjoin), W(splice), W(mq_timedsend), W(mq_send_full),
	W(aio_suspend),
	N(close), N(fsync), N(fdatasync), N(msync), N(tcdrain), N(pread), N(pwrite), N(poll_now), N(write_now), N(mq_send),
	N(connect),
};

static int in, cleaned, finished;

static void count(void *n)
{
	__atomic_fetch_add((int *)n, 1, __ATOMIC_RELEASE);
}

static void *waits(void *p)
{
	const struct point *point = p;

	pthread_cleanup_push(count, &cleaned);
	__atomic_store_n(&in, 1, __ATOMIC_RELEASE);
	point->fn();
	__atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
	pthread_cleanup_pop(0);
	return NULL;
}

/* With the request pending when it is entered: nothing must happen. */
static void *pending(void *p)
{
	const struct point *point = p;

	CHECK_IS(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL), 0);
	__atomic_store_n(&in, 1, __ATOMIC_RELEASE);
	until(&in, 2);
	pthread_cleanup_push(count, &cleaned);
	CHECK_IS(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL), 0);
	point->fn();
	__atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *disabled(void *p)
{
	const struct point *point = p;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	__atomic_store_n(&in, 1, __ATOMIC_RELEASE);
	point->fn();
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	pthread_testcancel();
	CHECK(!"not reached");
	return NULL;
}

static void *just(void *p)
{
	pthread_cleanup_push(count, &cleaned);
	__atomic_store_n(&in, 1, __ATOMIC_RELEASE);
	((void (*)(void))p)();
	__atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
	pthread_testcancel();
	pthread_cleanup_pop(0);
	return NULL;
}

static void *idle(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void reset(void)
{
	in = cleaned = finished = 0;
}

static void no_point(const char *name, void (*fn)(void), void (*release)(void))
{
	pthread_t t;

	reset();
	t = start(just, (void *)fn);
	until(&in, 1);
	sleep_ms(10);
	CHECK_IS(pthread_cancel(t), 0);
	sleep_ms(10);
	if (cleaned) {
		fprintf(stderr, "%s must not be a cancellation point\n", name);
		_exit(1);
	}
	release();
	CHECK(finish(t) == PTHREAD_CANCELED);
	CHECK(finished && cleaned == 1);
}

static void r_mutex(void) { pthread_mutex_unlock(&held); }
static void r_rwlock(void) { pthread_rwlock_unlock(&rwlock); }
static void r_barrier(void) { pthread_barrier_wait(&barrier); }

static void fill(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (write(fd, big, sizeof big) > 0 || write(fd, big, 1) > 0)
		;
	fcntl(fd, F_SETFL, flags);
}

static void no_signal(int sig)
{
	(void)sig;
}

static void set_up(void)
{
	struct mq_attr ma = { .mq_maxmsg = 4, .mq_msgsize = 64 };
	struct flock fl = { .l_type = F_WRLCK };
	struct sigaction sa = { .sa_handler = no_signal };
	struct { long t; char c[4096]; } m = { 1, "" };
	struct epoll_event ev = { .events = EPOLLIN };
	int ready[2];
	char c;

	sigaction(SIGUSR2, &sa, NULL);
	CHECK(mkdtemp(dir));
	snprintf(fifo, sizeof fifo, "%s/fifo", dir);
	snprintf(file, sizeof file, "%s/file", dir);
	CHECK_IS(mkfifo(fifo, 0600), 0);
	CHECK((lockfd = open(file, O_RDWR | O_CREAT, 0600)) >= 0);
	CHECK_IS(pipe(empty), 0);
	CHECK_IS(pipe(full), 0);
	CHECK_IS(pipe(ready), 0);
	CHECK_IS(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	fill(full[1]);
	fill(sv[0]);
	CHECK((listening = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	CHECK_IS(listen(listening, 5), 0);
	CHECK((ep = epoll_create1(0)) >= 0);
	CHECK_IS(epoll_ctl(ep, EPOLL_CTL_ADD, empty[0], &ev), 0);
	CHECK((msgs = msgget(IPC_PRIVATE, 0600)) >= 0);
	CHECK((fullmsgs = msgget(IPC_PRIVATE, 0600)) >= 0);
	while (msgsnd(fullmsgs, &m, sizeof m.c, IPC_NOWAIT) == 0)
		;
	snprintf(mqname, sizeof mqname, "/weft-cancel-%d", (int)getpid());
	mq = mq_open(mqname, O_RDWR | O_CREAT, 0600, &ma);
	CHECK(mq != (mqd_t)-1);
	mq_unlink(mqname);
	fullmq = mq_open(mqname, O_RDWR | O_CREAT, 0600, &ma);
	CHECK(fullmq != (mqd_t)-1);
	mq_unlink(mqname);
	for (int i = 0; i < 4; i++)
		CHECK_IS(mq_send(fullmq, "x", 1, 0), 0);
	CHECK_IS(mtx_init(&mtx, mtx_plain), thrd_success);
	CHECK_IS(cnd_init(&cnd), thrd_success);
	sem_init(&sem, 0, 0);
	sem_init(&shared_sem, 1, 0);
	pthread_barrier_init(&barrier, NULL, 2);
	/* a child that holds the lock of the file and lives */
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		alarm(300);
		fl.l_pid = 0;
		CHECK_IS(fcntl(lockfd, F_SETLKW, &fl), 0);
		(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	CHECK_IS(read(ready[0], &c, 1), 1);
	forever = start(idle, NULL);
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	pthread_t t;

	set_up();
	for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++) {
		const struct point *p = &points[i];

		if (only && strcmp(only, p->name))
			continue;
		alarm(20);
		if (only)
			fprintf(stderr, "%s\n", p->name);
		for (int n = 0; p->waits && n < 3; n++) {
			reset();
			t = start(waits, (void *)p);
			until(&in, 1);
			if (n)
				sleep_ms(n == 1 ? 3 : 30);
			CHECK_IS(pthread_cancel(t), 0);
			if (finish(t) != PTHREAD_CANCELED || finished || cleaned != 1) {
				fprintf(stderr, "%s: not cancelled while it waits\n", p->name);
				_exit(1);
			}
		}
		reset();
		t = start(pending, (void *)p);
		until(&in, 1);
		CHECK_IS(pthread_cancel(t), 0);
		__atomic_store_n(&in, 2, __ATOMIC_RELEASE);
		if (finish(t) != PTHREAD_CANCELED || finished || cleaned != 1) {
			fprintf(stderr, "%s: a request that is pending is not acted upon\n", p->name);
			_exit(1);
		}
	}
	if (only)
		goto out;
	/* state */
	{
		struct point half = { "half", p_sem_wait, true };

		reset();
		t = start(disabled, &half);
		until(&in, 1);
		sleep_ms(5);
		CHECK_IS(pthread_cancel(t), 0);
		CHECK_IS(pthread_cancel(t), 0);
		sleep_ms(5);
		CHECK_IS(pthread_tryjoin_np(t, NULL), EBUSY);
		sem_post(&sem);
		CHECK(finish(t) == PTHREAD_CANCELED);
	}
	pthread_mutex_lock(&held);
	no_point("pthread_mutex_lock", n_mutex, r_mutex);
	pthread_rwlock_wrlock(&rwlock);
	no_point("pthread_rwlock_rdlock", n_rdlock, r_rwlock);
	pthread_rwlock_rdlock(&rwlock);
	no_point("pthread_rwlock_wrlock", n_wrlock, r_rwlock);
	no_point("pthread_barrier_wait", n_barrier, r_barrier);
	/* the thread that p_join waited for can still be joined */
out:
	CHECK_IS(pthread_cancel(forever), 0);
	CHECK(finish(forever) == PTHREAD_CANCELED);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	msgctl(msgs, IPC_RMID, NULL);
	msgctl(fullmsgs, IPC_RMID, NULL);
	unlink(fifo);
	unlink(file);
	rmdir(dir);
	return 0;
}
