/* SPDX-License-Identifier: MIT
 * Signals that a thread sends to itself or to its own process: taken before the call returns, by the thread that POSIX
 * and Linux name, in the order that they ask for, with the action's flags.
 */
#include <setjmp.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "check.h"

static __thread volatile int mine;
static pthread_t caught_by;
static volatile int stop, order[16], values[16];
static volatile sig_atomic_t caught;
static sigjmp_buf out;

static void count(int sig)
{
	(void)sig;
	mine++;
	caught_by = pthread_self();
	caught++;
}

static void note(int sig, siginfo_t *info, void *uc)
{
	(void)uc;
	order[caught] = sig;
	values[caught++] = info->si_value.sival_int;
}

static void leave(int sig)
{
	siglongjmp(out, sig);
}

static void block_for_good(int sig, siginfo_t *info, void *uc)
{
	(void)info;
	sigaddset(&((ucontext_t *)uc)->uc_sigmask, SIGUSR2);
	mine += sig == SIGUSR1;
}

static void handle(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	CHECK_EQ(sigaction(sig, &sa, NULL), 0);
}

static void handle3(int sig, void (*fn)(int, siginfo_t *, void *))
{
	struct sigaction sa = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO };

	CHECK_EQ(sigaction(sig, &sa, NULL), 0);
}

static void mask(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	CHECK_EQ(pthread_sigmask(how, &set, NULL), 0);
}

static bool blocked(int sig)
{
	sigset_t set;

	CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &set), 0);
	return sigismember(&set, sig);
}

static bool pending(int sig)
{
	sigset_t set;

	CHECK_EQ(sigpending(&set), 0);
	return sigismember(&set, sig);
}

/* By raise and by pthread_kill; not blocked, and blocked. */
static void *selves(void *arg)
{
	(void)arg;
	for (int i = 0; i < 300; i++) {
		CHECK_EQ(i % 2 ? raise(SIGUSR1) : pthread_kill(pthread_self(), SIGUSR1), 0);
		CHECK_EQ(mine, 2 * i + 1);
		CHECK(!blocked(SIGUSR1));
		mask(SIG_BLOCK, SIGUSR1);
		CHECK_EQ(i % 2 ? raise(SIGUSR1) : pthread_kill(pthread_self(), SIGUSR1), 0);
		CHECK(pending(SIGUSR1));
		if (i % 16 == 0)
			sched_yield();
		CHECK_EQ(mine, 2 * i + 1);
		mask(SIG_UNBLOCK, SIGUSR1);
		CHECK_EQ(mine, 2 * i + 2);
		CHECK(!pending(SIGUSR1));
	}
	return NULL;
}

static void *computes(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return arg;
}

/* kill(getpid()) from another thread: the first thread is the one. */
static void *kills(void *arg)
{
	sleep_ns(20 * MS);
	CHECK_EQ(kill(getpid(), SIGUSR1), 0);
	return arg;
}

static void first_thread(void)
{
	pthread_t t[3];

	for (int i = 0; i < 2; i++)
		t[i] = start_thread(computes, NULL);
	for (int i = 0; i < 5; i++) {
		sigset_t none;

		sigemptyset(&none);
		mask(SIG_BLOCK, SIGUSR1);
		caught = 0;
		t[2] = start_thread(kills, NULL);
		/* the new thread blocks it. Not pause(): on a loaded machine the signal may come before we are there */
		CHECK_EQ(sigsuspend(&none), -1);
		CHECK_EQ(errno, EINTR);
		mask(SIG_UNBLOCK, SIGUSR1);
		CHECK(pthread_equal(caught_by, pthread_self()));
		CHECK_EQ(caught, 1);
		pthread_join(t[2], NULL);
	}
	for (int i = 0; i < 5; i++) {
		caught = 0;
		t[2] = start_thread(kills, NULL);
		pthread_join(t[2], NULL);
		while (!caught)
			sleep_ns(MS);
		CHECK(pthread_equal(caught_by, pthread_self()));
	}
	for (int i = 0; i < 2; i++) {
		caught = 0;
		alarm(1);
		CHECK_EQ(pause(), -1);
		CHECK(pthread_equal(caught_by, pthread_self()));
		CHECK_EQ(caught, 1);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

/* A thread that is the only one to accept a signal of the process takes it before kill returns. */
static void *only_one(void *arg)
{
	mask(SIG_UNBLOCK, SIGUSR1);
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(kill(getpid(), SIGUSR1), 0);
		CHECK_EQ(mine, i + 1);
	}
	return arg;
}

static void process_wide(void)
{
	caught = 0;
	mask(SIG_BLOCK, SIGUSR1);
	pthread_join(start_thread(only_one, NULL), NULL);
	CHECK_EQ(caught, 200);
	for (int i = 0; i < 200; i++) {		/* nobody accepts it */
		CHECK_EQ(kill(getpid(), SIGUSR1), 0);
		CHECK(pending(SIGUSR1));
		CHECK_EQ(caught, 200 + i);
		mask(SIG_UNBLOCK, SIGUSR1);
		CHECK_EQ(caught, 201 + i);
		mask(SIG_BLOCK, SIGUSR1);
	}
	mask(SIG_UNBLOCK, SIGUSR1);
}

/* Real-time signals: the lowest number first, of one number in the order sent, each with its value. */
static void *queue_order(void *arg)
{
	static const int sent[] = { 42, 40, 41, 40, 42, 40 }, want[] = { 40, 40, 40, 41, 42, 42 }, value[] = { 1, 3, 5, 2, 0, 4 };
	sigset_t set;

	(void)arg;
	sigemptyset(&set);
	for (int s = 40; s <= 42; s++) {
		struct sigaction sa = { .sa_sigaction = note, .sa_flags = SA_SIGINFO };

		sigfillset(&sa.sa_mask);
		CHECK_EQ(sigaction(s, &sa, NULL), 0);
		sigaddset(&set, s);
	}
	for (int round = 0; round < 2; round++) {
		caught = 0;
		for (int i = 0; i < 6; i++)
			CHECK_EQ(round ? sigqueue(getpid(), sent[i], (union sigval){ .sival_int = i }) :
				 pthread_sigqueue(pthread_self(), sent[i], (union sigval){ .sival_int = i }), 0);
		for (int i = 0; i < 6; i++) {
			siginfo_t info;

			CHECK_EQ(sigwaitinfo(&set, &info), want[i]);
			CHECK_EQ(info.si_value.sival_int, value[i]);
			CHECK_EQ(info.si_code, SI_QUEUE);
			CHECK_EQ(info.si_pid, getpid());
		}
		CHECK_EQ(caught, 0);
	}
	return NULL;
}

static int status_of(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		fn();
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		CHECK_EQ(errno, EINTR);
	return status;
}

static void *raises_twice(void *arg)
{
	handle(SIGUSR1, count, SA_RESETHAND);
	raise(SIGUSR1);
	if (mine == 1)
		raise(SIGUSR1);
	return arg;
}

static void reset(void)
{
	pthread_join(start_thread(raises_twice, NULL), NULL);
}

static void *aborts(void *arg)
{
	handle(SIGABRT, count, 0);
	mask(SIG_BLOCK, SIGABRT);
	abort();
	return arg;
}

static void dies(void)
{
	pthread_join(start_thread(aborts, NULL), NULL);
}

static void *survives(void *arg)
{
	handle(SIGABRT, leave, 0);
	if (sigsetjmp(out, 1) == 0)
		abort();
	CHECK(!blocked(SIGABRT));
	if (sigsetjmp(out, 1) == 0)
		abort();
	exit(7);
	return arg;
}

static void jumps(void)
{
	pthread_join(start_thread(survives, NULL), NULL);
}

static void *stopped(void *arg)
{
	raise(SIGSTOP);
	return arg;
}

static void *flags(void *arg)
{
	struct signalfd_siginfo si;
	sigset_t set;
	int fd;

	mask(SIG_UNBLOCK, SIGUSR2);
	handle3(SIGUSR1, block_for_good);
	mine = 0;
	raise(SIGUSR1);
	CHECK_EQ(mine, 1);
	CHECK(blocked(SIGUSR2) && !blocked(SIGUSR1));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	fd = signalfd(-1, &set, 0);
	CHECK(fd >= 0);
	CHECK_EQ(raise(SIGUSR2), 0);
	CHECK_EQ(read(fd, &si, sizeof(si)), sizeof(si));
	CHECK_EQ(si.ssi_signo, SIGUSR2);
	close(fd);
	handle(SIGUSR1, SIG_IGN, 0);
	CHECK_EQ(raise(SIGUSR1), 0);
	errno = 0;
	CHECK_EQ(raise(-1), -1);
	CHECK_EQ(errno, EINVAL);
	return arg;
}

int main(void)
{
	pthread_t t[16];
	int status;
	pid_t pid;

	alarm(0);
	handle(SIGUSR1, count, 0);
	handle(SIGALRM, count, 0);
	for (int i = 0; i < 16; i++)
		t[i] = start_thread(selves, NULL);
	for (int i = 0; i < 16; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(caught >= 1, 1);
	first_thread();
	process_wide();
	for (int s = 40; s <= 42; s++)
		mask(SIG_BLOCK, s);
	pthread_join(start_thread(queue_order, NULL), NULL);

	status = status_of(reset);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
	status = status_of(dies);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	status = status_of(jumps);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);

	pid = fork();
	if (pid == 0) {
		pthread_join(start_thread(stopped, NULL), NULL);
		_exit(8);
	}
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	CHECK_EQ(kill(pid, SIGCONT), 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 8);

	mask(SIG_BLOCK, SIGUSR2);
	pthread_join(start_thread(flags, NULL), NULL);
	puts("selfsig: ok");
	return 0;
}
