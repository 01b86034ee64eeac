/* SPDX-License-Identifier: MIT
 * Waiting for what libc's own threads do: aio_suspend, lio_listio, gai_suspend, getaddrinfo_a.
 *
 * They wait on futexes inside libc, which no SA_RESTART restarts: an interruption that was ours is made good here. Where
 * libc cannot be asked again, because that would submit the work anew (LIO_WAIT, GAI_WAIT), it is asked to submit only, and waited for
 * by the call that can.
 */
#undef _FORTIFY_SOURCE
#include <aio.h>
#include <errno.h>
#include <netdb.h>

#include "pthread/io.h"
#include "upcall/block.h"

WEFT__REAL(aio_suspend);
WEFT__REAL(lio_listio);
WEFT__REAL(gai_suspend);
WEFT__REAL(getaddrinfo_a);

/* What is left of a timeout, when the call is made again. */
struct patience {
	const struct timespec *asked;	/* NULL: for ever; an invalid one is the callee's business */
	struct timespec left;
	uint64_t deadline;
	bool again;
};

static struct patience patience(const struct timespec *timeout)
{
	struct patience p = { .asked = timeout };

	if (timeout && timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < 1000000000)
		p.deadline = weft__io_deadline(timeout);
	return p;
}

static const struct timespec *left(struct patience *p)
{
	if (!p->again || !p->deadline) {
		p->again = true;
		return p->asked;
	}
	p->left = weft__io_left(p->deadline);
	return &p->left;
}

WEFT__EXPORT int aio_suspend(const struct aiocb *const list[], int n, const struct timespec *timeout)
{
	struct weft__fiber *self = weft__io_self();
	struct patience p;
	long r;

	if (!self)
		return weft__real(aio_suspend)(list, n, timeout);
	weft__testcancel();		/* while it waits: as what blocks inside of libc (upcall/cancel.h) */
	p = patience(timeout);
	r = WEFT__MARKED_LONG(self, weft__real(aio_suspend)(list, n, left(&p)) == 0 ? 0 : -errno);
	return (int)weft__io_ret(r);
}

/* the same struct, whose offsets have 64 bits in any case */
WEFT__EXPORT int aio_suspend64(const struct aiocb64 *const list[], int n, const struct timespec *timeout)
{
	return aio_suspend((const struct aiocb *const *)list, n, timeout);
}

/* All of them; 0 or the first error. -EINTR: a handler of the program's. */
static int finish_all(struct aiocb *const list[], int n)
{
	int err = 0;

	for (int i = 0; i < n; i++) {
		const struct aiocb *one[1] = { list[i] };
		int e;

		if (!list[i] || list[i]->aio_lio_opcode == LIO_NOP)
			continue;
		while ((e = aio_error(list[i])) == EINPROGRESS)
			if (aio_suspend(one, 1, NULL) != 0 && errno == EINTR)
				return EINTR;
		if (e && !err)
			err = EIO;
	}
	return err;
}

WEFT__EXPORT int lio_listio(int mode, struct aiocb *const list[restrict], int n, struct sigevent *restrict event)
{
	int err;

	if (mode != LIO_WAIT || !weft__io_self())
		return weft__real(lio_listio)(mode, list, n, event);
	/* EIO: some could not be submitted; the others are on their way */
	if (weft__real(lio_listio)(LIO_NOWAIT, list, n, NULL) != 0 && errno != EIO)
		return -1;
	err = finish_all(list, n);
	return (int)weft__io_ret(-err);
}

WEFT__EXPORT int lio_listio64(int mode, struct aiocb64 *const list[restrict], int n, struct sigevent *restrict event)
{
	return lio_listio(mode, (struct aiocb *const *)list, n, event);
}

WEFT__EXPORT int gai_suspend(const struct gaicb *const list[], int n, const struct timespec *timeout)
{
	struct weft__fiber *self = weft__io_self();
	struct patience p;
	int err;

	if (!self)
		return weft__real(gai_suspend)(list, n, timeout);
	p = patience(timeout);
	(void)WEFT__MARKED_LONG(self, (err = weft__real(gai_suspend)(list, n, left(&p))) == EAI_INTR ? -EINTR : 0);
	return err;
}

WEFT__EXPORT int getaddrinfo_a(int mode, struct gaicb *list[restrict], int n, struct sigevent *restrict event)
{
	int err;

	if (mode != GAI_WAIT || !weft__io_self())
		return weft__real(getaddrinfo_a)(mode, list, n, event);
	err = weft__real(getaddrinfo_a)(GAI_NOWAIT, list, n, NULL);
	if (err)
		return err;
	for (int i = 0; i < n; i++) {
		const struct gaicb *one[1] = { list[i] };

		while (list[i] && gai_error(list[i]) == EAI_INPROGRESS)
			if (gai_suspend(one, 1, NULL) == EAI_INTR)
				return EAI_INTR;
	}
	return 0;
}
