/* SPDX-License-Identifier: MIT
 * sieve: prime numbers through a pipeline of channels. A generator sends 2, 3, 4 … into the first
 * channel; each stage takes the first number it gets as its prime, and passes on what that does
 * not divide. One fiber per prime, so a number meets as many fibers as there are smaller primes.
 *
 *     sieve [LIMIT]                                 (1000 unless told)
 *
 * Prints the primes below LIMIT, how many there are and how many messages were passed. Checks them
 * against trial division. Exit status 0 if they agree.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <weft/sync.h>
#include <weft/weft.h>

enum { CAP = 16 };		/* some slack, so that a stage need not wait at every number */

static int limit = 1000;
static weft_chan *primes;		/* from the stages to main */
static atomic_ulong messages;

static void give_up(const char *what)
{
	fprintf(stderr, "sieve: %s\n", what);
	exit(1);
}

static void spawn_stage(void *(*fn)(void *), weft_chan *in)
{
	struct weft_attr attr = { .tls = WEFT_TLS_FULL, .detached = 1, .stack_size = 65536 };

	if (weft_spawn(NULL, &attr, fn, in) < 0)
		give_up("cannot spawn a fiber");
}

static weft_chan *new_channel(void)
{
	weft_chan *c = weft_chan_new(sizeof(int), CAP);

	if (!c)
		give_up("no memory for a channel");
	return c;
}

static void *generate(void *arg)
{
	weft_chan *out = arg;

	for (int n = 2; n < limit; n++)
		weft_chan_send(out, &n, WEFT_FOREVER);
	weft_chan_close(out);		/* the close runs down the pipeline and ends each stage */
	return NULL;
}

static void *stage(void *arg)
{
	weft_chan *in = arg, *out = NULL;
	unsigned long n = 0;
	int prime, m;

	if (weft_chan_recv(in, &prime, WEFT_FOREVER) == 0) {
		weft_chan_send(primes, &prime, WEFT_FOREVER);
		out = new_channel();
		spawn_stage(stage, out);
		for (n = 1; weft_chan_recv(in, &m, WEFT_FOREVER) == 0; n++)
			if (m % prime != 0)
				weft_chan_send(out, &m, WEFT_FOREVER);
		weft_chan_close(out);
	} else {
		weft_chan_close(primes);	/* the last stage: no number came */
	}
	weft_chan_free(in);		/* closed and drained: its sender is done with it */
	atomic_fetch_add(&messages, n);
	return NULL;
}

static int is_prime(int n)
{
	for (int d = 2; d * d <= n; d++)
		if (n % d == 0)
			return 0;
	return n >= 2;
}

int main(int argc, char **argv)
{
	int count = 0, expected = 0, wrong = 0, p;

	if (argc > 1)
		limit = atoi(argv[1]);
	if (limit < 3 || limit > 200000 || argc > 2) {
		fprintf(stderr, "usage: sieve [LIMIT], 3 to 200000\n");
		return 2;
	}
	if (weft_init() < 0)
		give_up("weft does not start");
	primes = new_channel();
	weft_chan *first = new_channel();
	spawn_stage(generate, first);
	spawn_stage(stage, first);

	for (int last = 0; weft_chan_recv(primes, &p, WEFT_FOREVER) == 0; last = p) {
		printf("%d%s", p, ++count % 10 ? " " : "\n");
		wrong += !is_prime(p) || p <= last;
	}
	weft_fini();			/* every stage has ended */
	weft_chan_free(primes);

	for (int n = 2; n < limit; n++)
		expected += is_prime(n);
	printf("%s%d primes below %d, %lu messages: %s\n", count % 10 ? "\n" : "", count, limit,
	       atomic_load(&messages), wrong || count != expected ? "WRONG" : "right");
	return wrong || count != expected;
}
