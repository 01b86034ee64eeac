/* SPDX-License-Identifier: MIT
 * Process-shared objects: between parent and child of a fork, and with a program that was started without weft.
 *
 * The program runs itself: `pshared OTHER fd` plays the other side, on whatever runs it.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "req.h"

enum { TURNS = 150, THREADS = 3 };

struct shared {
	pthread_mutex_t plain, recursive, check, robust;
	pthread_cond_t cond, mono;
	pthread_rwlock_t rw;
	pthread_barrier_t barrier;
	sem_t sem, back;
	pthread_spinlock_t spin;
	int count, in, turn, readers, state, rcount;
};

static struct shared *s;

static void make(void)
{
	pthread_mutexattr_t m;
	pthread_condattr_t c;
	pthread_rwlockattr_t r;
	pthread_barrierattr_t b;

	pthread_mutexattr_init(&m);
	pthread_mutexattr_setpshared(&m, PTHREAD_PROCESS_SHARED);
	NEED(pthread_mutex_init(&s->plain, &m) == 0);
	pthread_mutexattr_settype(&m, PTHREAD_MUTEX_RECURSIVE);
	NEED(pthread_mutex_init(&s->recursive, &m) == 0);
	pthread_mutexattr_settype(&m, PTHREAD_MUTEX_ERRORCHECK);
	NEED(pthread_mutex_init(&s->check, &m) == 0);
	pthread_mutexattr_setrobust(&m, PTHREAD_MUTEX_ROBUST);
	NEED(pthread_mutex_init(&s->robust, &m) == 0);
	pthread_condattr_init(&c);
	pthread_condattr_setpshared(&c, PTHREAD_PROCESS_SHARED);
	NEED(pthread_cond_init(&s->cond, &c) == 0);
	pthread_condattr_setclock(&c, CLOCK_MONOTONIC);
	NEED(pthread_cond_init(&s->mono, &c) == 0);
	pthread_rwlockattr_init(&r);
	pthread_rwlockattr_setpshared(&r, PTHREAD_PROCESS_SHARED);
	NEED(pthread_rwlock_init(&s->rw, &r) == 0);
	pthread_barrierattr_init(&b);
	pthread_barrierattr_setpshared(&b, PTHREAD_PROCESS_SHARED);
	NEED(pthread_barrier_init(&s->barrier, &b, 2 * THREADS) == 0);
	NEED(sem_init(&s->sem, 1, 2) == 0 && sem_init(&s->back, 1, 0) == 0);
	NEED(pthread_spin_init(&s->spin, PTHREAD_PROCESS_SHARED) == 0);
	s->count = s->in = s->turn = s->readers = s->state = s->rcount = 0;
}

/* What both processes do with THREADS threads each. */
static void *play(void *arg)
{
	pthread_mutex_t *kinds[] = { &s->plain, &s->recursive, &s->check, &s->robust };
	int side = (int)(intptr_t)arg;

	pthread_barrier_wait(&s->barrier);
	for (int i = 0; i < TURNS; i++) {
		pthread_mutex_t *m = kinds[i % 4];
		struct timespec ts = in_ms(CLOCK_REALTIME, 20000);
		int before;

		/* four mutexes in the order of the array protect one counter each time: take them all */
		for (int k = 0; k < 4; k++)
			REQ_IS("lock", k == 2 ? pthread_mutex_timedlock(kinds[k], &ts) : pthread_mutex_lock(kinds[k]), 0);
		REQ_IS("mutual exclusion between processes", ++s->in, 1);
		s->count++;
		if (m == &s->recursive) {
			REQ_IS("recursive", pthread_mutex_lock(m), 0);
			REQ_IS("recursive", pthread_mutex_unlock(m), 0);
		}
		if (m == &s->check)
			REQ_IS("errorcheck: EDEADLK", pthread_mutex_lock(m), EDEADLK);
		if (m == &s->robust)
			REQ_IS("robust errorcheck: EDEADLK", pthread_mutex_lock(m), EDEADLK);
		if (i % 16 == 0)
			sched_yield();
		s->in--;
		for (int k = 3; k >= 0; k--)
			REQ_IS("unlock", pthread_mutex_unlock(kinds[k]), 0);

		sem_wait(&s->sem);
		before = __atomic_add_fetch(&s->state, 1, __ATOMIC_SEQ_CST);
		REQ("as many as the semaphore lets in", before <= 2);
		__atomic_sub_fetch(&s->state, 1, __ATOMIC_SEQ_CST);
		sem_post(&s->sem);

		if (i % 5 == 0) {
			REQ_IS("wrlock", pthread_rwlock_wrlock(&s->rw), 0);
			REQ_IS("no reader beside a writer, of whatever process", get(&s->readers), 0);
			s->rcount++;
			REQ_IS("rdlock: EDEADLK for the writer itself", pthread_rwlock_rdlock(&s->rw), EDEADLK);
		} else {
			REQ_IS("rdlock", pthread_rwlock_rdlock(&s->rw), 0);
			__atomic_add_fetch(&s->readers, 1, __ATOMIC_SEQ_CST);
			if (i % 16 == 1)
				sched_yield();
			__atomic_sub_fetch(&s->readers, 1, __ATOMIC_SEQ_CST);
		}
		REQ_IS("unlock", pthread_rwlock_unlock(&s->rw), 0);
	}
	pthread_barrier_wait(&s->barrier);
	/* in turn, by conditions on each kind of mutex */
	for (int k = 0; k < 4; k++) {
		if (pthread_barrier_wait(&s->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
			s->turn = 0;
		pthread_barrier_wait(&s->barrier);
		REQ_IS("lock", pthread_mutex_lock(kinds[k]), 0);
		while (s->turn < 60) {
			if (s->turn % 2 == side) {
				s->turn++;
				pthread_cond_broadcast(&s->cond);
			} else {
				struct timespec ts = in_ms(CLOCK_REALTIME, 20000);

				REQ_IS("cond_wait", s->turn % 3 ? pthread_cond_wait(&s->cond, kinds[k]) :
				       pthread_cond_timedwait(&s->cond, kinds[k], &ts), 0);
				if (k == 2 || k == 3)
					REQ_IS("it owns the mutex when it returns", pthread_mutex_lock(kinds[k]), EDEADLK);
			}
		}
		REQ_IS("unlock", pthread_mutex_unlock(kinds[k]), 0);
		if (k == 3) {
			struct timespec ts = in_ms(CLOCK_MONOTONIC, 10);

			REQ_IS("cond_wait: EPERM, not the owner", pthread_cond_wait(&s->cond, kinds[k]), EPERM);
			REQ_IS("lock", pthread_mutex_lock(kinds[k]), 0);
			REQ_IS("a shared condition with the monotonic clock: ETIMEDOUT", pthread_cond_timedwait(&s->mono, kinds[k], &ts), ETIMEDOUT);
			REQ("not before its time", is_past(CLOCK_MONOTONIC, &ts));
			REQ_IS("unlock", pthread_mutex_unlock(kinds[k]), 0);
		}
	}
	return NULL;
}

static int play_all(int side)
{
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		t[i] = start(play, (void *)(intptr_t)side);
	for (int i = 0; i < THREADS; i++)
		finish(t[i]);
	return req_end();
}

static void *hold(void *arg)
{
	NEED(pthread_mutex_lock(&s->robust) == 0);
	set(&s->state, 1);
	if (arg)
		pause();
	return NULL;
}

/* The other side. */
static int other(const char *what)
{
	if (strcmp(what, "play") == 0)
		return play_all(1);
	if (strcmp(what, "die") == 0) {		/* killed while a thread holds the mutex */
		start(hold, &s);
		until(&s->state, 1);
		sem_post(&s->back);
		pause();
	}
	if (strcmp(what, "end") == 0) {		/* a thread ends holding it, the process goes on */
		finish(start(hold, NULL));
		sem_post(&s->back);
		until(&s->turn, 1);
		return 0;
	}
	if (strcmp(what, "wait") == 0) {	/* who dies is the other side */
		int err = pthread_mutex_lock(&s->robust);

		REQ_IS("EOWNERDEAD across processes", err, EOWNERDEAD);
		REQ_IS("consistent", pthread_mutex_consistent(&s->robust), 0);
		REQ_IS("unlock", pthread_mutex_unlock(&s->robust), 0);
		return req_end();
	}
	return 3;
}

static int fd;
static const char *self;

/* Start the other side: a copy of this process, or this program anew without a preload. */
static pid_t begin(const char *what, bool plain)
{
	char number[16];
	pid_t pid = fork();

	NEED(pid >= 0);
	if (pid)
		return pid;
	if (!plain)
		_exit(other(what));
	unsetenv("LD_PRELOAD");
	snprintf(number, sizeof number, "%d", fd);
	execl(self, self, what, number, NULL);
	_exit(9);
}

static void *end_holding(void *arg)
{
	NEED(pthread_mutex_lock(&s->robust) == 0);
	set(&s->state, 1);
	sleep_ms(20);
	return arg;
}

/* Main takes a robust mutex before its process has threads, or after, and the process ends. */
static void *nothing(void *arg) { return arg; }
static int main_ends(bool before)
{
	if (before && pthread_mutex_lock(&s->robust) != 0)
		return 1;
	finish(start(nothing, NULL));
	return before || pthread_mutex_lock(&s->robust) == 0 ? 0 : 2;
}

/* Main waits at a condition variable with a robust mutex while others take and release theirs: no list of held ones gets out of order. */
static pthread_mutex_t others[THREADS][2];
static int over;

static void *takes(void *arg)
{
	pthread_mutex_t *m = arg;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED))
		for (int i = 0; i < 2; i++)
			if ((i ? pthread_mutex_unlock(&m[0]) : pthread_mutex_lock(&m[0])) ||
			    (i ? pthread_mutex_unlock(&m[1]) : pthread_mutex_lock(&m[1])))
				return "a mutex failed";
	return NULL;
}

static void main_waits(void)
{
	struct timespec end = in_ms(CLOCK_MONOTONIC, 700), now;
	pthread_t t[THREADS];
	pthread_mutexattr_t a;
	void **head;
	size_t len;
	int bad = 0;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	__atomic_store_n(&over, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < THREADS; i++) {
		NEED(pthread_mutex_init(&others[i][0], &a) == 0 && pthread_mutex_init(&others[i][1], &a) == 0);
		t[i] = start(takes, others[i]);
	}
	REQ_IS("lock", pthread_mutex_lock(&s->robust), 0);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
		bad += pthread_cond_timedwait(&s->mono, &s->robust, &now) != ETIMEDOUT;
	} while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
	REQ_IS("unlock", pthread_mutex_unlock(&s->robust), 0);
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < THREADS; i++)
		REQ("lock and unlock", finish(t[i]) == NULL);
	REQ_IS("timedwait: ETIMEDOUT", bad, 0);
	NEED(syscall(SYS_get_robust_list, (long)getpid(), &head, &len) == 0);
	REQ("nothing is held", *head == head);
}

int main(int argc, char **argv)
{
	self = "/proc/self/exe";
	if (argc == 3) {
		s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[2]), 0);
		NEED(s != MAP_FAILED);
		return other(argv[1]);
	}
	fd = memfd_create("pshared", 0);
	NEED(fd >= 0 && ftruncate(fd, 8192) == 0);
	s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(s != MAP_FAILED);
	for (int plain = 0; plain < 2; plain++) {
		pid_t pid;

		make();
		pid = begin("play", plain);
		play_all(0);
		REQ_IS("the other process saw the same", reap(pid), 0);
		REQ_IS("no turn was lost", s->count, 2 * THREADS * TURNS);
		REQ_IS("no writer was lost", s->rcount, 2 * THREADS * TURNS / 5);

		s->state = s->turn = 0;
		pid = begin("die", plain);
		while (sem_wait(&s->back) != 0)
			;
		REQ_IS("trylock: EBUSY while it lives", pthread_mutex_trylock(&s->robust), EBUSY);
		kill(pid, SIGKILL);
		REQ_IS("lock: EOWNERDEAD, the process terminated while holding the mutex", pthread_mutex_lock(&s->robust), EOWNERDEAD);
		REQ_IS("consistent", pthread_mutex_consistent(&s->robust), 0);
		REQ_IS("unlock", pthread_mutex_unlock(&s->robust), 0);
		REQ_IS("it was killed", reap(pid), -SIGKILL);

		s->state = s->turn = 0;
		pid = begin("end", plain);
		while (sem_wait(&s->back) != 0)
			;
		REQ_IS("lock: EOWNERDEAD, the thread ended, its process lives", pthread_mutex_lock(&s->robust), EOWNERDEAD);
		REQ_IS("consistent", pthread_mutex_consistent(&s->robust), 0);
		REQ_IS("unlock", pthread_mutex_unlock(&s->robust), 0);
		set(&s->turn, 1);
		REQ_IS("the other process", reap(pid), 0);

		s->state = 0;
		pthread_t t = start(end_holding, NULL);
		until(&s->state, 1);
		pid = begin("wait", plain);
		finish(t);
		REQ_IS("the other process learns that our thread ended", reap(pid), 0);

		for (int before = 0; before < 2; before++) {
			pid = fork();
			if (pid == 0)
				_exit(main_ends(before));
			REQ_IS("main of the other process took it", reap(pid), 0);
			REQ_IS("lock: EOWNERDEAD", pthread_mutex_lock(&s->robust), EOWNERDEAD);
			REQ_IS("consistent", pthread_mutex_consistent(&s->robust), 0);
			REQ_IS("unlock", pthread_mutex_unlock(&s->robust), 0);
		}
		main_waits();

		/* recursion counts across processes: nobody else may enter, and only the owner may leave */
		pthread_mutex_lock(&s->recursive);
		pthread_mutex_lock(&s->recursive);
		pid = fork();
		if (pid == 0)
			_exit(pthread_mutex_trylock(&s->recursive) != EBUSY || pthread_mutex_unlock(&s->recursive) != EPERM);
		REQ_IS("another process may neither lock nor unlock", reap(pid), 0);
		pthread_mutex_unlock(&s->recursive);
		REQ_IS("unlock", pthread_mutex_unlock(&s->recursive), 0);
		REQ_IS("destroy", pthread_mutex_destroy(&s->recursive), 0);
		REQ_IS("destroy", pthread_cond_destroy(&s->cond), 0);
		REQ_IS("destroy", pthread_rwlock_destroy(&s->rw), 0);
		REQ_IS("destroy", pthread_barrier_destroy(&s->barrier), 0);
	}
	return req_end();
}
