/* SPDX-License-Identifier: MIT
 * Switch records: the kernel itself tells when a worker leaves its CPU, and why.
 *
 * Model:     one perf event a worker (a software dummy with context_switch=1) and its ring of one page. At each switch the kernel
 *            appends PERF_RECORD_SWITCH: out to wait, out preempted (MISC_SWITCH_OUT_PREEMPT), or in; and wakes the monitor's epoll.
 *            Unprivileged at perf_event_paranoid 2, since only user space (exclude_kernel) of our own threads is watched.
 * Gate:      the reader's end of the ring (data_tail) is ours to write. A ring without room makes the kernel drop the record and wake
 *            nobody: so a plain store mutes a worker that sleeps by its own will, and another one arms it. Room is
 *            given for one record of loss, one switch out and one in: after that the worker is silent until it is armed again, and a
 *            monitor that is woken by, and itself preempts, a worker cannot chase it in circles.
 * Sizes:     a switch record with its time is 16 bytes; after a dropped one the kernel first appends PERF_RECORD_LOST, 32 bytes.
 * Ordering:  data_head is read with acquire before the records, data_tail written with release after, as perf_event_open(2) asks.
 * Context:   arm and mute: the worker with preemption disabled, or the monitor. read: the monitor.
 */
#include <errno.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "upcall/fds.h"
#include "upcall/upcall.h"

#define RING 4096u
#define ROOM 64u			/* lost (32) + out (16) + in (16) */

int weft__records_event(pid_t tid)
{
	struct perf_event_attr a;

	memset(&a, 0, sizeof a);
	a.size = sizeof a;
	a.type = PERF_TYPE_SOFTWARE;
	a.config = PERF_COUNT_SW_DUMMY;
	a.exclude_kernel = 1;
	a.exclude_hv = 1;
	a.context_switch = 1;
	a.watermark = 1;
	a.wakeup_watermark = 1;
	a.sample_type = PERF_SAMPLE_TIME;
	a.sample_id_all = 1;
	a.use_clockid = 1;
	a.clockid = CLOCK_MONOTONIC;
	return (int)weft__arch_syscall(SYS_perf_event_open, (long)&a, tid, -1, -1, PERF_FLAG_FD_CLOEXEC, 0);
}

/* For a thread that does not exist: the kernel looks for it after it has looked if we may, and before it makes anything. */
bool weft__records_allowed(void)
{
	return weft__records_event(INT_MAX) == -ESRCH;
}

bool weft__records_work(void)
{
	int fd = weft__records_event(0);
	void *p;

	if (fd < 0) {
		errno = -fd;
		return false;
	}
	p = mmap(NULL, 2 * RING, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return false;
	munmap(p, 2 * RING);
	return true;
}

static inline uint64_t head_of(const struct perf_event_mmap_page *p)
{
	return __atomic_load_n(&p->data_head, __ATOMIC_ACQUIRE);
}

/* [RECORDS-1] acquire; pairs with release in weft__records_open: the ring's memory */
static inline struct perf_event_mmap_page *ring_of(const struct weft__worker *w)
{
	return atomic_load_explicit(&w->ring, memory_order_acquire);
}

/* Leave `room` free bytes: the kernel computes (tail - head - 1) modulo the size. */
static void set_room(struct perf_event_mmap_page *p, uint32_t room)
{
	if (p)
		__atomic_store_n(&p->data_tail, head_of(p) + 1 + room - RING, __ATOMIC_RELEASE);
}

void weft__records_arm(struct weft__worker *w)
{
	set_room(ring_of(w), ROOM);
}

void weft__records_mute(struct weft__worker *w)
{
	set_room(ring_of(w), 0);
}

bool weft__records_runs(const struct weft__worker *w)
{
	const struct perf_event_mmap_page *p = ring_of(w);

	return p && (p->data_tail - head_of(p) - 1) % RING == ROOM;
}

int weft__records_open(struct weft__worker *w, int epfd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = w };
	int fd, err;
	void *p;

	weft__fd_low_begin();
	w->perf_fd = fd = weft__fd_protect(weft__records_event(w->tid));
	weft__fd_low_end();
	if (fd < 0)
		return fd;
	p = mmap(NULL, 2 * RING, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED) {
		/* what it did before it is mute is nobody's business: it is not known if it has come back since */
		set_room(p, 0);
		w->ring_pos = head_of(p);
	}
	if (p == MAP_FAILED || epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
		err = -errno;
		if (p != MAP_FAILED)
			munmap(p, 2 * RING);
		w->perf_fd = -1;
		weft__fd_release(fd);
		return err;
	}
	/* [RECORDS-1] release; pairs with acquire in ring_of */
	atomic_store_explicit(&w->ring, p, memory_order_release);
	return 0;
}

enum weft__seen weft__records_read(struct weft__worker *w)
{
	struct perf_event_mmap_page *p = ring_of(w);
	enum weft__seen seen = WEFT__SEEN_NOTHING;
	uint64_t head;

	if (!p)
		return seen;
	head = head_of(p);
	while (w->ring_pos < head) {
		struct {
			struct perf_event_header h;
			uint64_t time;
		} r;
		const char *data = (const char *)p + RING;
		size_t at = w->ring_pos % RING, first = RING - at;

		memcpy(&r.h, data + at, sizeof r.h);	/* records are 8-byte aligned: a header never wraps */
		if (r.h.size == 0) {
			w->ring_pos = head;		/* overwritten: we were too slow */
			break;
		}
		if (r.h.type == PERF_RECORD_SWITCH) {
			memcpy(&r.time, first > sizeof r.h ? data + at + sizeof r.h : data, sizeof r.time);
			if (!(r.h.misc & PERF_RECORD_MISC_SWITCH_OUT)) {
				seen = w->out_at || atomic_load_explicit(&w->stalled, memory_order_relaxed) ?
					WEFT__SEEN_BACK : WEFT__SEEN_NOTHING;
				w->out_at = 0;
			} else if (r.h.misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) {
				seen = WEFT__SEEN_PREEMPTED;
				w->out_at = 0;
			} else {
				seen = WEFT__SEEN_BLOCKED;
				w->out_at = r.time;
			}
		}
		w->ring_pos += r.h.size;
	}
	return seen;
}

/* Child of fork: the descriptors belong to the parent's workers. */
void weft__records_forked(struct weft__worker *workers)
{
	for (struct weft__worker *w = workers; w; w = w->all_next)
		weft__fd_release(w->perf_fd);
}
