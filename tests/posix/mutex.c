/* SPDX-License-Identifier: MIT
 * Mutexes: the four types, their errors, static initialisers, the timed forms.
 */
#include "req.h"

static pthread_mutex_t made(int type)
{
	pthread_mutex_t m;
	pthread_mutexattr_t a;

	NEED(pthread_mutexattr_init(&a) == 0 && pthread_mutexattr_settype(&a, type) == 0);
	REQ_IS("pthread_mutex_init: if successful, shall return zero", pthread_mutex_init(&m, &a), 0);
	pthread_mutexattr_destroy(&a);
	return m;
}

static void *do_lock(void *m) { return (void *)(intptr_t)pthread_mutex_lock(m); }
static void *do_trylock(void *m)
{
	int err = pthread_mutex_trylock(m);

	if (!err)
		pthread_mutex_unlock(m);
	return (void *)(intptr_t)err;
}
static void *do_unlock(void *m) { return (void *)(intptr_t)pthread_mutex_unlock(m); }
static void *do_destroy(void *m) { return (void *)(intptr_t)pthread_mutex_destroy(m); }

static void basics(int type, const char *name)
{
	pthread_mutex_t m = made(type);

	fprintf(stdout, "%s\n", name);
	REQ_IS("lock: the mutex object shall be locked by the calling thread", pthread_mutex_lock(&m), 0);
	REQ_IS("trylock: EBUSY, the mutex could not be acquired because it was already locked", in_thread(do_trylock, &m), EBUSY);
	if (type != PTHREAD_MUTEX_RECURSIVE)
		REQ_IS("trylock: if locked by any thread, including the current one, the call shall return immediately (EBUSY)",
		       pthread_mutex_trylock(&m), EBUSY);
	REQ_IS("destroy: EBUSY, an attempt to destroy a locked mutex is detected", pthread_mutex_destroy(&m), EBUSY);
	REQ_IS("destroy: the same by another thread", in_thread(do_destroy, &m), EBUSY);
	REQ_IS("unlock shall release the mutex", pthread_mutex_unlock(&m), 0);
	REQ_IS("trylock of a free mutex shall return zero", in_thread(do_trylock, &m), 0);
	REQ_IS("trylock of a free mutex, same thread", pthread_mutex_trylock(&m), 0);
	REQ_IS("unlock after trylock", pthread_mutex_unlock(&m), 0);
	REQ_IS("it shall be safe to destroy an initialized mutex that is unlocked", pthread_mutex_destroy(&m), 0);
	REQ_IS("a destroyed mutex object can be reinitialized using pthread_mutex_init", pthread_mutex_init(&m, NULL), 0);
	REQ_IS("and locked", pthread_mutex_lock(&m), 0);
	REQ_IS("and unlocked", pthread_mutex_unlock(&m), 0);
	REQ_IS("and destroyed", pthread_mutex_destroy(&m), 0);
}

static void types(void)
{
	pthread_mutex_t e = made(PTHREAD_MUTEX_ERRORCHECK), r = made(PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_t re = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP, ee = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
	pthread_mutex_t ad = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP, n = PTHREAD_MUTEX_INITIALIZER;
	struct timespec soon = in_ms(CLOCK_REALTIME, 1000), bad = { 1, -1 };

	REQ_IS("errorcheck: lock", pthread_mutex_lock(&e), 0);
	REQ_IS("lock: EDEADLK, type ERRORCHECK and the current thread already owns the mutex", pthread_mutex_lock(&e), EDEADLK);
	REQ_IS("timedlock: EDEADLK, the current thread already owns the mutex", pthread_mutex_timedlock(&e, &soon), EDEADLK);
	REQ_IS("clocklock: EDEADLK, the same", pthread_mutex_clocklock(&e, CLOCK_MONOTONIC, &soon), EDEADLK);
	REQ_IS("timedlock: EDEADLK also where the time is invalid, nothing blocks", pthread_mutex_timedlock(&e, &bad), EDEADLK);
	REQ_IS("trylock of one's own errorcheck mutex: EBUSY", pthread_mutex_trylock(&e), EBUSY);
	REQ_IS("unlock: EPERM, type ERRORCHECK and the current thread does not own the mutex", in_thread(do_unlock, &e), EPERM);
	REQ_IS("the failed calls left it locked once", pthread_mutex_unlock(&e), 0);
	REQ_IS("unlock: EPERM, ERRORCHECK, not locked", pthread_mutex_unlock(&e), EPERM);

	REQ_IS("recursive: lock", pthread_mutex_lock(&r), 0);
	REQ_IS("a recursive mutex: relocking shall succeed", pthread_mutex_lock(&r), 0);
	REQ_IS("trylock of a recursive mutex owned by the caller: count incremented, success", pthread_mutex_trylock(&r), 0);
	REQ_IS("timedlock of a recursive mutex owned by the caller", pthread_mutex_timedlock(&r, &bad), 0);
	REQ_IS("clocklock of a recursive mutex owned by the caller", pthread_mutex_clocklock(&r, CLOCK_REALTIME, &bad), 0);
	REQ_IS("unlock: EPERM, type RECURSIVE and the current thread does not own the mutex", in_thread(do_unlock, &r), EPERM);
	for (int i = 0; i < 4; i++) {
		REQ_IS("unlock shall decrement the count", pthread_mutex_unlock(&r), 0);
		REQ_IS("not available to others before the count reaches zero", in_thread(do_trylock, &r), EBUSY);
	}
	REQ_IS("the last unlock", pthread_mutex_unlock(&r), 0);
	REQ_IS("when the count reaches zero, the mutex shall become available for other threads", in_thread(do_trylock, &r), 0);
	REQ_IS("unlock: EPERM, RECURSIVE, not locked", pthread_mutex_unlock(&r), EPERM);

	REQ_IS("static initialiser, recursive", pthread_mutex_lock(&re), 0);
	REQ_IS("static initialiser, recursive: again", pthread_mutex_lock(&re), 0);
	REQ_IS("unlock", pthread_mutex_unlock(&re), 0);
	REQ_IS("unlock", pthread_mutex_unlock(&re), 0);
	REQ_IS("static initialiser, errorcheck", pthread_mutex_lock(&ee), 0);
	REQ_IS("static initialiser, errorcheck: EDEADLK", pthread_mutex_lock(&ee), EDEADLK);
	REQ_IS("unlock", pthread_mutex_unlock(&ee), 0);
	REQ_IS("static initialiser, adaptive", pthread_mutex_lock(&ad), 0);
	REQ_IS("adaptive: EBUSY", in_thread(do_trylock, &ad), EBUSY);
	REQ_IS("unlock", pthread_mutex_unlock(&ad), 0);
	REQ_IS("static initialiser", pthread_mutex_lock(&n), 0);
	REQ_IS("normal: EBUSY", in_thread(do_trylock, &n), EBUSY);
	REQ_IS("unlock", pthread_mutex_unlock(&n), 0);
	REQ_IS("destroy of a statically initialised mutex", pthread_mutex_destroy(&n), 0);
	pthread_mutex_destroy(&e);
	pthread_mutex_destroy(&r);
}

/* NORMAL: relocking deadlocks; a timed lock shows it. */
static void normal(void)
{
	pthread_mutex_t m = made(PTHREAD_MUTEX_NORMAL);
	struct timespec ts = in_ms(CLOCK_REALTIME, 30);

	pthread_mutex_lock(&m);
	REQ_IS("a NORMAL mutex: relocking deadlocks; the timed form: ETIMEDOUT", pthread_mutex_timedlock(&m, &ts), ETIMEDOUT);
	REQ("and not before its time", is_past(CLOCK_REALTIME, &ts));
	pthread_mutex_unlock(&m);
	pthread_mutex_destroy(&m);
}

struct timed {
	pthread_mutex_t *m;
	clockid_t clock;
	struct timespec ts;
	int how;
};

static void *do_timed(void *arg)
{
	struct timed *t = arg;
	int err = t->how ? pthread_mutex_clocklock(t->m, t->clock, &t->ts) : pthread_mutex_timedlock(t->m, &t->ts);

	if (!err)
		pthread_mutex_unlock(t->m);
	return (void *)(intptr_t)err;
}

static void timed(int type)
{
	static const long bad_ns[] = { -1, 1000000000, 2000000000, INT32_MIN };
	pthread_mutex_t m = made(type);
	struct timed t = { &m, CLOCK_REALTIME, in_ms(CLOCK_REALTIME, -1000), 0 };

	REQ_IS("timedlock: under no circumstance shall it fail with a timeout if the mutex can be locked immediately", in_thread(do_timed, &t), 0);
	t.ts.tv_nsec = -1;
	REQ_IS("timedlock: the validity of abstime need not be checked if the mutex can be locked immediately", in_thread(do_timed, &t), 0);
	pthread_mutex_lock(&m);
	for (t.how = 0; t.how < 2; t.how++) {
		for (int c = 0; c < 2; c++) {
			t.clock = c && t.how ? CLOCK_MONOTONIC : CLOCK_REALTIME;
			t.ts = in_ms(t.clock, -1);
			REQ_IS("timedlock: ETIMEDOUT if the time has been passed at the time of the call", in_thread(do_timed, &t), ETIMEDOUT);
			t.ts = (struct timespec){ 0, 0 };
			REQ_IS("timedlock: ETIMEDOUT, the epoch", in_thread(do_timed, &t), ETIMEDOUT);
			t.ts = (struct timespec){ -5, 0 };
			REQ_IS("timedlock: ETIMEDOUT, before the epoch", in_thread(do_timed, &t), ETIMEDOUT);
			t.ts = in_ms(t.clock, 20);
			REQ_IS("timedlock: ETIMEDOUT, the mutex could not be locked before the timeout expired", in_thread(do_timed, &t), ETIMEDOUT);
			REQ("timedlock: and not before", is_past(t.clock, &t.ts));
			for (int i = 0; i < 4; i++) {
				t.ts = in_ms(t.clock, 1000);
				t.ts.tv_nsec = bad_ns[i];
				REQ_IS("timedlock: EINVAL, would have blocked, and nanoseconds less than zero or 1000 million or more",
				       in_thread(do_timed, &t), EINVAL);
			}
		}
	}
	t.how = 1;
	t.clock = CLOCK_PROCESS_CPUTIME_ID;
	t.ts = in_ms(CLOCK_REALTIME, 1000);
	REQ_IS("clocklock: EINVAL, the clock is not supported", in_thread(do_timed, &t), EINVAL);
	t.clock = 99;
	REQ_IS("clocklock: EINVAL, the clock does not exist", in_thread(do_timed, &t), EINVAL);
	pthread_mutex_unlock(&m);
	REQ_IS("what failed left it free", in_thread(do_trylock, &m), 0);

	/* succeeds when it becomes free in time */
	t.how = 0;
	t.clock = CLOCK_REALTIME;
	t.ts = in_ms(CLOCK_REALTIME, 20000);
	pthread_mutex_lock(&m);
	pthread_t waiter = start(do_timed, &t);
	sleep_ms(10);
	pthread_mutex_unlock(&m);
	REQ_IS("timedlock: if the mutex becomes available before the timeout, it is locked", (intptr_t)finish(waiter), 0);
	pthread_mutex_destroy(&m);
}

/* A thread blocked on a mutex takes a signal, and resumes waiting as if it was not interrupted. */
static int handled;
static void on_usr1(int sig) { (void)sig; handled++; }

static void signals(int flags)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = flags };
	struct timed t = { &m, CLOCK_REALTIME, in_ms(CLOCK_REALTIME, 20000), 0 };
	pthread_t w, w2;

	sigaction(SIGUSR1, &sa, NULL);
	set(&handled, 0);
	pthread_mutex_lock(&m);
	w = start(do_lock, &m);
	sleep_ms(10);
	pthread_kill(w, SIGUSR1);
	until(&handled, 1);
	REQ_IS("upon return from the handler the thread shall resume waiting", pthread_tryjoin_np(w, NULL), EBUSY);
	w2 = start(do_timed, &t);
	sleep_ms(10);
	pthread_kill(w2, SIGUSR1);
	until(&handled, 2);
	sleep_ms(5);
	pthread_mutex_unlock(&m);
	REQ_IS("lock shall not return an error code of EINTR", (intptr_t)finish(w), 0);
	pthread_mutex_unlock(&m);
	REQ_IS("timedlock shall not return an error code of EINTR", (intptr_t)finish(w2), 0);
}

/* Mutual exclusion among many, mixing the ways to lock. */
static pthread_mutex_t shared_m = PTHREAD_MUTEX_INITIALIZER;
static int inside, count;

static void *worker(void *arg)
{
	for (int i = 0; i < 300; i++) {
		struct timespec ts = in_ms(CLOCK_REALTIME, 20000);
		int err;

		switch ((i + (int)(intptr_t)arg) % 3) {
		case 0:
			err = pthread_mutex_lock(&shared_m);
			break;
		case 1:
			err = pthread_mutex_timedlock(&shared_m, &ts);
			break;
		default:
			while ((err = pthread_mutex_trylock(&shared_m)) == EBUSY)
				sched_yield();
		}
		REQ_IS("locked", err, 0);
		REQ_IS("the mutex shall be owned by one thread at a time", ++inside, 1);
		if (i % 50 == 0)
			sched_yield();
		count++;
		inside--;
		pthread_mutex_unlock(&shared_m);
	}
	return NULL;
}

int main(void)
{
	pthread_t t[8];

	basics(PTHREAD_MUTEX_NORMAL, "normal");
	basics(PTHREAD_MUTEX_ERRORCHECK, "errorcheck");
	basics(PTHREAD_MUTEX_RECURSIVE, "recursive");
	basics(PTHREAD_MUTEX_ADAPTIVE_NP, "adaptive");
	types();
	normal();
	timed(PTHREAD_MUTEX_NORMAL);
	timed(PTHREAD_MUTEX_RECURSIVE);
	timed(PTHREAD_MUTEX_ERRORCHECK);
	signals(0);
	signals(SA_RESTART);
	for (int i = 0; i < 8; i++)
		t[i] = start(worker, (void *)(intptr_t)i);
	for (int i = 0; i < 8; i++)
		finish(t[i]);
	REQ_IS("no turn was lost", count, 8 * 300);
	return req_end();
}
