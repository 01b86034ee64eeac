/* SPDX-License-Identifier: MIT
 * The conformance suite of scheduling policies: what weft/sched.h asks of every one. Runs against all
 * policies of the registry and against the example, which registers itself by being linked in.
 * TEST_SEED=N repeats a random run.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "weft/sched.h"

#define CANARY 64
#define PRIOS 100
#define QUEUES 3
#define NODES 300

TestSuite(policy, .timeout = 60);

/* One entry for each policy. */
static struct criterion_test_params all_policies(void)
{
	static unsigned index[16];
	size_t n = 0;

	while (weft_sched_nth((unsigned)n)) {
		index[n] = (unsigned)n;
		n++;
	}
	return cr_make_param_array(unsigned, index, n);
}

#define POLICY_TEST(name) \
	ParameterizedTestParameters(policy, name) \
	{ \
		return all_policies(); \
	} \
	ParameterizedTest(const unsigned *which, policy, name)

/* As weft makes it: zeroed, 64-byte aligned, and not a byte more. */
static void *new_queue(const struct weft_sched_ops *ops, unsigned vp)
{
	size_t rounded = (ops->queue_size + CANARY + 63) & ~(size_t)63;
	unsigned char *q = aligned_alloc(64, rounded);

	cr_assert_not_null(q);
	memset(q, 0, ops->queue_size);
	memset(q + ops->queue_size, 0x5a, CANARY);
	ops->init(q, vp);
	return q;
}

static void free_queue(const struct weft_sched_ops *ops, void *queue)
{
	unsigned char *q = queue;

	cr_assert_null(ops->pick(q), "%s: the queue is not empty at the end", ops->name);
	ops->fini(q);
	for (int i = 0; i < CANARY; i++)
		cr_assert_eq(q[ops->queue_size + i], 0x5a, "%s: wrote behind its queue", ops->name);
	free(q);
}

static void put_new(const struct weft_sched_ops *ops, void *q, struct weft_sched_node *node, int n)
{
	for (int i = 0; i < n; i++)
		ops->enqueue(q, &node[i], WEFT_ENQ_NEW);
}

POLICY_TEST(is_complete)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);

	cr_assert(ops->name && ops->name[0] && ops->summary && ops->summary[0]);
	cr_assert(ops->queue_size && ops->init && ops->fini && ops->enqueue && ops->pick &&
		  ops->steal);
	cr_assert_eq(weft_sched_find(ops->name), ops);
}

POLICY_TEST(empty_queue)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	void *a = new_queue(ops, 0), *b = new_queue(ops, 1);

	cr_assert_null(ops->pick(a));
	cr_assert_null(ops->pick(a));
	cr_assert_eq(ops->steal(a, b, 8), 0);
	cr_assert_null(ops->pick(b));
	free_queue(ops, a);
	free_queue(ops, b);
}

POLICY_TEST(usable_after_it_was_empty)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	void *q = new_queue(ops, 0);
	struct weft_sched_node node[3] = { { 0 } };

	for (int round = 0; round < 10; round++) {
		node[0].prio = round * 11;
		for (enum weft_enqueue_reason why = WEFT_ENQ_NEW; why <= WEFT_ENQ_DISPLACED; why++) {
			ops->enqueue(q, &node[0], why);
			cr_assert_eq(ops->pick(q), &node[0]);
			cr_assert_null(ops->pick(q));
		}
		put_new(ops, q, node, 3);
		for (int i = 0; i < 3; i++)
			cr_assert_not_null(ops->pick(q));
		cr_assert_null(ops->pick(q));
	}
	free_queue(ops, q);
}

POLICY_TEST(queues_are_independent)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	void *a = new_queue(ops, 0), *b = new_queue(ops, 1);
	struct weft_sched_node x = { .prio = 3 }, y = { .prio = 4 };

	ops->enqueue(a, &x, WEFT_ENQ_NEW);
	cr_assert_null(ops->pick(b));
	ops->enqueue(b, &y, WEFT_ENQ_NEW);
	cr_assert_eq(ops->pick(a), &x);
	cr_assert_null(ops->pick(a));
	cr_assert_eq(ops->pick(b), &y);
	free_queue(ops, a);
	free_queue(ops, b);
}

/* sched_yield() in a loop must let every equal run. */
POLICY_TEST(who_gave_way_comes_last)
{
	static const enum weft_enqueue_reason reason[] = { WEFT_ENQ_YIELDED, WEFT_ENQ_PREEMPTED };
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	enum { N = 20 };

	for (int r = 0; r < 2; r++) {
		struct weft_sched_node node[N] = { { 0 } }, *first;
		void *q = new_queue(ops, 0);

		for (int i = 0; i < N; i++) {
			node[i].prio = 7;
			node[i].slices = (uint32_t)i;
		}
		put_new(ops, q, node, N);
		first = ops->pick(q);
		ops->enqueue(q, first, reason[r]);
		for (int i = 1; i < N; i++)
			cr_assert_neq(ops->pick(q), first, "%s: ran again before %d others",
				      ops->name, N - i);
		cr_assert_eq(ops->pick(q), first);
		free_queue(ops, q);
	}
}

/* A ring of yielders: in every N picks each one comes exactly once. */
POLICY_TEST(yielding_in_turn)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	enum { N = 9, ROUNDS = 50 };
	struct weft_sched_node node[N] = { { 0 } };
	void *q = new_queue(ops, 0);
	int seen[N];

	put_new(ops, q, node, N);
	for (int round = 0; round < ROUNDS; round++) {
		memset(seen, 0, sizeof(seen));
		for (int i = 0; i < N; i++) {
			struct weft_sched_node *n = ops->pick(q);

			cr_assert_not_null(n);
			cr_assert_eq(seen[n - node]++, 0, "%s: out of turn", ops->name);
			ops->enqueue(q, n, WEFT_ENQ_YIELDED);
		}
	}
	for (int i = 0; i < N; i++)
		cr_assert_not_null(ops->pick(q));
	free_queue(ops, q);
}

/* Take all nodes out of both queues; each must come once, with what weft wrote into it
 * unchanged. */
static void drain(const struct weft_sched_ops *ops, void *q, struct weft_sched_node *node,
		  int *seen, unsigned expect)
{
	for (unsigned i = 0; i < expect; i++) {
		struct weft_sched_node *n = ops->pick(q);

		cr_assert_not_null(n, "%s: lost a node", ops->name);
		cr_assert_eq(seen[n - node]++, 0, "%s: gave a node twice", ops->name);
		cr_assert_eq(n->slices, (uint32_t)(n - node), "%s: changed slices", ops->name);
	}
	cr_assert_null(ops->pick(q), "%s: more nodes than were put in", ops->name);
}

POLICY_TEST(steal_moves_one_to_half)
{
	static const unsigned limits[] = { 1, 2, 3, 16, 64, 1000 };
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	enum { N = 40 };

	for (int spread = 1; spread <= 5; spread += 2)
		for (unsigned n = 1; n <= N; n++)
			for (size_t l = 0; l < sizeof(limits) / sizeof(*limits); l++) {
				void *a = new_queue(ops, 0), *b = new_queue(ops, 1);
				struct weft_sched_node node[N] = { { 0 } };
				unsigned moved, half = n / 2 ? n / 2 : 1;
				int seen[N] = { 0 };

				for (unsigned i = 0; i < n; i++) {
					node[i].prio = (int)(i % (unsigned)spread) * 20;
					node[i].slices = i;
				}
				put_new(ops, a, node, (int)n);
				moved = ops->steal(a, b, limits[l]);
				cr_assert(moved >= 1 && moved <= half && moved <= limits[l],
					  "%s: %u of %u moved, at most %u asked for", ops->name,
					  moved, n, limits[l]);
				drain(ops, b, node, seen, moved);
				drain(ops, a, node, seen, n - moved);
				free_queue(ops, a);
				free_queue(ops, b);
			}
}

/* Stealing again and again finds everything, also when the thief has nodes of its own. */
POLICY_TEST(steal_until_empty)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	enum { N = 64 };
	void *a = new_queue(ops, 0), *b = new_queue(ops, 1);
	struct weft_sched_node node[2 * N] = { { 0 } };
	int seen[2 * N] = { 0 };
	unsigned moved = 0, k;

	for (unsigned i = 0; i < 2 * N; i++) {
		node[i].prio = (int)(i % PRIOS);
		node[i].slices = i;
	}
	put_new(ops, a, node, N);
	put_new(ops, b, node + N, N);
	while ((k = ops->steal(a, b, 16)))
		moved += k;
	cr_assert_eq(moved, N);
	drain(ops, b, node, seen, 2 * N);
	free_queue(ops, a);
	free_queue(ops, b);
}

POLICY_TEST(tick_and_preempts_only_answer)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	struct weft_sched_node running = { 0 }, other = { .prio = 50 };
	void *q = new_queue(ops, 0);

	ops->enqueue(q, &other, WEFT_ENQ_WOKEN);
	for (running.prio = 0; running.prio < PRIOS; running.prio++)
		for (running.slices = 0; running.slices < 3; running.slices++) {
			struct weft_sched_node before = running;

			if (ops->tick)
				cr_assert_eq(ops->tick(q, &running), ops->tick(q, &running));
			if (ops->preempts)
				cr_assert_eq(ops->preempts(&running, &other),
					     ops->preempts(&running, &other));
			cr_assert(!memcmp(&before, &running, sizeof(before)));
		}
	cr_assert_eq(ops->pick(q), &other);
	free_queue(ops, q);
}

/* A hog must not keep the VP from its equals for ever: after its quantum the policy lets go. */
POLICY_TEST(a_hog_makes_way_for_its_equals)
{
	const struct weft_sched_ops *ops = weft_sched_nth(*which);
	struct weft_sched_node hog = { .prio = 9 }, other = { .prio = 9 };
	void *q = new_queue(ops, 0);
	bool gone = !ops->tick;

	ops->enqueue(q, &other, WEFT_ENQ_NEW);
	for (int i = 0; i < 100 && !gone; i++) {
		hog.slices++;
		gone = ops->tick(q, &hog);
	}
	cr_assert(gone, "%s: 100 quanta for one fiber", ops->name);
	ops->enqueue(q, &hog, WEFT_ENQ_PREEMPTED);
	cr_assert_eq(ops->pick(q), &other);
	cr_assert_eq(ops->pick(q), &hog);
	free_queue(ops, q);
}

/* --- random operations against a model --- */

static uint64_t random_state;

static unsigned draw(unsigned below)
{
	/* xorshift64* */
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (unsigned)((random_state * 0x2545f4914f6cdd1dull) >> 33) % below;
}

static uint64_t seed(void)
{
	const char *given = getenv("TEST_SEED");
	struct timespec now;

	if (given)
		return strtoull(given, NULL, 0) | 1;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec) | 1;
}

struct model {
	const struct weft_sched_ops *ops;
	struct weft_sched_node node[NODES];
	bool queued[NODES];
	unsigned free;			/* not queued */
	void *queue[QUEUES];
	unsigned count[QUEUES];
};

static void random_enqueue(struct model *m)
{
	unsigned i = draw(NODES), q = draw(QUEUES);

	if (!m->free)
		return;
	while (m->queued[i])
		i = (i + 1) % NODES;
	/* the links are the policy's: what is in them beforehand must not matter */
	memset(&m->node[i], 0xa5, sizeof(m->node[i]));
	m->node[i].prio = draw(2) ? 0 : (int)draw(PRIOS);
	m->node[i].slices = i;
	m->ops->enqueue(m->queue[q], &m->node[i], (enum weft_enqueue_reason)draw(5));
	m->queued[i] = true;
	m->count[q]++;
	m->free--;
}

static void random_pick(struct model *m, unsigned q)
{
	struct weft_sched_node *n = m->ops->pick(m->queue[q]);
	size_t i;

	if (!m->count[q]) {
		cr_assert_null(n, "picked from an empty queue");
		return;
	}
	cr_assert_not_null(n, "nothing from a queue of %u", m->count[q]);
	i = (size_t)(n - m->node);
	cr_assert(i < NODES && m->queued[i], "a node that is in no queue");
	cr_assert_eq(n->slices, i);
	m->queued[i] = false;
	m->count[q]--;
	m->free++;
}

static void random_steal(struct model *m)
{
	unsigned from = draw(QUEUES), to = (from + 1 + draw(QUEUES - 1)) % QUEUES;
	unsigned max = 1 + draw(40), moved, half = m->count[from] / 2;

	moved = m->ops->steal(m->queue[from], m->queue[to], max);
	if (!m->count[from])
		half = 0;
	else if (!half)
		half = 1;
	cr_assert(moved <= half && moved <= max && (moved || !half), "%u of %u moved, max %u",
		  moved, m->count[from], max);
	m->count[from] -= moved;
	m->count[to] += moved;
}

POLICY_TEST(random_operations)
{
	static struct model m;
	uint64_t s = seed();

	random_state = s;
	m.ops = weft_sched_nth(*which);
	m.free = NODES;
	cr_log_warn("%s: TEST_SEED=%#llx", m.ops->name, (unsigned long long)s);
	for (unsigned q = 0; q < QUEUES; q++)
		m.queue[q] = new_queue(m.ops, q);
	for (int phase = 0; phase < 200; phase++) {
		unsigned growth = 20 + draw(60);	/* per cent of operations that enqueue */

		for (int i = 0; i < 1000; i++) {
			unsigned what = draw(100);

			if (what < growth)
				random_enqueue(&m);
			else if (what < growth + 10)
				random_steal(&m);
			else
				random_pick(&m, draw(QUEUES));
		}
		if (phase % 10)
			continue;
		for (unsigned q = 0; q < QUEUES; q++)
			while (m.count[q])
				random_pick(&m, q);
		cr_assert_eq(m.free, NODES);
	}
	for (unsigned q = 0; q < QUEUES; q++) {
		while (m.count[q])
			random_pick(&m, q);
		free_queue(m.ops, m.queue[q]);
	}
}

/* --- the registry --- */

static void none(void *q, unsigned vp)
{
	(void)q;
	(void)vp;
}

Test(registry, names)
{
	cr_assert_eq(weft_sched_nth(0), &weft_sched_fifo);
	cr_assert_eq(weft_sched_find("fifo"), &weft_sched_fifo);
	cr_assert_eq(weft_sched_find("rr"), &weft_sched_rr);
	cr_assert_not_null(weft_sched_find("lifo"), "the example registers itself");
	cr_assert_null(weft_sched_find("Fifo"));
	cr_assert_null(weft_sched_find(""));
	cr_assert_null(weft_sched_find(NULL));
	cr_assert_null(weft_sched_nth(1000));
}

Test(registry, refuses)
{
	struct weft_sched_ops ops = weft_sched_fifo;
	static struct weft_sched_ops many[20];
	static char name[20][16];
	int i, error = 0;

	cr_assert_eq(weft_sched_register(NULL), -EINVAL);
	cr_assert_eq(weft_sched_register(&ops), -EEXIST);
	ops.name = "mine";
	ops.pick = NULL;
	cr_assert_eq(weft_sched_register(&ops), -EINVAL);
	ops = weft_sched_fifo;
	ops.name = "";
	cr_assert_eq(weft_sched_register(&ops), -EINVAL);
	ops.name = "mine";
	ops.queue_size = 0;
	cr_assert_eq(weft_sched_register(&ops), -EINVAL);
	cr_assert_null(weft_sched_find("mine"));
	for (i = 0; i < 20 && !error; i++) {
		many[i] = weft_sched_fifo;
		many[i].init = none;
		many[i].name = name[i];
		snprintf(name[i], sizeof(name[i]), "p%d", i);
		error = weft_sched_register(&many[i]);
	}
	cr_assert_eq(error, -ENOSPC);
	cr_assert_eq(weft_sched_find("p3"), &many[3]);
}
