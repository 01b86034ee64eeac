/* SPDX-License-Identifier: MIT
 * The common queue: fibers made runnable from outside a VP: by the monitor, the poller, foreign threads, and fibers that
 * lost their VP in the kernel. FIFO; any VP takes a fair share when its own queue is empty, and looks every 64 schedulings.
 */
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/vpqueue.h"

void weft__inject(struct weft__fiber *f)
{
	f->next = NULL;
	weft__lock(&weft__rt.inject_lock, WEFT__RANK_INJECT);
	if (weft__rt.inject_tail)
		weft__rt.inject_tail->next = f;
	else
		weft__rt.inject_head = f;
	weft__rt.inject_tail = f;
	/* relaxed: [ASYM] the fence below orders it against an idle VP's last look */
	atomic_fetch_add_explicit(&weft__rt.inject_len, 1, memory_order_relaxed);
	weft__unlock(&weft__rt.inject_lock, WEFT__RANK_INJECT);
}

unsigned weft__inject_take(struct weft__vp *vp)
{
	struct weft__fiber *list, **end = &list;
	unsigned len = atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed), n = 0, share;

	if (len == 0)
		return 0;
	weft__lock(&weft__rt.inject_lock, WEFT__RANK_INJECT);
	len = atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed);
	share = len / weft__rt.nvps + 1;
	while (n < share && weft__rt.inject_head) {
		struct weft__fiber *f = weft__rt.inject_head;

		weft__rt.inject_head = f->next;
		*end = f;
		end = &f->next;
		n++;
	}
	if (!weft__rt.inject_head)
		weft__rt.inject_tail = NULL;
	*end = NULL;
	atomic_fetch_sub_explicit(&weft__rt.inject_len, n, memory_order_relaxed);
	weft__unlock(&weft__rt.inject_lock, WEFT__RANK_INJECT);
	weft__vpq_lock(vp);
	while (list) {
		struct weft__fiber *f = list;

		list = f->next;
		vp->burst += f->reads;
		weft__rt.ops->enqueue(vp->queue, &f->node, WEFT_ENQ_WOKEN);
	}
	atomic_store_explicit(&vp->len, atomic_load_explicit(&vp->len, memory_order_relaxed) + n,
			      memory_order_relaxed);
	weft__vpq_unlock(vp);
	return n;
}
