/* SPDX-License-Identifier: MIT
 * Names that the C library keeps for programs linked long ago, what is left of cancellation without being cancelled, and signals with a value.
 */
#include <dlfcn.h>

#include "req.h"

static void *old(const char *name, const char *version)
{
	void *f = dlsym(RTLD_DEFAULT, name);

	if (!f)
		f = dlvsym(RTLD_DEFAULT, name, version);
	REQ(name, f != NULL);
	return f;
}

static void *ret(void *arg) { return arg; }
static int spins;
static void *spin(void *arg)
{
	int (*yield)(void) = (int (*)(void))arg;

	for (int i = 0; i < 1000; i++) {
		spins++;
		REQ_IS("pthread_yield", yield(), 0);
	}
	return NULL;
}

static void *die_holding(void *m) { pthread_mutex_lock(m); return NULL; }

static void names(void)
{
	int (*setkind)(pthread_mutexattr_t *, int) = (int (*)(pthread_mutexattr_t *, int))old("pthread_mutexattr_setkind_np", "GLIBC_2.2.5");
	int (*getkind)(pthread_mutexattr_t *, int *) = (int (*)(pthread_mutexattr_t *, int *))old("pthread_mutexattr_getkind_np", "GLIBC_2.2.5");
	int (*setrobust)(pthread_mutexattr_t *, int) = (int (*)(pthread_mutexattr_t *, int))old("pthread_mutexattr_setrobust_np", "GLIBC_2.4");
	int (*getrobust)(pthread_mutexattr_t *, int *) = (int (*)(pthread_mutexattr_t *, int *))old("pthread_mutexattr_getrobust_np", "GLIBC_2.4");
	int (*consistent)(pthread_mutex_t *) = (int (*)(pthread_mutex_t *))old("pthread_mutex_consistent_np", "GLIBC_2.4");
	int (*setaddr)(pthread_attr_t *, void *) = (int (*)(pthread_attr_t *, void *))old("pthread_attr_setstackaddr", "GLIBC_2.2.5");
	int (*getaddr)(pthread_attr_t *, void **) = (int (*)(pthread_attr_t *, void **))old("pthread_attr_getstackaddr", "GLIBC_2.2.5");
	void (*others)(void) = (void (*)(void))old("pthread_kill_other_threads_np", "GLIBC_2.2.5");
	void *yield = old("pthread_yield", "GLIBC_2.2.5");
	pthread_mutexattr_t a;
	pthread_mutex_t m;
	pthread_attr_t t;
	pthread_t x, y;
	char *stack;
	void *p;
	int v;

	if (!setkind || !getkind || !setrobust || !getrobust || !consistent || !setaddr || !getaddr || !others || !yield)
		return;
	pthread_mutexattr_init(&a);
	REQ_IS("setkind_np is settype", setkind(&a, PTHREAD_MUTEX_RECURSIVE), 0);
	REQ_IS("getkind_np is gettype", getkind(&a, &v), 0);
	REQ_IS("what was set", v, PTHREAD_MUTEX_RECURSIVE);
	REQ_IS("setrobust_np is setrobust", setrobust(&a, PTHREAD_MUTEX_ROBUST), 0);
	REQ_IS("getrobust_np is getrobust", getrobust(&a, &v), 0);
	REQ_IS("what was set", v, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&m, &a);
	pthread_mutexattr_destroy(&a);
	in_thread(die_holding, &m);
	REQ_IS("EOWNERDEAD", pthread_mutex_lock(&m), EOWNERDEAD);
	REQ_IS("consistent_np is consistent", consistent(&m), 0);
	pthread_mutex_unlock(&m);
	REQ_IS("and it is consistent", pthread_mutex_lock(&m), 0);
	pthread_mutex_unlock(&m);

	NEED(posix_memalign((void **)&stack, 4096, 1 << 17) == 0);
	pthread_attr_init(&t);
	pthread_attr_setstacksize(&t, 1 << 17);
	REQ_IS("setstackaddr: the end of the stack", setaddr(&t, stack + (1 << 17)), 0);
	REQ_IS("getstackaddr", getaddr(&t, &p), 0);
	REQ("what was set", p == stack + (1 << 17));
	NEED(pthread_create(&x, &t, ret, (void *)8) == 0);
	REQ_IS("a thread on it", (intptr_t)finish(x), 8);
	pthread_attr_destroy(&t);
	free(stack);

	x = start(spin, yield);
	y = start(spin, yield);
	finish(x);
	finish(y);
	x = start(ret, NULL);
	others();		/* did something in LinuxThreads; NPTL ends them at exec by itself */
	finish(x);
}

static void *states(void *arg)
{
	int v;

	REQ_IS("setcancelstate: EINVAL", pthread_setcancelstate(77, &v), EINVAL);
	REQ_IS("setcanceltype: EINVAL", pthread_setcanceltype(77, &v), EINVAL);
	REQ_IS("setcancelstate", pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &v), 0);
	REQ_IS("new threads have it enabled", v, PTHREAD_CANCEL_ENABLE);
	REQ_IS("setcanceltype", pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &v), 0);
	REQ_IS("new threads have it deferred", v, PTHREAD_CANCEL_DEFERRED);
	REQ_IS("setcanceltype with a null pointer", pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL), 0);
	REQ_IS("setcancelstate", pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &v), 0);
	REQ_IS("the previous state", v, PTHREAD_CANCEL_DISABLE);
	pthread_testcancel();	/* no request: returns */
	return arg;
}

static int ready, go;
static void *disabled(void *arg)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	set(&ready, 1);
	until(&go, 1);
	pthread_testcancel();
	return arg;
}

static volatile int value;
static void on_usr1(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	value = info->si_code == SI_QUEUE ? info->si_value.sival_int : -1;
}

static void *wait_value(void *arg)
{
	while (!value)
		sleep_ms(1);
	return arg;
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO };
	pthread_t t;

	names();
	REQ_IS("the thread came back", in_thread(states, (void *)3), 3);
	t = start(disabled, (void *)4);
	until(&ready, 1);
	REQ_IS("pthread_cancel", pthread_cancel(t), 0);
	set(&go, 1);
	REQ_IS("with cancelability disabled, requests are held pending", (intptr_t)finish(t), 4);

	sigaction(SIGUSR1, &sa, NULL);
	t = start(wait_value, NULL);
	sleep_ms(2);
	REQ_IS("pthread_sigqueue: EINVAL", pthread_sigqueue(t, 200, (union sigval){ 0 }), EINVAL);
	REQ_IS("pthread_sigqueue", pthread_sigqueue(t, SIGUSR1, (union sigval){ .sival_int = 55 }), 0);
	finish(t);
	REQ_IS("its value", value, 55);
	return req_end();
}
