/* SPDX-License-Identifier: MIT
 * weft_chan: order, capacity, rendezvous, time-outs, close, many senders and receivers, foreign
 * threads. What fibers see is recorded there and asserted after the join.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weft/sync.h"
#include "weft/weft.h"

enum { MESSAGES = 5000 };
static const uint64_t MS = 1000000;

TestSuite(chan, .timeout = 60);

static weft_chan *chan;

static weft_fiber *spawn(void *(*fn)(void *), void *arg)
{
	weft_fiber *f;

	cr_assert_eq(weft_spawn(&f, NULL, fn, arg), 0);
	return f;
}

static void join(weft_fiber *f)
{
	cr_assert_eq(weft_join(f, NULL), 0);
}

static void start(size_t size, size_t cap)
{
	cr_assert_eq(weft_init(), 0);
	chan = weft_chan_new(size, cap);
	cr_assert_not_null(chan);
}

Test(chan, arguments)
{
	errno = 0;
	cr_expect_null(weft_chan_new(0, 1));
	cr_expect_eq(errno, EINVAL);
	errno = 0;
	cr_expect_null(weft_chan_new(SIZE_MAX / 2, 3));
	cr_expect_eq(errno, ENOMEM);
	weft_chan_free(NULL);
}

/* No runtime needed as long as nobody waits; nor to wait, in a plain thread. */
Test(chan, before_init)
{
	weft_chan *c = weft_chan_new(sizeof(int), 2);
	int m = 7;

	cr_expect_eq(weft_chan_send(c, &m, WEFT_FOREVER), 0);
	m = 8;
	cr_expect_eq(weft_chan_send(c, &m, 0), 0);
	cr_expect_eq(weft_chan_send(c, &m, MS), -ETIMEDOUT);
	cr_expect_eq(weft_chan_recv(c, &m, 0), 0);
	cr_expect_eq(m, 7);
	cr_expect_eq(weft_chan_recv(c, &m, WEFT_FOREVER), 0);
	cr_expect_eq(m, 8);
	cr_expect_eq(weft_chan_recv(c, &m, 0), -ETIMEDOUT);
	cr_expect_eq(weft_chan_recv(c, &m, MS), -ETIMEDOUT);
	weft_chan_free(c);
}

/* --- one sender, one receiver --- */

static atomic_uint wrong;

static void *send_numbers(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < MESSAGES; i++)
		if (weft_chan_send(chan, &i, WEFT_FOREVER) != 0)
			atomic_fetch_add(&wrong, 1);
	weft_chan_close(chan);
	return NULL;
}

static void *recv_numbers(void *arg)
{
	unsigned m, n = 0;
	int r;

	(void)arg;
	while ((r = weft_chan_recv(chan, &m, WEFT_FOREVER)) == 0)
		if (m != n++)
			atomic_fetch_add(&wrong, 1);
	if (r != -EPIPE)
		atomic_fetch_add(&wrong, 1);
	return (void *)(uintptr_t)n;
}

static void in_order(size_t cap)
{
	weft_fiber *s, *r;
	void *n;

	start(sizeof(unsigned), cap);
	s = spawn(send_numbers, NULL);
	r = spawn(recv_numbers, NULL);
	join(s);
	cr_assert_eq(weft_join(r, &n), 0);
	cr_expect_eq((uintptr_t)n, MESSAGES);
	cr_expect_eq(atomic_load(&wrong), 0);
	weft_chan_free(chan);
}

Test(chan, rendezvous_in_order) { in_order(0); }
Test(chan, one_slot_in_order) { in_order(1); }
Test(chan, ring_in_order) { in_order(7); }
Test(chan, ring_larger_than_all) { in_order(MESSAGES + 1); }

Test(chan, foreign_receiver)
{
	weft_fiber *s;
	pthread_t t;
	void *n;

	start(sizeof(unsigned), 3);
	cr_assert_eq(pthread_create(&t, NULL, recv_numbers, NULL), 0);
	s = spawn(send_numbers, NULL);
	join(s);
	pthread_join(t, &n);
	cr_expect_eq((uintptr_t)n, MESSAGES);
	cr_expect_eq(atomic_load(&wrong), 0);
}

/* --- rendezvous: send returns only when the message was taken --- */

static atomic_int sent;

static void *send_one(void *arg)
{
	int m = 42;
	int r = weft_chan_send(chan, &m, WEFT_FOREVER);

	(void)arg;
	m = 0;				/* the receiver has its copy */
	atomic_store(&sent, 1);
	return (void *)(intptr_t)r;
}

Test(chan, rendezvous_meets)
{
	weft_fiber *s;
	int m = 0, early;

	start(sizeof(int), 0);
	s = spawn(send_one, NULL);
	weft_sleep(10 * MS);
	early = atomic_load(&sent);
	cr_expect_eq(weft_chan_recv(chan, &m, WEFT_FOREVER), 0);
	join(s);
	cr_expect_eq(early, 0);
	cr_expect_eq(m, 42);
	cr_expect_eq(atomic_load(&sent), 1);
}

/* --- large messages --- */

enum { LARGE = 100000 };

static void *send_large(void *arg)
{
	unsigned char *m = malloc(LARGE);

	(void)arg;
	for (int i = 0; i < 20; i++) {
		memset(m, i, LARGE);
		weft_chan_send(chan, m, WEFT_FOREVER);
	}
	free(m);
	weft_chan_close(chan);
	return NULL;
}

Test(chan, large_messages)
{
	unsigned char *m = malloc(LARGE);
	weft_fiber *s;
	int n = 0, torn = 0;

	start(LARGE, 2);
	s = spawn(send_large, NULL);
	while (weft_chan_recv(chan, m, WEFT_FOREVER) == 0) {
		for (size_t i = 0; i < LARGE; i++)
			torn += m[i] != n;
		n++;
	}
	join(s);
	cr_expect_eq(n, 20);
	cr_expect_eq(torn, 0);
	free(m);
}

/* --- many to many, some with time-outs that race with the partner: nothing lost, nothing twice
 * --- */

enum { SIDES = 8, EACH = 2000 };
static atomic_uchar got[SIDES * EACH];
static atomic_uint timeouts;

static void *send_many(void *first)
{
	unsigned base = (unsigned)(uintptr_t)first;

	for (unsigned i = base; i < base + EACH; i++) {
		int r;

		while ((r = weft_chan_send(chan, &i, i % 3 ? WEFT_FOREVER : 2000)) == -ETIMEDOUT)
			atomic_fetch_add(&timeouts, 1);
		if (r != 0)
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

static void *recv_many(void *slow)
{
	unsigned m, n = 0;
	int r;

	for (;;) {
		r = weft_chan_recv(chan, &m, n % 3 ? WEFT_FOREVER : 2000);
		if (r == -EPIPE)
			return NULL;
		if (r == -ETIMEDOUT) {
			atomic_fetch_add(&timeouts, 1);
			continue;
		}
		if (r != 0 || m >= SIDES * EACH || atomic_fetch_add(&got[m], 1) != 0)
			atomic_fetch_add(&wrong, 1);
		if (slow && n % 64 == 0)
			weft_sleep(50000);
		n++;
	}
}

static void many(size_t cap, void *slow)
{
	weft_fiber *s[SIDES], *r[SIDES];
	unsigned missing = 0;

	start(sizeof(unsigned), cap);
	for (unsigned i = 0; i < SIDES; i++) {
		s[i] = spawn(send_many, (void *)(uintptr_t)(i * EACH));
		r[i] = spawn(recv_many, slow);
	}
	for (unsigned i = 0; i < SIDES; i++)
		join(s[i]);
	weft_chan_close(chan);
	for (unsigned i = 0; i < SIDES; i++)
		join(r[i]);
	for (unsigned i = 0; i < SIDES * EACH; i++)
		missing += atomic_load(&got[i]) != 1;
	cr_expect_eq(missing, 0);
	cr_expect_eq(atomic_load(&wrong), 0);
}

Test(chan, many_rendezvous) { many(0, NULL); }
Test(chan, many_ring) { many(4, NULL); }
Test(chan, many_slow_receivers) { many(2, &chan); }

/* --- close --- */

static void *recv_result(void *arg)
{
	int m;

	(void)arg;
	return (void *)(intptr_t)weft_chan_recv(chan, &m, WEFT_FOREVER);
}

Test(chan, close_wakes_receivers)
{
	weft_fiber *f[4];
	void *r[4];

	start(sizeof(int), 1);
	for (int i = 0; i < 4; i++)
		f[i] = spawn(recv_result, NULL);
	weft_sleep(5 * MS);
	weft_chan_close(chan);
	weft_chan_close(chan);		/* twice is once */
	for (int i = 0; i < 4; i++)
		cr_assert_eq(weft_join(f[i], &r[i]), 0);
	for (int i = 0; i < 4; i++)
		cr_expect_eq((intptr_t)r[i], -EPIPE);
	weft_chan_free(chan);
}

Test(chan, close_wakes_senders_keeps_messages)
{
	weft_fiber *f[4];
	void *r[4];
	int m = 1;

	start(sizeof(int), 2);
	cr_assert_eq(weft_chan_send(chan, &m, 0), 0);
	m = 2;
	cr_assert_eq(weft_chan_send(chan, &m, 0), 0);
	for (int i = 0; i < 4; i++)
		f[i] = spawn(send_one, NULL);
	weft_sleep(5 * MS);
	weft_chan_close(chan);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(weft_join(f[i], &r[i]), 0);
	for (int i = 0; i < 4; i++)
		cr_expect_eq((intptr_t)r[i], -EPIPE);
	cr_expect_eq(weft_chan_send(chan, &m, WEFT_FOREVER), -EPIPE);
	cr_expect_eq(weft_chan_recv(chan, &m, WEFT_FOREVER), 0);
	cr_expect_eq(m, 1);
	cr_expect_eq(weft_chan_recv(chan, &m, WEFT_FOREVER), 0);
	cr_expect_eq(m, 2);
	cr_expect_eq(weft_chan_recv(chan, &m, WEFT_FOREVER), -EPIPE);
}

/* Waiting receivers are served in the order in which they came. */
static atomic_int arrived;

static void *recv_in_turn(void *arg)
{
	int m = -1;

	(void)arg;
	atomic_fetch_add(&arrived, 1);
	weft_chan_recv(chan, &m, WEFT_FOREVER);
	return (void *)(intptr_t)m;
}

Test(chan, receivers_are_served_in_order)
{
	weft_fiber *f[5];
	void *r[5];

	start(sizeof(int), 0);
	for (int i = 0; i < 5; i++) {
		f[i] = spawn(recv_in_turn, NULL);
		while (atomic_load(&arrived) != i + 1)
			weft_yield();
		weft_sleep(5 * MS);
	}
	for (int i = 0; i < 5; i++)
		cr_assert_eq(weft_chan_send(chan, &i, WEFT_FOREVER), 0);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(weft_join(f[i], &r[i]), 0);
	for (int i = 0; i < 5; i++)
		cr_expect_eq((intptr_t)r[i], i);
}
