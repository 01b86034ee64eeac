/* SPDX-License-Identifier: MIT
 * The load of the echo benchmark: -n connections to 127.0.0.1:-p, on each one message of -s bytes
 * at a time, for -t milliseconds; an event loop in one thread.
 *
 * It opens the connections a few at a time and has each answered before it opens more, so that no
 * backlog overflows and the ramp is over when the measurement begins. Every answer is compared with
 * what was sent. -P is the server: its CPU time is read at both ends of the measurement, its memory
 * and kernel threads at the end. With -q TEXT and -a TEXT it asks a server of another kind, and
 * expects that answer.
 *
 * Each run connects from an address of its own (127.x.y.1, by its process id), so that connections
 * of earlier runs in TIME_WAIT take no ports from it.
 */
#include "histogram.h"
#include "proc.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE_MAX_MESSAGE 1024
#define STEP 64				/* connections that are opened at once */
#define PER_ADDRESS 10000		/* of 28,000 ephemeral ports */
#define EVENTS 512

struct connection {
	int fd;
	unsigned got;			/* bytes of the answer */
	uint64_t round, sent;		/* messages sent; when the last was, ns */
};

/* Message: whose it is, which it is, and the rest the same for all. */
static union {
	struct {
		uint64_t number, round;
	};
	char bytes[SIZE_MAX_MESSAGE];
} out;

static struct connection *all;
static const char *answer;		/* NULL: the message itself */
static unsigned long n, size, expected;	/* bytes of the message and of its answer */
static unsigned short port;
static struct histogram took;

static void fail(const struct connection *c, const char *what)
{
	fprintf(stderr, "echoload: connection %ld, round %lu: %s\n", (long)(c - all),
		(unsigned long)c->round, what);
	exit(1);
}

static int open_one(unsigned long i)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) }, from = at;
	uint32_t pid = (uint32_t)getpid();
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	from.sin_port = 0;
	from.sin_addr.s_addr = htonl(0x7f000000u | (1 + (pid & 0x7fff)) << 8 |
				     (uint32_t)(1 + i / PER_ADDRESS));
	if (fd < 0)
		must(errno, "socket");
	/* the port is chosen by connect, which knows that it is free towards this server */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)))
		must(errno, "bind");
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		must(errno, "connect");
	return fd;
}

static void send_next(struct connection *c, uint64_t now)
{
	c->round++;
	if (!answer) {
		out.number = (uint64_t)(c - all);
		out.round = c->round;
	}
	c->got = 0;
	c->sent = now;
	/* one message in a socket whose last was answered: there is always room */
	if (send(c->fd, out.bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
		fail(c, "a message could not be sent");
}

/* Receive; true when the answer is complete. Each piece is compared. */
static int receive(struct connection *c, int flags)
{
	char in[SIZE_MAX_MESSAGE];
	ssize_t r = recv(c->fd, in, expected - c->got, flags);

	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (r <= 0)
		fail(c, r ? strerror(errno) : "closed by the server");
	if (!answer) {
		out.number = (uint64_t)(c - all);
		out.round = c->round;
	}
	if (memcmp(in, (answer ? answer : out.bytes) + c->got, (size_t)r))
		fail(c, "the answer is not what was expected");
	c->got += (unsigned)r;
	return c->got == expected;
}

static void ramp(int epoll)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLET };		/* what comes later is an edge of its own */

	for (unsigned long done = 0; done < n;) {
		unsigned long to = done + STEP < n ? done + STEP : n;

		for (unsigned long i = done; i < to; i++) {
			all[i].fd = open_one(i);
			e.data.ptr = &all[i];
			if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e))
				must(errno, "epoll_ctl");
			send_next(&all[i], 0);
		}
		for (; done < to; done++)
			while (!receive(&all[done], 0))
				;
	}
}

struct usage {
	uint64_t now, server, load;
	unsigned long answers;
};

static struct usage usage(clockid_t server, unsigned long answers)
{
	return (struct usage){ now_ns(), clock_ns(server), clock_ns(CLOCK_PROCESS_CPUTIME_ID),
			       answers };
}

/* Keep every connection busy until `end`; the answers that came. */
static unsigned long drive(int epoll, uint64_t end, int record)
{
	struct epoll_event event[EVENTS];
	unsigned long answers = 0;
	uint64_t now = now_ns();

	while (now < end) {
		int got = epoll_wait(epoll, event, EVENTS, 100);

		now = now_ns();
		for (int i = 0; i < got; i++) {
			struct connection *c = event[i].data.ptr;

			if (!receive(c, MSG_DONTWAIT))
				continue;
			now = now_ns();
			if (record)
				hist_add_alone(&took, now - c->sent);
			answers++;
			send_next(c, now);
		}
	}
	return answers;
}

int main(int argc, char **argv)
{
	uint64_t budget = BUDGET(argc, argv);
	pid_t pid = (pid_t)option(argc, argv, 'P', 0);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct usage a, b;
	clockid_t server;
	double seconds;
	const char *question = option_text(argc, argv, 'q', NULL);

	n = option(argc, argv, 'n', 100);
	size = expected = option(argc, argv, 's', 64);
	answer = option_text(argc, argv, 'a', NULL);
	if (question && answer) {
		size = strlen(question);
		expected = strlen(answer);
	}
	port = (unsigned short)option(argc, argv, 'p', 0);
	all = calloc(n, sizeof(*all));
	if (!n || !question != !answer || (!answer && size < 16) ||
	    size > SIZE_MAX_MESSAGE || expected > SIZE_MAX_MESSAGE || !port || !pid || !all || epoll < 0)
		must(EINVAL, "usage: echoload -p port -P server [-n connections] [-s bytes | -q text -a text] "
		     "[-t ms]");
	must(clock_getcpuclockid(pid, &server), "the server's clock");
	memset(out.bytes, '.', sizeof(out.bytes));
	if (answer)
		memcpy(out.bytes, question, size);
	ramp(epoll);
	for (unsigned long i = 0; i < n; i++)
		send_next(&all[i], now_ns());
	drive(epoll, now_ns() + budget / 4, 0);
	a = usage(server, 0);
	b.answers = drive(epoll, a.now + budget, 1);
	b = usage(server, b.answers);
	report("rss_mb", (double)proc_status(pid, "VmRSS:") / 1024, "MB");
	report("kthreads", (double)proc_status(pid, "Threads:"), "threads");
	for (unsigned long i = 0; i < n; i++) {
		while (!receive(&all[i], 0))
			;
		close(all[i].fd);
	}
	seconds = (double)(b.now - a.now) / 1e9;
	report("rate", (double)b.answers / seconds, "requests/s");
	report("p50_us", hist_quantile(&took, 0.5) / 1e3, "us");
	report("p99_us", hist_quantile(&took, 0.99) / 1e3, "us");
	report("cpu_us", (double)(b.server - a.server) / 1e3 / (double)b.answers, "us/request");
	report("load", (double)(b.load - a.load) / 1e9 / seconds, "CPUs");
	return 0;
}
