/* SPDX-License-Identifier: MIT
 * Task state: the third source. /proc/self/task/TID/stat says R for a thread that runs or could; S or D for one that waits.
 * One system call of a few microseconds: only for a worker that made no progress since the last look.
 *
 * The file stays open, among our protected descriptors: an open per look would take the lowest free number for a moment, again and
 * again, while the program counts on getting that one, or makes it another file's by dup2.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "upcall/fds.h"
#include "upcall/upcall.h"

static int open_stat(pid_t tid)
{
	char path[48] = "/proc/self/task/", *p = path + strlen(path), digits[12];
	int n = 0, fd;

	do
		digits[n++] = (char)('0' + tid % 10);
	while ((tid /= 10) > 0);
	while (n > 0)
		*p++ = digits[--n];
	strcpy(p, "/stat");
	weft__fd_low_begin();
	fd = weft__fd_protect((int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
	weft__fd_low_end();
	return fd;
}

static pid_t number(const char *p)
{
	pid_t n = 0;

	while (*p >= '0' && *p <= '9')
		n = n * 10 + (*p++ - '0');
	return n;
}

bool weft__state_blocked(struct weft__worker *w)
{
	char text[128], *p;
	long len;

	for (int tries = 0; tries < 2; tries++) {
		if (w->stat_fd < 0)
			w->stat_fd = open_stat(w->tid);
		if (w->stat_fd < 0)
			return false;
		len = syscall(SYS_pread64, w->stat_fd, text, sizeof text - 1, 0);
		text[len > 0 ? len : 0] = '\0';
		if (number(text) == w->tid) {
			/* the name in parentheses may contain anything, at most 15 bytes of it */
			p = strrchr(text, ')');
			return p && p[1] == ' ' && (p[2] == 'S' || p[2] == 'D');
		}
		/* the program closed it by a way that no wrapper sees: the number is its own now */
		weft__fd_lost(w->stat_fd);
		w->stat_fd = -1;
	}
	return false;
}

void weft__state_forked(struct weft__worker *workers)
{
	for (struct weft__worker *w = workers; w; w = w->all_next) {
		weft__fd_release(w->stat_fd);
		w->stat_fd = -1;
	}
}
