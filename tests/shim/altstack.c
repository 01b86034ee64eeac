/* SPDX-License-Identifier: MIT
 * Alternate signal stacks, faults and stack overflow: on which stack a handler runs, that it may wait there, that a fault is
 * taken by the thread that made it and the interrupted code goes on unharmed, that an overflow can be handled on the alternate stack and
 * jumped out of, and how a thread ends that handles none.
 */
#include <dlfcn.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "synctest.h"

enum { THREADS = 8, ROUNDS = 40, ALT = 64 * 1024 };

struct mine {
	char *alt;			/* NULL: none */
	size_t size;
	volatile int ran, nested, on_alt, self_ok, addr_ok;
	pthread_t self;
	char *page;			/* not accessible, until the handler says so */
	sigjmp_buf out;
	int waits;
};

static __thread struct mine *me;
static void *(*volatile recursion)(int);
static int *volatile nowhere = (int *)16;

static bool on_alt(const void *p)
{
	return me->alt && (const char *)p >= me->alt && (const char *)p < me->alt + me->size;
}

static void set_alt(struct mine *m, size_t size)
{
	stack_t ss = { .ss_size = size }, old;

	CHECK_IS(sigaltstack(NULL, &old), 0);
	CHECK_IS(old.ss_flags, SS_DISABLE);		/* a new thread has none */
	ss.ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(ss.ss_sp != MAP_FAILED);
	CHECK_IS(sigaltstack(&ss, &old), 0);
	CHECK_IS(sigaltstack(NULL, &old), 0);
	CHECK(old.ss_sp == ss.ss_sp && old.ss_size == size && old.ss_flags == 0);
	m->alt = ss.ss_sp;
	m->size = size;
}

static void drop_alt(struct mine *m)
{
	stack_t off = { .ss_flags = SS_DISABLE };

	if (!m->alt)
		return;
	CHECK_IS(sigaltstack(&off, NULL), 0);
	CHECK_IS(munmap(m->alt, m->size), 0);
	m->alt = NULL;
}

/* --- signals that are sent --- */

static void on_usr2(int sig)
{
	char here;

	(void)sig;
	me->nested += on_alt(&here);
}

static void on_usr1(int sig, siginfo_t *info, void *uc)
{
	stack_t now, other = { .ss_flags = SS_DISABLE };
	char here;

	CHECK_IS(sig, SIGUSR1);
	CHECK(info != NULL && uc != NULL);
	me->ran++;
	me->on_alt = on_alt(&here);
	me->self_ok = pthread_equal(pthread_self(), me->self);
	CHECK_IS(sigaltstack(NULL, &now), 0);
	CHECK_IS(now.ss_flags, !me->alt ? SS_DISABLE : me->on_alt ? SS_ONSTACK : 0);
	if (me->on_alt) {
		errno = 0;
		CHECK_IS(sigaltstack(&other, NULL), -1);
		CHECK_IS(errno, EPERM);
	}
	for (int i = 0; i < me->waits; i++)
		sched_yield();
	if (me->waits > 1)
		sleep_ms(1);
	if (me->waits)
		for (volatile int i = 0; i < 50000; i++)
			;
	CHECK_IS(raise(SIGUSR2), 0);
	CHECK(on_alt(&here) == me->on_alt && pthread_equal(pthread_self(), me->self));
}

static void install(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = fn, .sa_flags = flags | SA_SIGINFO }, old;

	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGHUP);
	CHECK_IS(sigaction(sig, &sa, NULL), 0);
	CHECK_IS(sigaction(sig, NULL, &old), 0);
	CHECK(old.sa_sigaction == fn);
	CHECK_IS(old.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER | (int)SA_RESETHAND), flags | SA_SIGINFO);
	CHECK(sigismember(&old.sa_mask, SIGHUP) && !sigismember(&old.sa_mask, SIGINT));
}

static void *sent(void *arg)
{
	int n = (int)(intptr_t)arg;
	struct mine m = { .self = pthread_self(), .waits = n % 3 };

	me = &m;
	for (int r = 0; r < ROUNDS; r++) {
		int before = m.ran;

		if (n % 4 && !m.alt)
			set_alt(&m, ALT);
		m.nested = 0;
		if (r % 2)
			CHECK_IS(raise(SIGUSR1), 0);
		else
			CHECK_IS(pthread_kill(pthread_self(), SIGUSR1), 0);
		CHECK_IS(m.ran, before + 1);
		CHECK_IS(m.on_alt, n % 4 != 0);
		CHECK_IS(m.nested, m.on_alt);
		CHECK(m.self_ok);
		if (r % 8 == 7)
			drop_alt(&m);
	}
	drop_alt(&m);
	me = NULL;
	return NULL;
}

/* --- by another thread --- */

static volatile int stop;

static void *target(void *arg)
{
	struct mine m = { .self = pthread_self(), .waits = 1 };
	double x = 1;
	sigset_t set;

	me = &m;
	set_alt(&m, ALT);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK_IS(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
	*(struct mine *volatile *)arg = &m;
	while (!stop) {
		for (int i = 0; i < 1000; i++)
			x = x * 1.0000001 + 1e-9;
		CHECK(x > 0);
		if (m.ran)
			CHECK(m.on_alt && m.self_ok);
	}
	CHECK_IS(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	drop_alt(&m);
	return NULL;
}

/* --- faults --- */

static void on_segv(int sig, siginfo_t *info, void *uc)
{
	char here;

	CHECK(sig == SIGSEGV || sig == SIGBUS);
	CHECK(uc != NULL && info->si_code > 0);
	me->ran++;
	me->on_alt = on_alt(&here);
	me->self_ok = pthread_equal(pthread_self(), me->self);
	me->addr_ok = (char *)info->si_addr >= me->page && (char *)info->si_addr < me->page + 4096;
	for (int i = 0; i < me->waits; i++)
		sched_yield();
	if (me->waits > 1)
		sleep_ms(1);
	CHECK_IS(raise(SIGUSR2), 0);
	if (!me->addr_ok)
		siglongjmp(me->out, 1);
	CHECK_IS(mprotect(me->page, 4096, PROT_READ | PROT_WRITE), 0);
}

static void *faults(void *arg)
{
	int n = (int)(intptr_t)arg;
	struct mine m = { .self = pthread_self(), .waits = n % 3 };
	double a = n + 0.5, b = n * 3.25;
	long c = n * 1000003;

	me = &m;
	if (n % 2)
		set_alt(&m, ALT);
	m.page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(m.page != MAP_FAILED);
	for (int r = 0; r < ROUNDS; r++) {
		double x = a * r;
		long y = c + r;

		CHECK_IS(mprotect(m.page, 4096, PROT_NONE), 0);
		*(volatile char *)(m.page + r) = (char)r;	/* the handler makes it possible */
		CHECK_IS(m.ran, r + 1);
		CHECK(m.self_ok && m.addr_ok);
		CHECK_IS(m.on_alt, n % 2);
		CHECK_IS(m.page[r], r);
		CHECK(x + b == a * r + b && y - r == c);
	}
	CHECK_IS(munmap(m.page, 4096), 0);
	drop_alt(&m);
	return NULL;
}

static void *deeper(int n)
{
	volatile char room[500];

	room[0] = (char)n;
	if (recursion(n + 1) == (void *)1)
		room[1] = 1;
	return (void *)(intptr_t)room[0];
}

static void *overflows(void *arg)
{
	struct mine m = { .self = pthread_self() };
	volatile long sum = 0;

	me = &m;
	set_alt(&m, ALT);
	for (volatile int r = 0; r < 6; r++) {
		if (sigsetjmp(m.out, 1) == 0) {
			recursion(0);
			CHECK(false);
		}
		CHECK_IS(m.ran, r + 1);
		CHECK(m.on_alt && m.self_ok);
		for (int i = 0; i < 100000; i++)	/* as before: preempted, signalled */
			sum += i;
		CHECK_IS(raise(SIGUSR1), 0);
		m.ran--;
	}
	drop_alt(&m);
	(void)arg;
	return NULL;
}

/* --- how it ends --- */

static const char *const ends[] = { "overflow", "small", "null", "handler", "sent", "main", "forked", "reset" };

static void reset_and_return(int sig)
{
	signal(sig, SIG_DFL);
}

static void *dies(void *arg)
{
	const char *how = arg;

	CHECK_IS(pthread_setname_np(pthread_self(), "deep one"), 0);
	if (strcmp(how, "main") == 0)
		return NULL;
	if (strcmp(how, "null") == 0)
		*nowhere = 1;
	if (strcmp(how, "sent") == 0)
		raise(SIGSEGV);
	if (strcmp(how, "reset") == 0) {
		struct mine m = { 0 };

		set_alt(&m, ALT);
		recursion(0);
	}
	if (strcmp(how, "forked") == 0) {
		pid_t child = fork();
		int status;

		if (child == 0)
			recursion(0);
		CHECK_IS(waitpid(child, &status, 0), child);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	}
	recursion(0);
	return NULL;
}

static int die(const char *how)
{
	pthread_attr_t a;
	pthread_t t;

	CHECK_IS(pthread_attr_init(&a), 0);
	if (strcmp(how, "small") == 0)
		CHECK_IS(pthread_attr_setstacksize(&a, 64 * 1024), 0);
	if (strcmp(how, "handler") == 0)		/* no alternate stack: it cannot run */
		install(SIGSEGV, on_segv, SA_ONSTACK);
	if (strcmp(how, "reset") == 0) {
		struct sigaction sa = { .sa_handler = reset_and_return, .sa_flags = SA_ONSTACK };

		CHECK_IS(sigaction(SIGSEGV, &sa, NULL), 0);
	}
	CHECK_IS(pthread_create(&t, &a, dies, (void *)how), 0);
	finish(t);
	if (strcmp(how, "main") == 0)
		recursion(0);
	return 1;
}

static void check_end(const char *how)
{
	static char text[4096];
	size_t have = 0;
	int status, p[2];
	ssize_t n;
	pid_t child;
	bool said, under_weft = dlsym(RTLD_DEFAULT, "weft_stats") != NULL;

	CHECK_IS(pipe(p), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		dup2(p[1], 2);
		close(p[0]);
		close(p[1]);
		execl("/proc/self/exe", "altstack", how, (char *)NULL);
		_exit(99);
	}
	close(p[1]);
	while ((n = read(p[0], text + have, sizeof text - 1 - have)) > 0)
		have += (size_t)n;
	text[have] = '\0';
	close(p[0]);
	CHECK_IS(waitpid(child, &status, 0), child);
	said = strstr(text, "overflowed its stack") != NULL;
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV ||
	    said != (under_weft && strcmp(how, "null") && strcmp(how, "sent") && strcmp(how, "reset")) ||
	    (said && strcmp(how, "main") && !strstr(text, "deep one")) || (said && !strcmp(how, "small") && !strstr(text, "64 KiB"))) {
		fprintf(stderr, "%s: status %#x, said:\n%s", how, status, text);
		_exit(1);
	}
}

/* --- stacks that the program provides, or of the smallest size: preemption must not need more than there is --- */

enum { SMALL = 16384 };

static void *computes(void *arg)
{
	volatile char room[SMALL - 10000];
	uint64_t end = now_ns(CLOCK_MONOTONIC) + 30000000u;
	unsigned n = 0;

	(void)arg;
	while (now_ns(CLOCK_MONOTONIC) < end)
		for (size_t i = 0; i < sizeof room; i += 64)
			room[i] = (char)n++;
	return NULL;
}

static void small_stacks(void)
{
	const size_t below = 64 * 1024;
	char *mem[4];
	pthread_t t[8];

	for (int i = 0; i < 8; i++) {
		pthread_attr_t a;

		CHECK_IS(pthread_attr_init(&a), 0);
		if (i % 2) {
			mem[i / 2] = mmap(NULL, below + SMALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			CHECK(mem[i / 2] != MAP_FAILED);
			memset(mem[i / 2], 0x5a, below);
			CHECK_IS(pthread_attr_setstack(&a, mem[i / 2] + below, SMALL), 0);
		} else {
			CHECK_IS(pthread_attr_setstacksize(&a, SMALL), 0);
			if (i % 4)
				CHECK_IS(pthread_attr_setguardsize(&a, 0), 0);
		}
		CHECK_IS(pthread_create(&t[i], &a, computes, NULL), 0);
		pthread_attr_destroy(&a);
	}
	for (int i = 0; i < 8; i++)
		finish(t[i]);
	for (int i = 0; i < 4; i++) {
		for (size_t k = 0; k < below; k++)
			CHECK_IS(mem[i][k], 0x5a);
		munmap(mem[i], below + SMALL);
	}
}

static void wrong_arguments(void)
{
	stack_t ss = { .ss_sp = &ss, .ss_size = 2047 };

	CHECK_IS(sigaltstack(&ss, NULL), -1);
	CHECK_IS(errno, ENOMEM);
	ss = (stack_t){ .ss_sp = &ss, .ss_size = ALT, .ss_flags = 0x70 };
	CHECK_IS(sigaltstack(&ss, NULL), -1);
	CHECK_IS(errno, EINVAL);
}

static void *does_it_all(void *arg)
{
	wrong_arguments();
	return sent(arg);
}

int main(int argc, char **argv)
{
	struct mine *volatile other = NULL;
	struct sigaction usr2 = { .sa_handler = on_usr2, .sa_flags = SA_ONSTACK }, old;
	pthread_t t[THREADS];

	recursion = deeper;
	if (argc > 1)
		return die(argv[1]);
	CHECK_IS(sigaction(SIGSEGV, NULL, &old), 0);
	CHECK(old.sa_handler == SIG_DFL);
	install(SIGUSR1, on_usr1, SA_ONSTACK | SA_RESTART);
	CHECK_IS(sigaction(SIGUSR2, &usr2, NULL), 0);
	/* main before there is a second thread, and after */
	does_it_all((void *)1);
	does_it_all((void *)4);
	for (int i = 0; i < THREADS; i++)
		t[i] = start(does_it_all, (void *)(intptr_t)i);
	for (int i = 0; i < THREADS; i++)
		finish(t[i]);
	CHECK_IS(sigaction(SIGSEGV, NULL, &old), 0);
	CHECK(old.sa_handler == SIG_DFL);
	does_it_all((void *)2);

	t[0] = start(target, (void *)&other);
	while (!other)
		sched_yield();
	for (int i = 0; i < 20; i++) {
		CHECK_IS(pthread_kill(t[0], SIGUSR1), 0);
		sleep_ms(1);
	}
	while (!other->ran)
		sleep_ms(1);
	stop = 1;
	finish(t[0]);

	install(SIGSEGV, on_segv, SA_ONSTACK);
	install(SIGBUS, on_segv, SA_ONSTACK);
	faults((void *)1);
	for (int i = 0; i < THREADS; i++)
		t[i] = start(faults, (void *)(intptr_t)i);
	for (int i = 0; i < THREADS; i++)
		finish(t[i]);
	for (int i = 0; i < THREADS; i++)
		t[i] = start(overflows, NULL);
	for (int i = 0; i < THREADS; i++)
		finish(t[i]);
	CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
	CHECK_IS(sigaction(SIGSEGV, NULL, &old), 0);
	CHECK(old.sa_handler == SIG_DFL);

	small_stacks();
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
		check_end(ends[i]);
	return 0;
}
