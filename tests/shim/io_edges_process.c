/* SPDX-License-Identifier: MIT
 * What a runtime may remember of a socket (io_edges.c), and another process with the same one: by fork, passed to it, or as the standard
 * input of a command.
 */
#include "sock_check.h"

#include <fcntl.h>
#include <sys/wait.h>

static void waits_and_gets(struct task *t, const int fds[2])
{
	pthread_t id = start(receiver, t);

	settle();
	CHECK(send(fds[1], "x", 1, 0) == 1);
	join(id);
	CHECK(t->result == 1);
}

/* Another process with the same description: it sets O_NONBLOCK, reads, and closes. By fork, or with the descriptor passed. */
static void another_process(bool tcp, bool passed)
{
	struct task t = { .len = 8 };
	int fds[2], ask[2], way[2], status;
	char c = 0;
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ask) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, way) == 0);
	make_pair(fds, tcp);
	t.fd = fds[0];
	waits_and_gets(&t, fds);
	if (passed)		/* made before; what it shares came later */
		make_pair(fds, tcp);
	t.fd = fds[0];
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		int fd = fds[0];

		close(ask[0]);
		if (passed) {
			char room[CMSG_SPACE(sizeof(int))];
			struct iovec v = { &c, 1 };
			struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };

			close(fds[0]);
			close(fds[1]);
			CHECK(recvmsg(way[1], &m, 0) == 1 && CMSG_FIRSTHDR(&m));
			memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
		}
		while (read(ask[1], &c, 1) == 1) {
			int old = fcntl(fd, F_GETFL);

			switch (c) {
			case 'n':
				CHECK(fcntl(fd, F_SETFL, old | O_NONBLOCK) == 0);
				break;
			case 'b':
				CHECK(fcntl(fd, F_SETFL, old & ~O_NONBLOCK) == 0);
				break;
			case 'r':
				CHECK(recv(fd, t.got, 1, 0) == 1);
				break;
			case 't':
				set_limit(fd, SO_RCVTIMEO, 30);
				break;
			}
			CHECK(write(ask[1], &c, 1) == 1);
		}
		_exit(0);
	}
	close(ask[1]);
	if (passed) {
		char room[CMSG_SPACE(sizeof(int))] = { 0 };
		struct iovec v = { &c, 1 };
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };

		/* a socket that the child does not have: its copy is closed */
		close_pair(fds);
		make_pair(fds, tcp);
		t.fd = fds[0];
		waits_and_gets(&t, fds);
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fds[0], sizeof(int));
		CHECK(sendmsg(way[0], &m, 0) == 1);
	}
#define CHILD(what) CHECK(write(ask[0], what, 1) == 1 && read(ask[0], &c, 1) == 1 && c == *(what))
	for (int i = 0; i < 2; i++) {
		CHILD("n");
		receiver(&t);
		CHECK(t.result == -EAGAIN);
		CHILD("b");
		waits_and_gets(&t, fds);
		/* it takes what we do not get; some of it is left */
		CHECK(send(fds[1], "ab", 2, 0) == 2);
		CHILD("r");
		receiver(&t);
		CHECK(t.result == 1 && t.got[0] == 'b');
	}
	CHILD("t");
	receiver(&t);
	CHECK(t.result == -EAGAIN && t.took >= 0.028);
	close(ask[0]);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	set_limit(fds[0], SO_RCVTIMEO, 0);
	waits_and_gets(&t, fds);
	close_pair(fds);
	close_pair(way);
}

/* A command that has the socket as its standard input. */
static void a_command(bool tcp)
{
	struct task t = { .len = 8 };
	char command[100];
	int fds[2];
	pthread_t id;

	make_pair(fds, tcp);
	t.fd = fds[0];
	waits_and_gets(&t, fds);
	snprintf(command, sizeof command, "exec <&%d; read x; test \"$x\" = hello", fds[0]);
	CHECK(send(fds[1], "hello\n", 6, 0) == 6);
	CHECK(system(command) == 0);
	id = start(receiver, &t);
	settle();
	CHECK(send(fds[1], "yy", 2, 0) == 2);
	join(id);
	CHECK(t.result == 2);
	close_pair(fds);
}

static void *all(void *arg)
{
	(void)arg;
	for (int tcp = 0; tcp < 2; tcp++) {
		another_process(tcp, false);
		another_process(tcp, true);
		a_command(tcp);
	}
	return NULL;
}

int main(void)
{
	in_main_and_a_thread(all);
	return 0;
}
