/* SPDX-License-Identifier: MIT
 * Signals that wait until a thread takes them: of a timer there is one, which tells how many expirations it stands for, and none at all once
 * the timer is deleted; queued ones come in their order, each with its value, however many they are. Those that a thread has not taken end with
 * it.
 */
#include "synctest.h"

#include <sched.h>
#include <signal.h>
#include <sys/utsname.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { SIG_TIMER = 40, SIG_QUEUE = 41, PERIOD_MS = 1, WAIT_MS = 400, DELETED = 40, QUEUED = 1000 };

static sigset_t set;
static int stop, step, strays;

/* Linux drops what is pending of a deleted timer since 6.13. */
static bool kernel_drops(void)
{
	struct utsname u;
	int major = 0, minor = 0;

	CHECK_IS(uname(&u), 0);
	CHECK_IS(sscanf(u.release, "%d.%d", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 13);
}

static timer_t timer_by(int notify)
{
	struct itimerspec its = { { 0, PERIOD_MS * 1000000 }, { 0, PERIOD_MS * 1000000 } };
	struct sigevent ev;
	timer_t t;

	memset(&ev, 0, sizeof ev);
	ev.sigev_notify = notify;
	ev.sigev_signo = SIG_TIMER;
	ev.sigev_value.sival_int = 77;
	ev.sigev_notify_thread_id = gettid();
	CHECK_IS(timer_create(CLOCK_MONOTONIC, &ev, &t), 0);
	CHECK_IS(timer_settime(t, 0, &its, NULL), 0);
	return t;
}

static void take(timer_t t, long *expirations)
{
	siginfo_t info;
	int r;

	while ((r = sigwaitinfo(&set, &info)) == -1)
		CHECK_IS(errno, EINTR);
	CHECK_IS(r, SIG_TIMER);
	CHECK_IS(info.si_code, SI_TIMER);
	CHECK_IS(info.si_value.sival_int, 77);
	CHECK_IS(timer_getoverrun(t), info.si_overrun);
	*expirations += 1 + info.si_overrun;
}

/* Nothing is counted twice, nothing is lost. */
static void counts(int notify)
{
	uint64_t begin = now_ns(CLOCK_MONOTONIC), ms;
	timer_t t = timer_by(notify);
	long expirations = 0;

	sleep_ms(WAIT_MS);
	take(t, &expirations);
	CHECK(expirations >= WAIT_MS / PERIOD_MS / 2);
	for (int i = 0; i < 50; i++)
		take(t, &expirations);
	ms = (now_ns(CLOCK_MONOTONIC) - begin) / 1000000;
	CHECK(expirations <= (long)ms / PERIOD_MS + 1);
	CHECK_IS(timer_delete(t), 0);
}

static void deleted(int notify)
{
	struct timespec ts = { 0, 2000000 };
	siginfo_t info;

	for (int i = 0; i < DELETED; i++) {
		timer_t t = timer_by(notify);

		for (uint64_t until = now_ns(CLOCK_MONOTONIC) + 1000000u + (uint64_t)i * 50000u; now_ns(CLOCK_MONOTONIC) < until; )
			;
		CHECK_IS(timer_delete(t), 0);
		CHECK_IS(sigtimedwait(&set, &info, &ts), -1);
		CHECK_IS(errno, EAGAIN);
	}
}

static void queued(void)
{
	union sigval v;
	siginfo_t info;
	int n = 0, err = 0;

	for (; n < QUEUED && err == 0; n += err == 0) {
		v.sival_int = n;
		err = pthread_sigqueue(pthread_self(), SIG_QUEUE, v);
	}
	/* RLIMIT_SIGPENDING */
	if (err)
		CHECK_IS(err, EAGAIN);
	CHECK(n > 30);
	for (int i = 0; i < n; i++) {
		CHECK_IS(sigwaitinfo(&set, &info), SIG_QUEUE);
		CHECK_IS(info.si_code, SI_QUEUE);
		CHECK_IS(info.si_value.sival_int, i);
	}
}

static void *bystander(void *arg)
{
	sigset_t now;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		sleep_ms(1);
	CHECK_IS(sigpending(&now), 0);
	CHECK_IS(sigismember(&now, SIG_QUEUE), 0);
	return arg;
}

static void stray(int sig)
{
	(void)sig;
	__atomic_fetch_add(&strays, 1, __ATOMIC_RELAXED);
}

static void *leaves_one(void *arg)
{
	__atomic_store_n(&step, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&step, __ATOMIC_ACQUIRE) != 2)
		sched_yield();
	for (int i = 0; i < 20; i++)
		sched_yield();
	return arg;
}

static void *takes_all(void *arg)
{
	CHECK_IS(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
	for (int i = 0; i < 20; i++)
		sched_yield();
	return arg;
}

static void ended(void)
{
	pthread_t id;

	CHECK(signal(SIG_QUEUE, stray) != SIG_ERR);
	for (int i = 0; i < 20; i++) {
		__atomic_store_n(&step, 0, __ATOMIC_RELEASE);
		CHECK_IS(pthread_create(&id, NULL, leaves_one, NULL), 0);
		while (__atomic_load_n(&step, __ATOMIC_ACQUIRE) != 1)
			sched_yield();
		CHECK_IS(pthread_kill(id, SIG_QUEUE), 0);
		__atomic_store_n(&step, 2, __ATOMIC_RELEASE);
		CHECK_IS(pthread_join(id, NULL), 0);
		for (int k = 0; k < 3; k++) {
			CHECK_IS(pthread_create(&id, NULL, takes_all, NULL), 0);
			CHECK_IS(pthread_join(id, NULL), 0);
		}
	}
	CHECK_IS(__atomic_load_n(&strays, __ATOMIC_RELAXED), 0);
	CHECK(signal(SIG_QUEUE, SIG_DFL) != SIG_ERR);
}

static void *all(void *arg)
{
	counts(SIGEV_THREAD_ID);
	counts(SIGEV_SIGNAL);
	if (kernel_drops()) {
		deleted(SIGEV_THREAD_ID);
		deleted(SIGEV_SIGNAL);
	}
	queued();
	ended();
	return arg;
}

int main(void)
{
	pthread_t by, id;

	sigemptyset(&set);
	sigaddset(&set, SIG_TIMER);
	sigaddset(&set, SIG_QUEUE);
	CHECK_IS(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	CHECK_IS(pthread_create(&by, NULL, bystander, NULL), 0);
	CHECK_IS(pthread_create(&id, NULL, all, NULL), 0);
	CHECK_IS(pthread_join(id, NULL), 0);
	all(NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	CHECK_IS(pthread_join(by, NULL), 0);
	return 0;
}
