/* SPDX-License-Identifier: MIT
 * The policies by name: the built-in ones, and those that a program adds.
 * Locking:   none: additions come before the runtime starts, from one thread (weft/sched.h);
 *            afterwards the table is constant.
 */
#include <errno.h>
#include <string.h>

#include "weft/sched.h"

#define EXPORT __attribute__((visibility("default")))
#define MOST 16
#define QUEUE_MOST (1u << 20)		/* a larger queue_size is a mistake */

static const struct weft_sched_ops *table[MOST] = {
	&weft_sched_fifo,		/* the first one is the default */
	&weft_sched_rr,
};
static unsigned count = 2;

EXPORT const struct weft_sched_ops *weft_sched_nth(unsigned i)
{
	return i < count ? table[i] : NULL;
}

EXPORT const struct weft_sched_ops *weft_sched_find(const char *name)
{
	if (!name)
		return NULL;
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(table[i]->name, name))
			return table[i];
	return NULL;
}

EXPORT int weft_sched_register(const struct weft_sched_ops *ops)
{
	if (!ops || !ops->name || !ops->name[0] || !ops->summary || !ops->queue_size ||
	    ops->queue_size > QUEUE_MOST || !ops->init || !ops->fini || !ops->enqueue ||
	    !ops->pick || !ops->steal)
		return -EINVAL;
	if (weft_sched_find(ops->name))
		return -EEXIST;
	if (count == MOST)
		return -ENOSPC;
	table[count++] = ops;
	return 0;
}
