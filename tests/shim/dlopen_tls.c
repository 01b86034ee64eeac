/* SPDX-License-Identifier: MIT
 * Modules with static (initial-exec) and dynamic thread-local storage come and go while threads live: every thread, running,
 * waiting or made later, and whoever runs while the constructors do, finds the initial values, its own ones afterwards, and never
 * those of a module or of a thread that was there before.
 */
#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <sys/wait.h>

#include "synctest.h"

enum { THREADS = 12, ROUNDS = 40, MODULES = 5 };

static const char *const names[MODULES] = { "dlmod_ie1.so", "dlmod_ie2.so", "dlmod_gd1.so", "dlmod_gd2.so", "dlmod_gd3.so" };

struct module {
	void *handle;
	int (*fresh)(void);
	void (*dirty)(int);
	int (*is)(int);
	void (*register_destructor)(void);
};

static char folder[PATH_MAX];
static struct module loaded[MODULES];
static int in_constructor;		/* how often the constructor's part ran */
#define FOR_MODULES __attribute__((visibility("default")))	/* by name, from the dynamic symbols */
FOR_MODULES int dlopen_tls_destroyed;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int step, done, quit;		/* guarded by lock */

/* --- a thread made by a constructor, and the constructor's own thread --- */

static struct module young;

static void *during(void *arg)
{
	CHECK_IS(young.fresh(), 0);
	young.dirty(1000 + (int)(intptr_t)arg);
	sched_yield();
	CHECK_IS(young.is(1000 + (int)(intptr_t)arg), 0);
	/* functions that nobody has called yet: the loader, which waits for us, must not be needed to find them */
	CHECK_IS(fflush(stdout), 0);
	CHECK(dprintf(-1, "to nowhere") < 0);
	return NULL;
}

/* A child made in the middle of it goes on by itself, with threads of its own. */
static void fork_here(int (*is)(int))
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		pthread_t t[2];

		CHECK_IS(is(77), 0);
		for (int again = 0; again < 2; again++) {
			for (int i = 0; i < 2; i++)
				t[i] = start(during, (void *)(intptr_t)i);
			for (int i = 0; i < 2; i++)
				finish(t[i]);
		}
		CHECK_IS(is(77), 0);
		_exit(23);
	}
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 23);
}

FOR_MODULES void dlopen_tls_loading(int (*fresh)(void), void (*dirty)(int), int (*is)(int));
void dlopen_tls_loading(int (*fresh)(void), void (*dirty)(int), int (*is)(int))
{
	pthread_t t[3];

	CHECK_IS(fresh(), 0);
	dirty(77);
	young = (struct module){ .fresh = fresh, .dirty = dirty, .is = is };
	/* one after the other: the second may get what the first left */
	for (int i = 0; i < 3; i++) {
		t[i] = start(during, (void *)(intptr_t)i);
		finish(t[i]);
	}
	for (int i = 0; i < 3; i++)
		t[i] = start(during, (void *)(intptr_t)i);
	for (int i = 0; i < 3; i++)
		finish(t[i]);
	CHECK_IS(is(77), 0);
	if (in_constructor++ % 16 == 5)
		fork_here(is);
}

/* --- loading --- */

static void load(int i, bool again)
{
	struct module *m = &loaded[i];
	char path[PATH_MAX + 32];

	CHECK(m->handle == NULL);
	snprintf(path, sizeof path, "%s/%s", folder, names[i]);
	m->handle = dlopen(path, (again ? RTLD_NOW : RTLD_LAZY) | RTLD_LOCAL);
	if (!m->handle)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(m->handle != NULL);
	m->fresh = (int (*)(void))dlsym(m->handle, "fresh");
	m->dirty = (void (*)(int))dlsym(m->handle, "dirty");
	m->is = (int (*)(int))dlsym(m->handle, "is");
	m->register_destructor = (void (*)(void))dlsym(m->handle, "register_destructor");
	CHECK(m->fresh && m->dirty && m->is && m->register_destructor);
}

static bool is_loaded(int i)
{
	char path[PATH_MAX + 32];
	void *h;

	snprintf(path, sizeof path, "%s/%s", folder, names[i]);
	h = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
	if (h)
		dlclose(h);
	return h != NULL;
}

static void unload(int i)
{
	CHECK_IS(dlclose(loaded[i].handle), 0);
	loaded[i].handle = NULL;
}

/* --- threads that live through it all --- */

static void look(int me)
{
	for (int i = 0; i < MODULES; i++)
		if (loaded[i].handle) {
			CHECK_IS(loaded[i].fresh(), 0);
			loaded[i].dirty(me * 10 + i);
		}
	sched_yield();
	for (int i = 0; i < MODULES; i++)
		if (loaded[i].handle)
			CHECK_IS(loaded[i].is(me * 10 + i), 0);
}

static void *lives(void *arg)
{
	int me = (int)(intptr_t)arg, seen = 0, old;

	for (;;) {
		pthread_mutex_lock(&lock);
		/* one half waits, the other half runs all the time */
		while (step == seen && !quit) {
			if (me % 2) {
				pthread_cond_wait(&changed, &lock);
			} else {
				pthread_mutex_unlock(&lock);
				for (volatile int i = 0; i < 2000; i++)
					;
				sched_yield();
				pthread_mutex_lock(&lock);
			}
		}
		old = quit;
		seen = step;
		pthread_mutex_unlock(&lock);
		if (old)
			return NULL;
		look(me);
		pthread_mutex_lock(&lock);
		if (++done == THREADS)
			pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
}

/* All of them look at what is loaded now. */
static void let_them_look(void)
{
	pthread_mutex_lock(&lock);
	done = 0;
	step++;
	pthread_cond_broadcast(&changed);
	while (done < THREADS)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static void *looks_once(void *arg)
{
	look((int)(intptr_t)arg);
	return NULL;
}

static void newcomers(void)
{
	pthread_t t[6];

	for (int again = 0; again < 3; again++) {
		for (int i = 0; i < 6; i++)
			t[i] = start(looks_once, (void *)(intptr_t)(100 + i));
		for (int i = 0; i < 6; i++)
			finish(t[i]);
	}
}

/* --- the rounds, by main or by a thread of their own --- */

static void *round_of(void *arg)
{
	int r = (int)(intptr_t)arg, first = r % MODULES, second = (r + 1 + r / MODULES) % MODULES;

	load(first, r % 2);
	if (r % 4)
		newcomers();
	let_them_look();
	if (second != first) {
		unload(first);
		CHECK(!is_loaded(first));
		load(second, r % 2);		/* its storage may be where the other's was */
		let_them_look();
		newcomers();
		unload(second);
	} else {
		unload(first);
	}
	return NULL;
}

/* --- several threads load at once --- */

static void *loads_alone(void *arg)
{
	int i = (int)(intptr_t)arg;
	char path[PATH_MAX + 32];

	snprintf(path, sizeof path, "%s/%s", folder, names[i]);
	for (int n = 0; n < 20; n++) {
		void *h = dlopen(path, RTLD_NOW);
		int (*fresh)(void), (*is)(int);
		void (*dirty)(int);

		CHECK(h != NULL);
		fresh = (int (*)(void))dlsym(h, "fresh");
		dirty = (void (*)(int))dlsym(h, "dirty");
		is = (int (*)(int))dlsym(h, "is");
		/* this thread's constructor ran here and left its 77 */
		CHECK_IS(is(77), 0);
		dirty(n);
		sched_yield();
		CHECK_IS(is(n), 0);
		(void)fresh;
		CHECK_IS(dlclose(h), 0);
	}
	return NULL;
}

/* --- threads are made, start and end at every moment of a load --- */

static pthread_rwlock_t there = PTHREAD_RWLOCK_INITIALIZER;	/* read: the module stays as it is */
static int checked, spawning, closing;

static void *checks_when_there(void *arg)
{
	bool seen = false;

	while (!seen && __atomic_load_n(&spawning, __ATOMIC_RELAXED)) {
		while (__atomic_load_n(&closing, __ATOMIC_RELAXED))
			usleep(50);		/* readers are not to keep the writer out */
		pthread_rwlock_rdlock(&there);
		if (loaded[0].handle) {
			int n = (int)(intptr_t)&seen | 1;

			CHECK_IS(loaded[0].fresh(), 0);
			loaded[0].dirty(n);
			CHECK_IS(loaded[0].is(n), 0);
			__atomic_fetch_add(&checked, 1, __ATOMIC_RELAXED);
			seen = true;
		}
		pthread_rwlock_unlock(&there);
		if (!seen)
			usleep(50);
	}
	return arg;
}

static void *spawns(void *arg)
{
	pthread_t t[4];

	while (__atomic_load_n(&spawning, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 4; i++)
			t[i] = start(checks_when_there, NULL);
		for (int i = 0; i < 4; i++)
			finish(t[i]);
	}
	return arg;
}

static void races(void)
{
	struct module m;
	pthread_t t[2];

	spawning = 1;
	for (int i = 0; i < 2; i++)
		t[i] = start(spawns, NULL);
	for (int r = 0; r < 30; r++) {
		char path[PATH_MAX + 32];
		int seen = __atomic_load_n(&checked, __ATOMIC_RELAXED);

		snprintf(path, sizeof path, "%s/%s", folder, names[0]);
		m.handle = dlopen(path, RTLD_NOW);
		CHECK(m.handle != NULL);
		m.fresh = (int (*)(void))dlsym(m.handle, "fresh");
		m.dirty = (void (*)(int))dlsym(m.handle, "dirty");
		m.is = (int (*)(int))dlsym(m.handle, "is");
		pthread_rwlock_wrlock(&there);
		loaded[0] = m;
		pthread_rwlock_unlock(&there);
		while (__atomic_load_n(&checked, __ATOMIC_RELAXED) < seen + 20)
			usleep(50);
		__atomic_store_n(&closing, 1, __ATOMIC_RELAXED);
		pthread_rwlock_wrlock(&there);
		loaded[0].handle = NULL;
		pthread_rwlock_unlock(&there);
		__atomic_store_n(&closing, 0, __ATOMIC_RELAXED);
		CHECK_IS(dlclose(m.handle), 0);
	}
	__atomic_store_n(&spawning, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		finish(t[i]);
}

/* --- destructors keep their module --- */

static pthread_barrier_t both;

static void *registers(void *arg)
{
	int i = (int)(intptr_t)arg;

	loaded[i].dirty(5);
	loaded[i].register_destructor();
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	return NULL;
}

static void destructors(int i)
{
	int before = dlopen_tls_destroyed;
	pthread_t t;

	load(i, true);
	t = start(registers, (void *)(intptr_t)i);
	pthread_barrier_wait(&both);
	unload(i);
	CHECK(is_loaded(i));
	pthread_barrier_wait(&both);
	finish(t);
	CHECK_IS(dlopen_tls_destroyed, before + 1);
	/* the next dlclose of anything takes it away */
	load((i + 1) % MODULES, true);
	unload((i + 1) % MODULES);
	CHECK(!is_loaded(i));
}

int main(void)
{
	/* of those with static storage only one: libc does not get back what is not freed in reverse order */
	static const int alone[] = { 0, 2, 3 };
	pthread_t t[THREADS], u[3];
	ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);

	CHECK(n > 0);
	*strrchr(folder, '/') = '\0';
	/* before there is a second thread */
	load(0, true);
	CHECK_IS(loaded[0].is(77), 0);
	loaded[0].dirty(3);
	unload(0);

	for (int i = 0; i < THREADS; i++)
		t[i] = start(lives, (void *)(intptr_t)(i + 1));
	newcomers();
	for (int r = 0; r < ROUNDS; r++) {
		if (r % 3)
			finish(start(round_of, (void *)(intptr_t)r));
		else
			round_of((void *)(intptr_t)r);
	}
	pthread_mutex_lock(&lock);
	quit = 1;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < THREADS; i++)
		finish(t[i]);

	races();

	CHECK_IS(pthread_barrier_init(&both, NULL, 2), 0);
	for (int i = 0; i < MODULES; i++)
		destructors(i);

	CHECK(in_constructor > ROUNDS);
	for (int i = 0; i < 3; i++)
		u[i] = start(loads_alone, (void *)(intptr_t)alone[i]);
	for (int i = 0; i < 3; i++)
		finish(u[i]);

	/* a name that is found by the path in this program only (DT_RUNPATH is $ORIGIN): the caller must be seen */
	loaded[0].handle = dlopen(names[0], RTLD_NOW);
	CHECK(loaded[0].handle != NULL);
	loaded[0].fresh = (int (*)(void))dlsym(loaded[0].handle, "fresh");
	loaded[0].dirty = (void (*)(int))dlsym(loaded[0].handle, "dirty");
	loaded[0].is = (int (*)(int))dlsym(loaded[0].handle, "is");
	newcomers();
	unload(0);
	return 0;
}
