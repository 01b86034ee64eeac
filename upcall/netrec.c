/* SPDX-License-Identifier: MIT
 * See netrec.h.
 */
#include "upcall/netrec.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct weft__netrec *_Atomic weft__netrec_top[WEFT__NETREC_TOP];

struct weft__netrec *weft__netrec_make(int fd)
{
	struct weft__netrec *_Atomic *slot = &weft__netrec_top[fd / WEFT__NETREC_CHUNK];
	size_t size = WEFT__NETREC_CHUNK * sizeof(struct weft__netrec);
	struct weft__netrec *chunk = NULL, *fresh;
	long mem = weft__arch_syscall(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem < 0 && mem > -4096)
		return NULL;
	fresh = (struct weft__netrec *)mem;
	/* [NETPOLL-1] release; pairs with acquire in weft__netrec_of; and that, for who comes second */
	if (atomic_compare_exchange_strong_explicit(slot, &chunk, fresh, memory_order_acq_rel, memory_order_acquire))
		chunk = fresh;
	else
		weft__arch_syscall(SYS_munmap, mem, (long)size, 0, 0, 0, 0);
	return &chunk[fd % WEFT__NETREC_CHUNK];
}

int weft__netrec_arm(struct weft__netrec *r, int fd, bool edge)
{
	uint32_t want = 0, set, how;
	int err = 0;

	for (struct weft__netwaiter *w = r->first; w; w = w->next)
		want |= w->events;
	for (int tries = 0; tries < 4; tries++) {
		set = want | weft__netrec_edges(r);
		how = EPOLLONESHOT;
		if (edge || weft__netrec_edges(r)) {
			how = EPOLLET;
			if (set & EPOLLIN)
				set |= EPOLLPRI | EPOLLRDHUP;
		}
		err = weft__net_ctl(r->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, set | how, (uint64_t)fd);
		if (err == 0) {
			r->added = true;
			if (how == EPOLLET && !weft__netrec_edges(r))
				atomic_store_explicit(&r->more, false, memory_order_relaxed);
			weft__netrec_set_edges(r, how == EPOLLET ? set : 0);
			return 0;
		}
		if (err == -ENOENT || err == -EEXIST) {
			/* the number is another file's than we thought */
			r->added = err == -EEXIST;
			weft__netrec_set_edges(r, 0);
			continue;
		}
		break;
	}
	weft__netrec_set_edges(r, 0);
	if (err == -EPERM || (err == -EBADF && weft__arch_syscall(SYS_fcntl, fd, F_GETFD, 0, 0, 0, 0) < 0))
		return err;
	if ((err == -EBADF || err == -EINVAL) && !weft__net_alive())
		return -ESTALE;
	return err == -EBADF ? -EAGAIN : -ENOSYS;
}
