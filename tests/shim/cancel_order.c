/* SPDX-License-Identifier: MIT
 * Cancellation: the order of what runs then, the mutex of a condition wait, and signal handlers on top of a cancellation point, on the
 * thread's stack and on an alternate one. Built with and without -fexceptions, which makes two kinds of pthread_cleanup_push.
 */
#include "cancel_check.h"

#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

static sem_t never;
static volatile unsigned long spins;

/* --- order --- */

static __thread char trail[64];
static pthread_key_t key;
static char *trail_of;

static void note(void *what)
{
	int state;

	strcat(trail, what);
	/* the request is spent: points in handlers wait as ever, also if the handler allows cancellation */
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	usleep(100);
	pthread_testcancel();
}

static void key_gone(void *what)
{
	note(what);
	strcpy(trail_of, trail);
}

static __attribute__((noinline)) void deep(int depth)
{
	volatile char room[300];

	room[0] = (char)depth;
	if (room[0]) {
		pthread_cleanup_push(note, depth == 2 ? "c" : "d");
		deep(room[0] - 1);
		pthread_cleanup_pop(1);
	} else {
		sem_wait(&never);
	}
}

static void *ordered(void *to)
{
	trail_of = to;
	CHECK_IS(pthread_setspecific(key, "k"), 0);
	pthread_cleanup_push(note, "a");
	pthread_cleanup_push(note, "x");
	pthread_cleanup_pop(0);
	pthread_cleanup_push(note, "b");
	enter();
	deep(2);
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(1);
	return NULL;
}

static __attribute__((noinline)) void hog(void)
{
	for (;;)
		spins++;
}

/* A call that may throw, as far as the compiler can see: it must make the frame one that can be unwound from there. */
static void (*volatile hog_here)(void) = hog;

static void *ordered_async(void *to)
{
	trail_of = to;
	CHECK_IS(pthread_setspecific(key, "k"), 0);
	pthread_cleanup_push(note, "a");
	pthread_cleanup_push(note, "b");
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	enter();
	hog_here();
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(1);
	return NULL;
}

static void order(void)
{
	char got[64];
	pthread_t t;

	CHECK_IS(pthread_key_create(&key, key_gone), 0);
	for (int i = 0; i < 20; i++) {
		t = start(ordered, got);
		if (i & 1)
			until(&in, 1);
		if (i & 2)
			sleep_ms(2);
		cancelled(t);
		CHECK(strcmp(got, "dcbak") == 0);
		t = start(ordered_async, got);
		until(&in, 1);
		cancelled(t);
		CHECK(strcmp(got, "bak") == 0);
	}
}

/* --- conditions: the mutex is held when the handlers run --- */

static pthread_mutex_t m;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int waiting, inside;

static void has_mutex(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_mutex_trylock(&m), EBUSY);
	CHECK_IS(inside, 0);
	inside = 1;
	sched_yield();
	usleep(10);
	inside = 0;
	CHECK_IS(pthread_mutex_unlock(&m), 0);	/* checks the owner */
}

static void *wait_cond(void *arg)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 100000);

	(void)arg;
	CHECK_IS(pthread_mutex_lock(&m), 0);
	pthread_cleanup_push(has_mutex, NULL);
	__atomic_fetch_add(&waiting, 1, __ATOMIC_RELEASE);
	for (;;) {
		pthread_cond_wait(&c, &m);
		CHECK_IS(pthread_cond_timedwait(&c, &m, &ts), 0);
	}
	pthread_cleanup_pop(1);
	return NULL;
}

static void conditions(void)
{
	pthread_mutexattr_t attr;
	pthread_t t[20];

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&m, &attr);
	for (int round = 0; round < 10; round++) {
		waiting = 0;
		for (int i = 0; i < 20; i++)
			t[i] = start(wait_cond, NULL);
		if (round & 1)
			until(&waiting, 20);
		for (int i = 0; i < 20; i++) {
			if (i % 5 == 0)
				pthread_cond_broadcast(&c);
			if (i % 7 == 0) {
				pthread_mutex_lock(&m);
				CHECK_IS(pthread_cancel(t[i]), 0);
				usleep(200);
				CHECK_IS(inside, 0);
				pthread_mutex_unlock(&m);
			}
			CHECK_IS(pthread_cancel(t[i]), 0);
		}
		for (int i = 0; i < 20; i++)
			CHECK(finish(t[i]) == PTHREAD_CANCELED);
	}
	CHECK_IS(pthread_mutex_trylock(&m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	CHECK_IS(pthread_cond_destroy(&c), 0);
}

/* --- a handler on top of a point --- */

static int handled;

static void on_usr1(int sig)
{
	(void)sig;
	__atomic_fetch_add(&handled, 1, __ATOMIC_RELEASE);
	usleep(2000);			/* long enough that the request comes while it runs */
}

static int idle_pipe[2];

static void *interrupted(void *how)
{
	char ch;

	enter();
	for (;;) {
		if (how)
			(void)!read(idle_pipe[0], &ch, 1);
		else
			waitpid(-1, NULL, 0);
	}
	return NULL;
}

static void handlers(void)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
	pid_t child = fork();
	pthread_t t;

	if (!child) {
		alarm(120);
		for (;;)
			pause();
	}
	CHECK_IS(pipe(idle_pipe), 0);
	CHECK_IS(sigaction(SIGUSR1, &sa, NULL), 0);
	for (int i = 0; i < 40; i++) {
		handled = 0;
		t = start(interrupted, (void *)(intptr_t)(i & 1));
		until(&in, 1);
		usleep((useconds_t)i * 40);
		CHECK_IS(pthread_kill(t, SIGUSR1), 0);
		if (i & 2)
			until(&handled, 1);
		usleep((useconds_t)i * 80);
		cancelled(t);
	}
	kill(child, SIGKILL);
	CHECK_IS(waitpid(child, NULL, 0), child);
}

/* --- out of a handler on an alternate stack, which is above the thread's or below --- */

static char below[1 << 16];
static stack_t where;

static bool on_alternate(const void *p)
{
	return (uintptr_t)p - (uintptr_t)where.ss_sp < where.ss_size;
}

static void on_usr2(int sig)
{
	(void)sig;
	CHECK(on_alternate(&sig));
	pthread_cleanup_push(note, "h");
	pthread_testcancel();
	CHECK(!"not reached");
	pthread_cleanup_pop(1);
}

static void on_own_stack(void *what)
{
	CHECK(!on_alternate(&what));
	key_gone(what);
}

/* the old function, which libc itself uses */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *, void (*)(void *), void *);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *, int);
static int (*volatile raise_here)(int) = raise;	/* as hog_here */

static void *signalled(void *to)
{
	struct _pthread_cleanup_buffer a;

	trail_of = to;
	CHECK_IS(sigaltstack(&where, NULL), 0);
	CHECK_IS(pthread_setspecific(key, "k"), 0);
	_pthread_cleanup_push(&a, note, "a");	/* found by its address, never by the unwinder */
	pthread_cleanup_push(note, "b");
	CHECK_IS(pthread_cancel(pthread_self()), 0);
	raise_here(SIGUSR2);
	pthread_cleanup_pop(1);
	_pthread_cleanup_pop(&a, 1);
	return NULL;
}

static void alternate(void)
{
	struct sigaction sa = { .sa_handler = on_usr2, .sa_flags = SA_ONSTACK };
	char above[1 << 16], got[64];	/* main's stack is above all */

	CHECK_IS(sigaction(SIGUSR2, &sa, NULL), 0);
	CHECK_IS(pthread_key_create(&key, on_own_stack), 0);
	for (int i = 0; i < 4; i++) {
		where = (stack_t){ .ss_sp = i & 1 ? above : below, .ss_size = sizeof below };
		CHECK(finish(start(signalled, got)) == PTHREAD_CANCELED);
		CHECK(strcmp(got, "hbak") == 0);
	}
}

int main(void)
{
	alarm(55);
	CHECK_IS(sem_init(&never, 0, 0), 0);
	order();
	conditions();
	handlers();
	alternate();
	return 0;
}
