/* SPDX-License-Identifier: MIT
 * What the wrappers of waiting system calls share.
 *
 * Model:     a wrapper asks weft__io_self(). NULL: the caller is no fiber, and libc's function does
 *            it all. Else: try without blocking, park on the netpoller, try again; or, where no
 *            such try exists, make the call between marks.
 * Errors:    inside, a result of -4095 .. -1 is -errno, straight from the kernel; weft__io_ret()
 *            converts last, out of line, because a fiber with shared TLS may come back on another
 *            worker, where errno is elsewhere.
 * EINTR:     a call that a signal of ours ended is made again: then no handler of the program has
 *            run.
 */
#ifndef WEFT_PTHREAD_IO_H
#define WEFT_PTHREAD_IO_H

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "pthread/shim.h"
#include "upcall/block.h"
#include "upcall/fds.h"
#include "upcall/netpoll.h"

/* The kernel, with up to six arguments of any integer or pointer type. */
#define weft__sys(nr, ...) weft__sys_n(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define weft__sys_n(nr, a, b, c, d, e, f, ...) \
	weft__arch_syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* The caller if it is a fiber that may park, else NULL. */
static inline struct weft__fiber *weft__io_self(void)
{
	struct weft__fiber *self;

	if (weft__likely(weft__netpoll_fd() < 0))
		return NULL;		/* no runtime: the program has no threads */
	self = weft__self();
	self->called = 1;		/* upcall/longslice.h */
	return self->nopreempt == 0 && weft__is_fiber(self) ? self : NULL;
}

/* Another name of a wrapper. */
#define WEFT__ALIAS(new, old) \
	WEFT__EXPORT extern __typeof__(old) new __attribute__((alias(#old), copy(old)))

/* --- thread ids (tid.c) --- */
#define WEFT__TID_FIRST ((pid_t)WEFT__TID_LIFE)	/* above all of the kernel's */
pid_t weft__tid(void);
struct weft__fiber *weft__tid_fiber(pid_t tid);	/* NULL: none that lives */
long weft__sched_syscall(long nr, const long a[6]);	/* schedule.c */
/* Of a pid argument, NULL: not a fiber. *err: ESRCH, a fiber's id but no such fiber. */
struct weft__fiber *weft__sched_of_id(pid_t id, int *err);
int weft__sched_check_set(struct weft__fiber *f, int policy, int prio);	/* 0, EINVAL, ESRCH */
long weft__nice_syscall(long nr, const long a[6]);	/* nice.c */
void weft__nice_inherit(const struct weft__fiber *parent);	/* in a new process, made by that fiber */
long weft__tid_kill(pid_t tid, int sig);
pid_t weft__tid_process(pid_t id);		/* 0 for a fiber's id, what belongs to the process is asked for */

/* -errno to errno and -1. */
long weft__io_ret(long r);
long weft__getrandom(struct weft__fiber *self, void *buf, size_t n, unsigned flags);	/* io_long.c */

/* Make `call`, which gives -errno, between marks. */
#define WEFT__MARKED_BY(self, enter, call) ({						\
	uint32_t handlers_;								\
	long ret_;									\
	do {										\
		struct weft__fiber *mark_;						\
		handlers_ = weft__handlers_run(self);					\
		mark_ = enter();							\
		ret_ = (call);								\
		weft__block_exit(mark_);						\
	} while (ret_ == -EINTR && handlers_ == weft__handlers_run(self));		\
	ret_; })
/* A call that does all of its `total`, unless a signal comes; so does this, if that was ours. `call` uses `done`, how much was done before.
 * It must be one that says at once, and to no effect, when it ended early for another reason. */
#define WEFT__WHOLE(self, total, done, call) ({						\
	uint32_t whole_ = weft__handlers_run(self);					\
	size_t total_ = (total), done = 0;						\
	long part_;									\
	do {										\
		part_ = (call);								\
		if (part_ > 0)								\
			done += (size_t)part_;						\
	} while (part_ > 0 && done < total_ && whole_ == weft__handlers_run(self));	\
	done ? (long)done : part_; })
#define WEFT__AT_ONCE 0x7ffff000ul	/* the kernel's own limit of one call, bytes */
#define WEFT__MARKED(self, call) WEFT__MARKED_BY(self, weft__block_enter, call)
#define WEFT__MARKED_LONG(self, call) WEFT__MARKED_BY(self, weft__block_enter_long, call)

/* --- what is known of descriptors (io_fd.c, io_open.c) --- */

enum weft__kind_of_fd {
	WEFT__FD_UNKNOWN,
	WEFT__FD_FILE,		/* file, directory, block device: may stall on the disk */
	WEFT__FD_SLOW,		/* the same, and does not know RWF_NOWAIT: /proc, network file systems */
	WEFT__FD_DIRECT,	/* the same with O_DIRECT: will stall */
	WEFT__FD_ENDLESS,	/* /dev/zero, /dev/urandom and their like: never wait, but stop at any signal */
	WEFT__FD_SOCKET,
	WEFT__FD_PIPE,		/* pipe; a FIFO until the kernel refuses RWF_NOWAIT */
	WEFT__FD_OTHER,		/* eventfd, timerfd, /dev/null, ... */
	WEFT__FD_POLL,		/* no try without blocking exists: ask poll, then call */
	WEFT__FD_KIND = 0xff,	/* the mask of them */
};

/* The kind of `fd`; asks the kernel once per number. A stale answer costs time, not correctness.
 * -EBADF. */
int weft__fd_kind(int fd);
/* The kernel refused RWF_NOWAIT. */
void weft__fd_no_nowait(int fd);
/* The number has a new owner, or will have. Cheap, any context. */
void weft__fd_forget(int fd);
/* Is anything known? In a child of fork without threads, what the parent knew. */
bool weft__fd_any(void);
/* Forget and return the descriptor that a system call made, or its -errno. */
static inline long weft__fd_new(long fd)
{
	if (fd >= 0)
		weft__fd_forget((int)fd);
	return fd;
}

/* [LOW] Around a call by which the program gets a descriptor (upcall/fds.h). SHORT: one that neither waits nor runs anything but the
 * kernel; preempted in it, the fiber would be waited for. */
#define WEFT__TAKING(call) ({								\
	bool taking_ = weft__netpoll_fd() >= 0;		/* else no runtime */		\
	uint32_t begun_ = taking_ ? weft__fd_take_begin() : 0;				\
	__typeof__(call) taken_ = (call);						\
	if (taking_)									\
		weft__fd_take_end(begun_);						\
	taken_; })
#define WEFT__TAKING_SHORT(call) ({							\
	struct weft__fiber *taker_ = weft__netpoll_fd() >= 0 ? weft__self() : NULL;	\
	if (taker_)									\
		weft__preempt_disable(taker_);						\
	__typeof__(call) short_ = WEFT__TAKING(call);					\
	if (taker_)									\
		weft__preempt_enable(taker_);						\
	short_; })

/* What is known of a socket of ours for sure (io_fd.c); bits of its word. */
enum weft__fact {
	WEFT__FACT_OWN = 0x100,		/* nobody else can have its description. Without it no other fact holds */
	WEFT__FACT_STREAM = 0x200,	/* TCP or AF_UNIX: edges can be relied on, see netpoll.h */
	WEFT__FACT_TCP = 0x400,		/* plain TCP: a short read emptied it */
	WEFT__FACT_BLOCKS = 0x800,	/* without O_NONBLOCK */
	WEFT__FACT_NONBLOCK = 0x1000,	/* with it */
	WEFT__FACT_NO_RCVTIMEO = 0x2000,
	WEFT__FACT_NO_SNDTIMEO = 0x4000,
	WEFT__FACT_NEVER_TIMED = 0x8000,
	WEFT__FACT_LISTENS = 0x10000,

	WEFT__FACTS_UNTIMED = WEFT__FACT_NO_RCVTIMEO | WEFT__FACT_NO_SNDTIMEO | WEFT__FACT_NEVER_TIMED,
	WEFT__FACTS_BLOCKING = WEFT__FACT_BLOCKS | WEFT__FACT_NONBLOCK,
	WEFT__FACTS = 0xfff00,
};

/* Some socket of the program's has had SO_RCVLOWAT set: a read that blocks waits for so much, and one that does not takes less. */
extern _Atomic bool weft__fd_lowat;
static inline bool weft__fd_waits_for_more(int fd)
{
	int least = 1;
	socklen_t len = sizeof least;

	/* relaxed: the program sets it before it reads */
	return weft__unlikely(atomic_load_explicit(&weft__fd_lowat, memory_order_relaxed)) &&
	       weft__sys(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVLOWAT, &least, &len) == 0 && least > 1;
}

/* The facts of `fd`, 0 if there are none; with more in it, for weft__fd_learn: store what the kernel said since, if nothing changed. */
uint64_t weft__fd_word(int fd);
void weft__fd_learn(int fd, uint64_t word, uint32_t facts);
/* STREAM and TCP: what a socket is does not depend on who else has it. */
uint32_t weft__fd_type(int fd);
/* These facts changed, or may have. WEFT__FACTS: somebody else may have the description. */
void weft__fd_unlearn(int fd, uint32_t facts);
/* F_SETFL and the like: O_NONBLOCK and O_DIRECT may have changed. */
#define weft__fd_flags_set(fd) weft__fd_unlearn(fd, WEFT__FACTS_BLOCKING | WEFT__FD_KIND)
/* A number was given to a new file, a socket of which this is known; 0: nothing, or it is none. `since`: weft__fd_epoch before the call that
 * did so; a process made since then may have it, too. */
void weft__fd_born(int fd, uint32_t facts, uint64_t since);
void weft__fd_accepted(int listener, int fd, int flags, uint64_t since);
uint64_t weft__fd_epoch(void);
void weft__fd_option_set(int fd, int level, int option);
struct msghdr;
void weft__fd_passed(const struct msghdr *m, bool sent);
/* A process that gets our descriptors is about to be made; was made, or not. In the child, if it has memory of its own: forked. */
uint32_t weft__fd_sharing_begin(void);
void weft__fd_sharing_end(uint32_t begun);
void weft__fd_forked(void);
/* Numbers from here on have no words. */
unsigned weft__fd_known(void);

/* close(2), dup3(2), close_range(2) with all that hangs on them, for fibers and others. Results:
 * -errno. */
long weft__fd_close(struct weft__fiber *self, int fd);
long weft__fd_dup3(int fd, int to, int flags);
long weft__fd_close_range(unsigned first, unsigned last, int flags);

/* --- waiting for one descriptor (io_wait.c) --- */

struct weft__iowait {
	int fd;
	uint32_t events;
	bool socket;		/* has SO_RCVTIMEO and SO_SNDTIMEO */
	bool checked;		/* O_NONBLOCK and the time limit are known */
	bool timed;
	bool edge;		/* weft__io_dry did the looking: the wait is for what was reported since */
	bool part;		/* something was transferred already: an error met now is for the next call */
	uint32_t seen;
	struct weft__netrec *rec;	/* see weft__netpoll_look; NULL: there was none */
	uint64_t word;		/* weft__fd_word as of the last look; 0 = none yet */
	uint64_t deadline;
	uint64_t limit;		/* a time limit of the call itself; 0 = none */
	uint32_t norestart;	/* handlers without SA_RESTART that had run before the first wait */
	unsigned futile;	/* waits in a row that helped nothing */
	unsigned stuck;		/* of them, with the descriptor ready all the same */
};

enum { WEFT__IO_RETRY = 0, WEFT__IO_BLOCK = 1 };

/* The operation would block. IO_RETRY: try again; IO_BLOCK: make the blocking call; else -errno for
 * the program. */
int weft__io_wait(struct weft__fiber *self, struct weft__iowait *w);
/* Before another try for the rest: something was transferred, but the next try would only take the error out of the socket that the next call is to find. */
bool weft__io_broke(const struct weft__iowait *w);
/* Call before each try. True: it would fail, that is known. */
bool weft__io_dry(struct weft__iowait *w);
/* Likewise, of a poll for reading: it would find nothing. */
bool weft__io_empty(struct weft__iowait *w);
/* The try got less than it could take, or nothing. */
void weft__io_drained(const struct weft__iowait *w);
/* Is the open file description non-blocking? 0, 1 or -errno. */
int weft__io_nonblock(int fd);
/* poll(2) of one descriptor without waiting: its revents. */
int weft__io_ready(int fd, int events);
/* poll(2) without waiting, never -EINTR. */
long weft__poll_now(struct pollfd *fds, nfds_t n);

/* The buffers that are left after `skip` bytes, up to IO_IOV of them, into out. Returns how
 * many. */
#define WEFT__IO_IOV 8
int weft__iov_rest(const struct iovec *iov, size_t cnt, size_t skip,
		   struct iovec out[WEFT__IO_IOV]);
/* Bytes in all. */
size_t weft__iov_total(const struct iovec *iov, size_t cnt);

/* --- time (sleep.c) --- */

/* Deadline for a relative time; NULL = never. The time must be valid. */
struct timespec;
uint64_t weft__io_deadline(const struct timespec *rel);
/* What is left until the deadline; zero if it has passed. */
struct timespec weft__io_left(uint64_t deadline);

#endif
