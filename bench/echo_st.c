/* SPDX-License-Identifier: MIT
 * A peer of the echo benchmark: examples/echo_threads.c written for State Threads. All of it is one
 * kernel thread; reads and writes that would block switch. echo_st CLIENTS
 */
#include "../examples/echo.h"

#include <errno.h>
#include <st.h>
#include <stdint.h>

static long left, errors;
static unsigned long long total;
static st_cond_t all_gone;

static void *serve(void *arg)
{
	st_netfd_t client = arg;
	char buffer[ECHO_BUFFER];
	ssize_t got;

	echo_nodelay(st_netfd_fileno(client));
	while ((got = st_read(client, buffer, sizeof(buffer), ST_UTIME_NO_TIMEOUT)) > 0) {
		if (st_write(client, buffer, (size_t)got, ST_UTIME_NO_TIMEOUT) != got) {
			got = -1;
			break;
		}
		total += (unsigned long long)got;
	}
	errors += got < 0;
	st_netfd_close(client);
	if (--left == 0)
		st_cond_signal(all_gone);
	return NULL;
}

int main(int argc, char **argv)
{
	struct echo_args args = echo_parse("echo_st", argc, argv);
	st_netfd_t listener;

	echo_raise_limit();
	/* epoll; some builds of the library (Debian's) are without it and would take select, which
	 * ends at 1024 descriptors */
	st_set_eventsys(ST_EVENTSYS_ALT);
	if (!*st_get_eventsys_name())
		st_set_eventsys(ST_EVENTSYS_POLL);
	if (st_init())
		echo_fail("st_init");
	left = args.clients;
	all_gone = st_cond_new();
	listener = st_netfd_open_socket(echo_listen(args.port));
	if (!listener || !all_gone)
		echo_fail("st_netfd_open_socket");
	for (long i = 0; i < args.clients; i++) {
		st_netfd_t client = st_accept(listener, NULL, NULL, ST_UTIME_NO_TIMEOUT);

		if (!client)
			echo_fail("accept");
		/* 64 KB of stack, as in echo_threads.c */
		if (!st_thread_create(serve, client, 0, 65536))
			echo_fail("st_thread_create");
	}
	while (left)
		st_cond_wait(all_gone);
	printf("served %ld clients, %llu bytes, %ld errors\n", args.clients, total, errors);
	return errors != 0;
}
