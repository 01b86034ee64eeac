/* SPDX-License-Identifier: MIT
 * Read-write locks: who gets in beside whom, errors, timed forms, preferences, signals.
 */
#include "req.h"

struct call {
	pthread_rwlock_t *l;
	int write, timed;		/* timed: 1 timed, 2 clock */
	clockid_t clock;
	struct timespec ts;
	bool keep;
};

static int call(struct call *c)
{
	if (c->timed == 0)
		return c->write ? pthread_rwlock_wrlock(c->l) : pthread_rwlock_rdlock(c->l);
	if (c->timed == 1)
		return c->write ? pthread_rwlock_timedwrlock(c->l, &c->ts) : pthread_rwlock_timedrdlock(c->l, &c->ts);
	return c->write ? pthread_rwlock_clockwrlock(c->l, c->clock, &c->ts) : pthread_rwlock_clockrdlock(c->l, c->clock, &c->ts);
}

static void *do_call(void *arg)
{
	struct call *c = arg;
	int err = call(c);

	if (!err && !c->keep)
		pthread_rwlock_unlock(c->l);
	return (void *)(intptr_t)err;
}

static void *try_read(void *l)
{
	int err = pthread_rwlock_tryrdlock(l);

	if (!err)
		pthread_rwlock_unlock(l);
	return (void *)(intptr_t)err;
}

static void *try_write(void *l)
{
	int err = pthread_rwlock_trywrlock(l);

	if (!err)
		pthread_rwlock_unlock(l);
	return (void *)(intptr_t)err;
}

static void basics(pthread_rwlock_t *l)
{
	REQ_IS("rdlock: acquires if no writer holds the lock and none waits", pthread_rwlock_rdlock(l), 0);
	REQ_IS("a thread may hold multiple concurrent read locks", pthread_rwlock_rdlock(l), 0);
	REQ_IS("tryrdlock beside readers", in_thread(try_read, l), 0);
	REQ_IS("trywrlock: shall fail if any thread currently holds it for reading: EBUSY", in_thread(try_write, l), EBUSY);
	REQ_IS("trywrlock: EBUSY for the reader itself", pthread_rwlock_trywrlock(l), EBUSY);
	REQ_IS("unlock one of two read locks", pthread_rwlock_unlock(l), 0);
	REQ_IS("it remains held for reading", in_thread(try_write, l), EBUSY);
	REQ_IS("unlock the last read lock", pthread_rwlock_unlock(l), 0);
	REQ_IS("the lock shall be put in the unlocked state with no owners", in_thread(try_write, l), 0);
	REQ_IS("wrlock", pthread_rwlock_wrlock(l), 0);
	REQ_IS("tryrdlock: EBUSY, a writer holds the lock", in_thread(try_read, l), EBUSY);
	REQ_IS("trywrlock: EBUSY, a writer holds the lock", in_thread(try_write, l), EBUSY);
	REQ_IS("tryrdlock by the writer: EBUSY", pthread_rwlock_tryrdlock(l), EBUSY);
	REQ_IS("trywrlock by the writer: EBUSY", pthread_rwlock_trywrlock(l), EBUSY);
	REQ_IS("rdlock: EDEADLK, the current thread already owns it for writing", pthread_rwlock_rdlock(l), EDEADLK);
	REQ_IS("wrlock: EDEADLK, the current thread already owns it for writing", pthread_rwlock_wrlock(l), EDEADLK);
	struct timespec ts = in_ms(CLOCK_REALTIME, 1000);
	REQ_IS("timedrdlock: EDEADLK, the calling thread already holds a write lock", pthread_rwlock_timedrdlock(l, &ts), EDEADLK);
	REQ_IS("timedwrlock: EDEADLK, the calling thread already holds the lock", pthread_rwlock_timedwrlock(l, &ts), EDEADLK);
	REQ_IS("unlock of the write lock", pthread_rwlock_unlock(l), 0);
	REQ_IS("free after that", in_thread(try_read, l), 0);
	REQ_IS("tryrdlock", pthread_rwlock_tryrdlock(l), 0);
	REQ_IS("unlock", pthread_rwlock_unlock(l), 0);
	REQ_IS("trywrlock", pthread_rwlock_trywrlock(l), 0);
	REQ_IS("unlock", pthread_rwlock_unlock(l), 0);
}

static void timed(pthread_rwlock_t *l)
{
	static const long bad[] = { -1, 1000000000, 2000000000 };
	struct call c = { l, 0, 0, CLOCK_REALTIME, { 1, 0 }, false };

	for (c.write = 0; c.write < 2; c.write++)
		for (c.timed = 1; c.timed < 3; c.timed++) {
			c.clock = CLOCK_REALTIME;
			c.ts = in_ms(CLOCK_REALTIME, -1000);
			REQ_IS("under no circumstances shall it fail with a timeout if the lock can be acquired immediately", in_thread(do_call, &c), 0);
			for (int clock = 0; clock < c.timed; clock++) {
				c.clock = clock ? CLOCK_MONOTONIC : CLOCK_REALTIME;
				pthread_rwlock_wrlock(l);
				c.ts = in_ms(c.clock, -1);
				REQ_IS("ETIMEDOUT if the time has already passed", in_thread(do_call, &c), ETIMEDOUT);
				c.ts = (struct timespec){ -3, 0 };
				REQ_IS("ETIMEDOUT, before the epoch", in_thread(do_call, &c), ETIMEDOUT);
				c.ts = in_ms(c.clock, 10);
				REQ_IS("ETIMEDOUT: not acquired before the timeout expired", in_thread(do_call, &c), ETIMEDOUT);
				REQ("not before its time", is_past(c.clock, &c.ts));
				c.ts = in_ms(c.clock, 1000);
				for (int i = 0; i < 3; i++) {
					c.ts.tv_nsec = bad[i];
					REQ_IS("EINVAL: nanoseconds less than zero or 1000 million or more", in_thread(do_call, &c), EINVAL);
				}
				pthread_rwlock_unlock(l);
				REQ_IS("the failed calls left no trace: readers", in_thread(try_read, l), 0);
				REQ_IS("the failed calls left no trace: writers", in_thread(try_write, l), 0);
			}
			if (c.timed == 2) {
				c.clock = CLOCK_PROCESS_CPUTIME_ID;
				pthread_rwlock_wrlock(l);
				REQ_IS("EINVAL: the clock is not supported", in_thread(do_call, &c), EINVAL);
				pthread_rwlock_unlock(l);
			}
		}
	/* a writer that timed out must not keep readers out */
	c = (struct call){ l, 1, 1, CLOCK_REALTIME, in_ms(CLOCK_REALTIME, 20), false };
	pthread_rwlock_rdlock(l);
	REQ_IS("a writer behind a reader: ETIMEDOUT", in_thread(do_call, &c), ETIMEDOUT);
	REQ_IS("a writer that gave up does not keep readers out", in_thread(try_read, l), 0);
	pthread_rwlock_unlock(l);
}

/* Who waits is let in. */
static void waits(pthread_rwlock_t *l)
{
	struct call w = { .l = l, .write = 1 }, r = { .l = l };
	pthread_t t[6];

	pthread_rwlock_wrlock(l);
	for (int i = 0; i < 6; i++)
		t[i] = start(do_call, i % 2 ? &w : &r);
	sleep_ms(10);
	REQ_IS("shall block until it can acquire the lock", pthread_tryjoin_np(t[0], NULL), EBUSY);
	REQ_IS("shall block until it can acquire the lock", pthread_tryjoin_np(t[1], NULL), EBUSY);
	pthread_rwlock_unlock(l);
	for (int i = 0; i < 6; i++)
		REQ_IS("all get in", (intptr_t)finish(t[i]), 0);
	pthread_rwlock_rdlock(l);
	t[0] = start(do_call, &w);
	sleep_ms(5);
	REQ_IS("a writer waits for readers", pthread_tryjoin_np(t[0], NULL), EBUSY);
	pthread_rwlock_unlock(l);
	REQ_IS("and gets in", (intptr_t)finish(t[0]), 0);
}

static void kinds(void)
{
	for (int kind = 0; kind < 3; kind++) {
		pthread_rwlockattr_t a;
		pthread_rwlock_t l;
		struct call w = { .l = &l, .write = 1 };
		struct call r = { &l, 0, 1, CLOCK_REALTIME, { 0, 0 }, false };
		pthread_t t;

		pthread_rwlockattr_init(&a);
		pthread_rwlockattr_setkind_np(&a, kind);
		REQ_IS("rwlock_init", pthread_rwlock_init(&l, &a), 0);
		pthread_rwlockattr_destroy(&a);
		basics(&l);
		waits(&l);
		pthread_rwlock_rdlock(&l);
		t = start(do_call, &w);
		sleep_ms(10);
		/* until it waits, for sure */
		for (int n = 0; kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP && n < 10000 && pthread_rwlock_tryrdlock(&l) == 0; n++) {
			pthread_rwlock_unlock(&l);
			sleep_ms(1);
		}
		r.ts = in_ms(CLOCK_REALTIME, 20);
		if (kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP)
			REQ_IS("PREFER_WRITER_NONRECURSIVE: readers wait behind a waiting writer", in_thread(do_call, &r), ETIMEDOUT);
		else
			REQ_IS("PREFER_READER: readers pass a waiting writer, they may hold it already", in_thread(do_call, &r), 0);
		pthread_rwlock_unlock(&l);
		REQ_IS("the writer gets in", (intptr_t)finish(t), 0);
		REQ_IS("destroy", pthread_rwlock_destroy(&l), 0);
		REQ_IS("a destroyed lock can be reinitialized", pthread_rwlock_init(&l, NULL), 0);
		basics(&l);
		REQ_IS("destroy", pthread_rwlock_destroy(&l), 0);
	}
}

static int handled;
static void on_usr1(int sig) { (void)sig; __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST); }

static void signals(pthread_rwlock_t *l, int flags)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = flags };
	struct call c[4] = { { .l = l }, { .l = l, .write = 1 }, { .l = l, .timed = 1 }, { .l = l, .timed = 1, .write = 1 } };
	pthread_t t[4];

	sigaction(SIGUSR1, &sa, NULL);
	set(&handled, 0);
	pthread_rwlock_wrlock(l);
	for (int i = 0; i < 4; i++) {
		c[i].ts = in_ms(CLOCK_REALTIME, 20000);
		t[i] = start(do_call, &c[i]);
	}
	sleep_ms(10);
	for (int i = 0; i < 4; i++)
		pthread_kill(t[i], SIGUSR1);
	until(&handled, 4);
	sleep_ms(5);
	for (int i = 0; i < 4; i++)
		REQ_IS("upon return from the handler the thread shall resume waiting", pthread_tryjoin_np(t[i], NULL), EBUSY);
	pthread_rwlock_unlock(l);
	for (int i = 0; i < 4; i++)
		REQ_IS("no rwlock function returns EINTR", (intptr_t)finish(t[i]), 0);
}

static pthread_rwlock_t shared_l = PTHREAD_RWLOCK_INITIALIZER;
static int readers, writers, written;

static void *worker(void *arg)
{
	for (int i = 0; i < 200; i++) {
		if ((i + (int)(intptr_t)arg) % 4 == 0) {
			pthread_rwlock_wrlock(&shared_l);
			REQ_IS("one writer", __atomic_add_fetch(&writers, 1, __ATOMIC_SEQ_CST), 1);
			REQ_IS("no reader beside a writer", get(&readers), 0);
			written++;
			if (i % 16 == 0)
				sched_yield();
			__atomic_sub_fetch(&writers, 1, __ATOMIC_SEQ_CST);
		} else {
			pthread_rwlock_rdlock(&shared_l);
			__atomic_add_fetch(&readers, 1, __ATOMIC_SEQ_CST);
			REQ_IS("no writer beside a reader", get(&writers), 0);
			if (i % 16 == 1)
				sched_yield();
			__atomic_sub_fetch(&readers, 1, __ATOMIC_SEQ_CST);
		}
		pthread_rwlock_unlock(&shared_l);
	}
	return NULL;
}

int main(void)
{
	static pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER, w = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
	pthread_t t[8];

	basics(&l);
	basics(&w);
	timed(&l);
	timed(&w);
	waits(&l);
	waits(&w);
	kinds();
	signals(&l, 0);
	signals(&l, SA_RESTART);
	for (int i = 0; i < 8; i++)
		t[i] = start(worker, (void *)(intptr_t)i);
	for (int i = 0; i < 8; i++)
		finish(t[i]);
	REQ_IS("all writers came in", written, 8 * 50);
	REQ_IS("destroy of a statically initialised lock", pthread_rwlock_destroy(&l), 0);
	return req_end();
}
