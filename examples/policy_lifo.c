/* SPDX-License-Identifier: MIT
 * A minimal policy: last in, first out. New and woken fibers run first, while what they need is
 * still in the cache; fibers that yielded or used up their quantum wait at the other end.
 *
 * In a program that uses weft/weft.h: link this file in and set WEFT_POLICY=lifo.
 * For an unmodified program: make a shared object of it and preload it beside weft:
 *
 *     cc -shared -fPIC -o policy_lifo.so policy_lifo.c
 *     LD_PRELOAD="$(pkg-config --variable=shim weft):$PWD/policy_lifo.so" WEFT_POLICY=lifo PROGRAM
 *
 * docs/WRITING-A-POLICY.md explains it.
 */
#include <stdio.h>
#include <string.h>

#include <weft/sched.h>

/* A ring through `ends`: ends.next is the front, ends.prev the back. */
struct lifo {
	struct weft_sched_node ends;
};

static void link_after(struct weft_sched_node *place, struct weft_sched_node *node)
{
	node->prev = place;
	node->next = place->next;
	place->next->prev = node;
	place->next = node;
}

static struct weft_sched_node *unlink_node(struct weft_sched_node *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	return node;
}

static void lifo_init(void *queue, unsigned vp)
{
	struct lifo *q = queue;

	(void)vp;
	q->ends.next = q->ends.prev = &q->ends;
}

static void lifo_fini(void *queue)
{
	(void)queue;
}

static void lifo_enqueue(void *queue, struct weft_sched_node *node, enum weft_enqueue_reason why)
{
	struct lifo *q = queue;

	/* a fiber that gave way must let the others run, or a loop around sched_yield() never
	 * ends */
	if (why == WEFT_ENQ_YIELDED || why == WEFT_ENQ_PREEMPTED)
		link_after(q->ends.prev, node);
	else
		link_after(&q->ends, node);
}

static struct weft_sched_node *lifo_pick(void *queue)
{
	struct lifo *q = queue;

	return q->ends.next == &q->ends ? NULL : unlink_node(q->ends.next);
}

/* One is enough: take the coldest, which lay longest at the back. */
static unsigned lifo_steal(void *victim, void *thief, unsigned max)
{
	struct lifo *from = victim, *to = thief;

	if (!max || from->ends.prev == &from->ends)
		return 0;
	link_after(to->ends.prev, unlink_node(from->ends.prev));
	return 1;
}

static const struct weft_sched_ops lifo = {
	.name = "lifo",
	.summary = "last in, first out (example)",
	.queue_size = sizeof(struct lifo),
	.init = lifo_init,
	.fini = lifo_fini,
	.enqueue = lifo_enqueue,
	.pick = lifo_pick,
	.steal = lifo_steal,
};

/* Weak: preloaded into a program that does not run under weft, this file does nothing. */
#pragma weak weft_sched_register

__attribute__((constructor)) static void add_lifo(void)
{
	int error = weft_sched_register ? weft_sched_register(&lifo) : 0;

	if (error)
		fprintf(stderr, "policy_lifo: weft did not take it: %s\n", strerror(-error));
}
