/* SPDX-License-Identifier: MIT
 * What the two echo servers share: the command line and the listening socket.
 */
#ifndef WEFT_EXAMPLES_ECHO_H
#define WEFT_EXAMPLES_ECHO_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ECHO_BUFFER = 16384 };

struct echo_args {
	long clients;			/* to serve before the server ends */
	int port;			/* 0 = the kernel chooses */
};

static inline struct echo_args echo_parse(const char *name, int argc, char **argv)
{
	struct echo_args a = { argc > 1 ? atol(argv[1]) : 0, argc > 2 ? atoi(argv[2]) : 0 };

	if (argc < 2 || argc > 3 || a.clients < 1 || a.clients > 1000000 || a.port < 0 ||
	    a.port > 65535) {
		fprintf(stderr, "usage: %s CLIENTS [PORT]\n"
			"Echoes to that many clients on 127.0.0.1, then ends.\n", name);
		exit(2);
	}
	return a;
}

static inline void echo_fail(const char *what)
{
	perror(what);
	exit(1);
}

/* As many descriptors as the system lets us have. */
static inline void echo_raise_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* A socket that listens on 127.0.0.1; says where on standard output. */
static inline int echo_listen(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t size = sizeof(at);
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &size) < 0)
		echo_fail("cannot listen on 127.0.0.1");
	printf("listening on 127.0.0.1:%d\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

/* Small messages must not wait for an acknowledgement. */
static inline void echo_nodelay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

#endif
