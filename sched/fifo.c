/* SPDX-License-Identifier: MIT
 * The default policy: first in, first out, whatever the reason and the priority.
 *
 * Every fiber that is put back goes to the end, so each runnable fiber of a VP runs once before any
 * runs twice, and a fiber that spins on sched_yield() cannot hold up the one it waits for.
 * No tick and no preempts: the end of a quantum is always obeyed, and a woken fiber always goes
 * first, while what it was woken for is in the cache.
 */
#include "sched/fifo.h"

static void fifo_init(void *queue, unsigned vp)
{
	(void)vp;
	weft__fifo_init(queue);
}

static void fifo_fini(void *queue)
{
	(void)queue;
}

static void fifo_enqueue(void *queue, struct weft_sched_node *node, enum weft_enqueue_reason why)
{
	(void)why;
	weft__fifo_enqueue(queue, node);
}

static struct weft_sched_node *fifo_pick(void *queue)
{
	return weft__fifo_pick(queue);
}

static unsigned fifo_steal(void *victim, void *thief, unsigned max)
{
	return weft__fifo_steal(victim, thief, max);
}

__attribute__((visibility("default"))) const struct weft_sched_ops weft_sched_fifo = {
	.name = "fifo",
	.summary = "first in, first out, priorities ignored (default)",
	.queue_size = sizeof(struct weft__fifo),
	.init = fifo_init,
	.fini = fifo_fini,
	.enqueue = fifo_enqueue,
	.pick = fifo_pick,
	.steal = fifo_steal,
};
