/* SPDX-License-Identifier: MIT
 * echo_threads: an echo server with one thread per client, written the simple way: blocking calls,
 * no states. A plain pthread program; compare it with echo_epoll.c, which does the same by hand.
 *
 *     echo_threads CLIENTS [PORT]                   serves that many clients, then ends
 *     weft run -- echo_threads CLIENTS [PORT]       the threads are fibers, waiting costs no kernel
 *     thread
 *
 * echo.sh runs both servers and the client that checks them. Exit status 0 when every client was
 * served without an error.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>

#include "echo.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_gone = PTHREAD_COND_INITIALIZER;
static long left;			/* clients not served to the end; guarded by mutex */
static long errors;			/* guarded by mutex */
static unsigned long long total;	/* bytes echoed; guarded by mutex */

/* Echo until the client closes. Returns the bytes, or -1. */
static long long echo(int fd)
{
	char buffer[ECHO_BUFFER];
	long long bytes = 0;

	for (;;) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), 0);

		if (got == 0)
			return bytes;
		if (got < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		for (ssize_t sent = 0; sent < got;) {
			ssize_t n = send(fd, buffer + sent, (size_t)(got - sent), MSG_NOSIGNAL);

			if (n < 0 && errno != EINTR)
				return -1;
			if (n > 0)
				sent += n;
		}
		bytes += got;
	}
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	long long bytes;

	echo_nodelay(fd);
	bytes = echo(fd);
	close(fd);

	pthread_mutex_lock(&mutex);
	if (bytes < 0)
		errors++;
	else
		total += (unsigned long long)bytes;
	if (--left == 0)
		pthread_cond_signal(&all_gone);
	pthread_mutex_unlock(&mutex);
	return NULL;
}

int main(int argc, char **argv)
{
	struct echo_args args = echo_parse("echo_threads", argc, argv);
	pthread_attr_t attr;
	int listener, r;

	echo_raise_limit();
	listener = echo_listen(args.port);
	left = args.clients;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 65536);

	for (long i = 0; i < args.clients; i++) {
		pthread_t thread;
		int fd = accept(listener, NULL, NULL);

		if (fd < 0) {
			if (errno != EINTR && errno != ECONNABORTED)
				echo_fail("accept");
			i--;
			continue;
		}
		r = pthread_create(&thread, &attr, serve, (void *)(intptr_t)fd);
		if (r) {
			fprintf(stderr, "echo_threads: thread %ld: %s\n", i, strerror(r));
			return 1;
		}
	}
	close(listener);
	pthread_attr_destroy(&attr);

	pthread_mutex_lock(&mutex);
	while (left)
		pthread_cond_wait(&all_gone, &mutex);
	printf("served %ld clients, %llu bytes, %ld errors\n", args.clients, total, errors);
	r = errors != 0;
	pthread_mutex_unlock(&mutex);
	return r;
}
