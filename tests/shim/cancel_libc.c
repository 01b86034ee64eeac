/* SPDX-License-Identifier: MIT
 * Cancellation of threads that are inside of libc: standard I/O, system(), aio_suspend, shared objects. Built with and without -fexceptions, which
 * makes two kinds of pthread_cleanup_push.
 */
#include "cancel_check.h"

#include <aio.h>
#include <sys/wait.h>

/* --- standard I/O: who is cancelled and never waits --- */

static void *prints(void *how)
{
	FILE *f = fopen("/dev/null", "w");

	CHECK(f != NULL);
	if (how)
		setvbuf(f, NULL, _IONBF, 0);
	enter();
	for (;;)
		fprintf(f, "%s\n", "line");
	return NULL;
}

static void *reads(void *how)
{
	FILE *f = fopen("/dev/zero", "r");
	char buf[512];

	CHECK(f != NULL);
	enter();
	for (;;) {
		if (how)
			CHECK(fgets(buf, sizeof buf, f));
		else
			CHECK_IS(fread(buf, sizeof buf, 1, f), 1);
	}
	return NULL;
}

/* The request is there before the call, which is to do nothing any more. */
static void *asked_before(void *f)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	CHECK_IS(pthread_cancel(pthread_self()), 0);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	if (f)
		fputs("not to be written", f);
	else
		(void)!system("exit 3");
	CHECK(!"not reached");
	return NULL;
}

static void standard_io(void)
{
	int p[2];
	FILE *f;
	char ch;

	for (int i = 0; i < 8; i++) {
		pthread_t t = start(i & 1 ? prints : reads, (void *)(intptr_t)(i & 2));

		until(&in, 1);
		sleep_ms(i);
		cancelled(t);
	}
	CHECK_IS(pipe(p), 0);
	CHECK((f = fdopen(p[1], "w")));
	setvbuf(f, NULL, _IONBF, 0);
	CHECK(finish(start(asked_before, f)) == PTHREAD_CANCELED);
	CHECK_IS(ftrylockfile(f), 0);
	funlockfile(f);
	CHECK_IS(fclose(f), 0);
	CHECK_IS(read(p[0], &ch, 1), 0);	/* nothing was written */
	close(p[0]);
	CHECK(finish(start(asked_before, NULL)) == PTHREAD_CANCELED);
}

/* --- what waits inside of libc --- */

static FILE *stream;

static void *get_line(void *arg)
{
	char line[16];

	(void)arg;
	enter();
	CHECK(!fgets(line, sizeof line, stream));
	CHECK(!"not reached");
	return NULL;
}

static void *command(void *arg)
{
	enter();
	(void)!system(arg);
	CHECK(!"not reached");
	return NULL;
}

static char aio_byte;
static struct aiocb cb = { .aio_buf = &aio_byte, .aio_nbytes = 1 };

static void *async_io(void *arg)
{
	const struct aiocb *list[] = { &cb };

	(void)arg;
	enter();
	aio_suspend(list, 1, NULL);
	CHECK(!"not reached");
	return NULL;
}

static pthread_mutex_t shared_m;
static pthread_cond_t shared_c;

static void unlock_shared(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_mutex_unlock(&shared_m), 0);
}

static void *shared_cond(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_mutex_lock(&shared_m), 0);
	enter();
	pthread_cleanup_push(unlock_shared, NULL);
	for (;;)
		pthread_cond_wait(&shared_c, &shared_m);
	pthread_cleanup_pop(1);
	return NULL;
}

static void in_libc(void)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	int p[2], q[2];
	pthread_t t;

	CHECK_IS(pipe(p), 0);
	CHECK_IS(pipe(q), 0);
	CHECK((stream = fdopen(p[0], "r")));
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_settype(&ma, PTHREAD_MUTEX_ERRORCHECK);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&shared_c, &ca);
	for (int i = 0; i < 6; i++) {
		t = start(get_line, NULL);
		until(&in, 1);
		usleep((useconds_t)i * 1000);
		cancelled(t);
		CHECK_IS(ftrylockfile(stream), 0);	/* its lock is free again */
		funlockfile(stream);
		t = start(command, "exec sleep 100");
		until(&in, 1);
		usleep((useconds_t)i * 4000);
		cancelled(t);
		CHECK_IS(waitpid(-1, NULL, WNOHANG), -1);	/* the command is gone, too */
		pthread_mutexattr_setrobust(&ma, i & 1 ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
		CHECK_IS(pthread_mutex_init(&shared_m, &ma), 0);
		t = start(shared_cond, NULL);
		until(&in, 1);
		usleep((useconds_t)i * 1000);
		cancelled(t);
		CHECK_IS(pthread_mutex_trylock(&shared_m), 0);
		CHECK_IS(pthread_mutex_unlock(&shared_m), 0);
	}
	cb.aio_fildes = q[0];
	CHECK_IS(aio_read(&cb), 0);
	for (int i = 0; i < 6; i++) {
		t = start(async_io, NULL);
		until(&in, 1);
		usleep((useconds_t)i * 1000);
		cancelled(t);
	}
	CHECK_IS(write(q[1], "x", 1), 1);
	CHECK_IS(fclose(stream), 0);
}

int main(void)
{
	alarm(55);
	standard_io();
	in_libc();
	return 0;
}
