/* SPDX-License-Identifier: MIT
 * vfork: the child borrows the parent's memory, the parent waits until it execs or ends, the other threads go on; and
 * what the child does to its descriptors, mask, handlers of signals and ids is its own.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int stop;
static volatile long beats;

static void *beat(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		beats++;
		sleep_ns(MS);
	}
	return NULL;
}

static void *compute(void *arg)
{
	volatile uint64_t n = 0;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		n++;
	return NULL;
}

static void reap(pid_t pid, int code)
{
	int status;

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), code);
}

static void usr1(int sig)
{
	(void)sig;
}

/* Writing through the frame of the caller, the child shows that memory is shared and that the parent waited. */
static void shared_memory(void)
{
	volatile int wrote = 0;
	volatile pid_t seen = 0;
	uint64_t start = now_ns();
	pid_t pid = vfork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct timespec ts = { 0, 20 * MS };

		seen = getpid();
		nanosleep(&ts, NULL);
		wrote = 1;
		_exit(7);
	}
	CHECK_EQ(wrote, 1);
	CHECK_EQ(seen, pid);
	CHECK(now_ns() - start >= 20 * MS);
	reap(pid, 7);
}

static void *reads_pipe(void *arg)
{
	char c = 0;

	CHECK_EQ(read(*(int *)arg, &c, 1), 1);
	CHECK_EQ(c, 'x');
	return NULL;
}

/* The child closes what another thread of the parent waits for. */
static void descriptors(void)
{
	int fd[2];
	pthread_t t;
	pid_t pid;

	CHECK_EQ(pipe(fd), 0);
	t = start_thread(reads_pipe, &fd[0]);
	sleep_ns(5 * MS);
	pid = vfork();
	CHECK(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		if (null < 0 || dup2(null, fd[0]) != fd[0] || close(fd[0]) != 0 || close(fd[1]) != 0)
			_exit(1);
		_exit(close(fd[1]) == -1 && errno == EBADF ? 7 : 2);
	}
	reap(pid, 7);
	sleep_ns(2 * MS);
	CHECK_EQ(write(fd[1], "x", 1), 1);
	join_thread(t);
	close(fd[0]);
	close(fd[1]);
}

static void signals(void)
{
	struct sigaction sa = { .sa_handler = usr1 }, old;
	sigset_t set, now;
	pid_t pid;

	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	pid = vfork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		sigprocmask(SIG_SETMASK, NULL, &now);
		if (!sigismember(&now, SIGUSR2) || sigismember(&now, SIGUSR1))
			_exit(1);
		sigemptyset(&set);
		sigprocmask(SIG_SETMASK, &set, NULL);
		if (sigaction(SIGUSR1, &dfl, NULL) != 0)
			_exit(2);
		_exit(7);
	}
	reap(pid, 7);
	CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
	CHECK(sigismember(&now, SIGUSR2));
	CHECK(!sigismember(&now, SIGUSR1));
	CHECK_EQ(sigaction(SIGUSR1, NULL, &old), 0);
	CHECK(old.sa_handler == usr1);
	raise(SIGUSR1);
	sigemptyset(&set);
	CHECK_EQ(pthread_sigmask(SIG_SETMASK, &set, NULL), 0);
}

/* Signals that the child sends itself, by whichever name, are its own. */
static void signals_to_itself(void)
{
	for (int how = 0; how < 5; how++) {
		int status;
		pid_t pid = vfork();

		CHECK(pid >= 0);
		if (pid == 0) {
			if (how == 0)
				raise(SIGTERM);
			else if (how == 1)
				kill(getpid(), SIGTERM);
			else if (how == 2)
				tgkill(getpid(), gettid(), SIGTERM);
			else if (how == 3)
				pthread_kill(pthread_self(), SIGTERM);
			else
				sigqueue(getpid(), SIGTERM, (union sigval){ 0 });
			_exit(1);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFSIGNALED(status));
		CHECK_EQ(WTERMSIG(status), SIGTERM);
	}
}

/* So is its nice value, by its process id too. */
static void nice_by_id(void)
{
	int before = getpriority(PRIO_PROCESS, 0);
	pid_t pid = vfork();

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(setpriority(PRIO_PROCESS, (id_t)getpid(), 9) == 0 && getpriority(PRIO_PROCESS, 0) == 9 ? 7 : 1);
	reap(pid, 7);
	CHECK_EQ(getpriority(PRIO_PROCESS, 0), before);
	CHECK_EQ(getpriority(PRIO_PROCESS, (id_t)getpid()), 0);
}

static void ids(void)
{
	pid_t pid;

	if (geteuid() != 0)
		return;
	pid = vfork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(setgid(65534) == 0 && setuid(65534) == 0 && geteuid() == 65534 ? 7 : 1);
	reap(pid, 7);
	CHECK_EQ(geteuid(), 0);
	CHECK_EQ(getegid(), 0);
}

static void *ids_elsewhere(void *arg)
{
	(void)arg;
	if (getuid() == 0)
		CHECK_EQ(geteuid(), 0);
	return NULL;
}

/* Not a pid that anybody has: exec fails, and the child says so through shared memory; then one that works. */
static void execs(void)
{
	char *none[] = { "none", NULL }, *sh[] = { "/bin/sh", "-c", "exit $(($# + 3))", "sh", "a", NULL };
	volatile int err = 0;
	pid_t pid = vfork();

	CHECK(pid >= 0);
	if (pid == 0) {
		execv("/does/not/exist", none);
		err = errno;
		_exit(127);
	}
	CHECK_EQ(err, ENOENT);
	reap(pid, 127);
	pid = vfork();
	CHECK(pid >= 0);
	if (pid == 0) {
		execv("/bin/sh", sh);
		_exit(127);
	}
	reap(pid, 4);
}

/* Children do not get the timer slack of our own kernel threads. */
static int slack;
static void slack_is_ours(void)
{
	pid_t pid = vfork();

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == slack ? 7 : 1);
	reap(pid, 7);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == slack ? 7 : 1);
	reap(pid, 7);
}

static void all(void)
{
	shared_memory();
	execs();
	descriptors();
	ids();
	slack_is_ours();
	signals_to_itself();
	nice_by_id();
}

static void *many(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++) {
		volatile int local = i;
		pid_t pid = vfork();

		CHECK(pid >= 0);
		if (pid == 0)
			_exit(local & 0x7f);
		CHECK_EQ(local, i);
		reap(pid, i & 0x7f);
	}
	all();
	return NULL;
}

int main(void)
{
	pthread_t t[8];
	long before;

	setvbuf(stdout, NULL, _IONBF, 0);
	slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	all();				/* before the first thread */
	signals();
	t[0] = start_thread(beat, NULL);
	t[1] = start_thread(compute, NULL);
	t[2] = start_thread(compute, NULL);
	all();
	signals();
	before = beats;
	for (int i = 0; i < 3; i++)
		shared_memory();
	CHECK(beats > before);		/* the others go on meanwhile */
	for (int i = 3; i < 7; i++)
		t[i] = start_thread(many, NULL);
	for (int i = 3; i < 7; i++)
		join_thread(t[i]);
	signals();
	for (int i = 0; i < 4; i++)
		join_thread(start_thread(ids_elsewhere, NULL));
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 3; i++)
		join_thread(t[i]);
	puts("done");
	return 0;
}
