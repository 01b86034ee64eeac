/* SPDX-License-Identifier: MIT
 * The default policy: first in, first out, whatever the priority; fibers that used up a quantum wait behind the others (fifo.h).
 *
 * Every fiber that is put back goes to the end of its line, so each runnable fiber of a VP runs once before any
 * runs twice, hogs excepted (one that had to make way for others goes on first until its slice is over), and a fiber that spins on sched_yield() cannot hold up the one it waits for.
 * No tick and no preempts: the end of a quantum is always obeyed, and a woken fiber always goes
 * first, while what it was woken for is in the cache.
 */
#include "sched/fifo.h"

#include <time.h>

static void fifo_init(void *queue, unsigned vp)
{
	struct weft__fifo_queue *q = queue;

	(void)vp;
	weft__fifo_init(&q->ready);
	weft__fifo_init(&q->hogs);
	q->passed = 0;
}

static void fifo_fini(void *queue)
{
	(void)queue;
}

static void fifo_enqueue(void *queue, struct weft_sched_node *node, enum weft_enqueue_reason why)
{
	struct weft__fifo_queue *q = queue;

	if (why == WEFT_ENQ_DISPLACED)
		weft__fifo_put_back(&q->hogs, node);
	else
		weft__fifo_enqueue(why == WEFT_ENQ_PREEMPTED && node->slices ? &q->hogs : &q->ready, node);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Both lines have somebody. */
static bool hogs_turn(struct weft__fifo_queue *q)
{
	unsigned n = q->passed++;

	if (n == 0)
		q->since = now();
	else if (n % WEFT__FIFO_GLANCE == 0)
		return n >= WEFT__FIFO_PASS || now() - q->since >= WEFT__FIFO_PASS_NS;
	return false;
}

static struct weft_sched_node *fifo_pick(void *queue)
{
	struct weft__fifo_queue *q = queue;

	if (!weft__fifo_empty(&q->hogs) && (weft__fifo_empty(&q->ready) || hogs_turn(q))) {
		q->passed = 0;
		return weft__fifo_pick(&q->hogs);
	}
	return weft__fifo_pick(&q->ready);
}

static unsigned fifo_steal(void *victim, void *thief, unsigned max)
{
	struct weft__fifo_queue *v = victim, *t = thief;
	unsigned n = weft__fifo_steal(&v->ready, &t->ready, max);

	return n ? n : weft__fifo_steal(&v->hogs, &t->hogs, max);
}

__attribute__((visibility("default"))) const struct weft_sched_ops weft_sched_fifo = {
	.name = "fifo",
	.summary = "first in, first out, priorities ignored (default)",
	.queue_size = sizeof(struct weft__fifo_queue),
	.init = fifo_init,
	.fini = fifo_fini,
	.enqueue = fifo_enqueue,
	.pick = fifo_pick,
	.steal = fifo_steal,
};
