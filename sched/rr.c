/* SPDX-License-Identifier: MIT
 * Round robin with 100 priority levels, after POSIX SCHED_RR.
 *
 * Model:     a FIFO per level and a bitmap of the levels that are not empty; pick takes the oldest
 *            of the highest.
 * Order:     strict: a level runs only while all higher ones are empty, so a fiber that never waits
 *            starves the lower levels of its VP. That is what POSIX asks for.
 * Put back:  always at the end of the level, also after preemption by a more urgent fiber. POSIX
 *            puts that one at the head for the rest of its quantum; weft does not keep the rest,
 *            and a fresh quantum at the head each time would let one fiber starve its equals when
 *            urgent ones wake more often than a quantum lasts.
 * Tick:      a fiber whose quantum ended makes way for its equals and its betters, never for lower
 *            levels.
 * Wake-up:   preempts a lower level at once, an equal one only if it has used up a whole quantum
 *            since it last waited (it computes, the woken one does not).
 * Steal:     half of the highest level: the thief has nothing to run, so the most urgent work is
 *            worth moving most. At most half of the queue then follows by itself.
 */
#include "sched/fifo.h"

#define LEVELS 100
#define WORDS ((LEVELS + 63) / 64)

struct rr_queue {
	uint64_t used[WORDS];		/* bit p of the whole: level p is not empty */
	struct weft__fifo level[LEVELS];
};

static void rr_init(void *queue, unsigned vp)
{
	struct rr_queue *q = queue;

	(void)vp;
	for (int i = 0; i < WORDS; i++)
		q->used[i] = 0;
	for (int p = 0; p < LEVELS; p++)
		weft__fifo_init(&q->level[p]);
}

static void rr_fini(void *queue)
{
	(void)queue;
}

/* The highest level in use, -1 if there is none. */
static inline int highest(const struct rr_queue *q)
{
	for (int i = WORDS - 1; i >= 0; i--)
		if (q->used[i])
			return i * 64 + 63 - __builtin_clzll(q->used[i]);
	return -1;
}

static inline void mark(struct rr_queue *q, int p)
{
	q->used[p >> 6] |= 1ull << (p & 63);
}

/* Level `p` may have become empty. */
static inline void unmark(struct rr_queue *q, int p)
{
	if (weft__fifo_empty(&q->level[p]))
		q->used[p >> 6] &= ~(1ull << (p & 63));
}

static void rr_enqueue(void *queue, struct weft_sched_node *node, enum weft_enqueue_reason why)
{
	struct rr_queue *q = queue;

	(void)why;
	weft__fifo_enqueue(&q->level[node->prio], node);
	mark(q, node->prio);
}

static struct weft_sched_node *rr_pick(void *queue)
{
	struct rr_queue *q = queue;
	struct weft_sched_node *node;
	int p = highest(q);

	if (p < 0)
		return NULL;
	node = weft__fifo_pick(&q->level[p]);
	unmark(q, p);
	return node;
}

static unsigned rr_steal(void *victim, void *thief, unsigned max)
{
	struct rr_queue *from = victim, *to = thief;
	int p = highest(from);
	unsigned n;

	if (p < 0 || !max)
		return 0;
	n = weft__fifo_steal(&from->level[p], &to->level[p], max);
	unmark(from, p);
	mark(to, p);
	return n;
}

static bool rr_tick(void *queue, const struct weft_sched_node *running)
{
	return highest(queue) >= running->prio;
}

static bool rr_preempts(const struct weft_sched_node *running,
			const struct weft_sched_node *woken)
{
	if (woken->prio != running->prio)
		return woken->prio > running->prio;
	return running->slices > 0;
}

__attribute__((visibility("default"))) const struct weft_sched_ops weft_sched_rr = {
	.name = "rr",
	.summary = "priorities 0 to 99, round robin within one; a higher one always runs first",
	.queue_size = sizeof(struct rr_queue),
	.init = rr_init,
	.fini = rr_fini,
	.enqueue = rr_enqueue,
	.pick = rr_pick,
	.steal = rr_steal,
	.tick = rr_tick,
	.preempts = rr_preempts,
};
