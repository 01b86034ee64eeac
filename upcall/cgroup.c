/* SPDX-License-Identifier: MIT
 * Where our cgroups are. See cgroup.h.
 *
 * /proc/self/cgroup names the cgroup of each hierarchy, /proc/self/mountinfo where (a part of) that
 * hierarchy is mounted. Mounted root R at M and cgroup P: if P lies in R, its directory is M
 * followed by the rest of P, and all directories from there up to M are looked at. If R is above
 * our namespace (/.., /../..), M itself is an ancestor. Any other mount shows cgroups that are not
 * ours.
 *
 * System calls go by number: the shim's own open and read are cancellation points, and who is here
 * is in pthread_create.
 */
#include "upcall/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/arch/arch.h"
#include "upcall/fds.h"

enum {
	LINE = 2048,			/* longer lines are cut; none that matters is */
	NAME = WEFT__CGROUP_DIR,
};

/* Lines of a file. */
struct reader {
	int fd;
	unsigned pos, len;		/* unread part of buf */
	bool cut;			/* the rest of an overlong line is still to be dropped */
	char buf[LINE + 1];
};

struct search {
	const char *root, *controller;
	void (*see)(const char *dir, enum weft__cgroup_version version, void *arg);
	void *arg;
	char cgroup[2][NAME];		/* path of ours; "" = not in that hierarchy */
};

/* Write a + b + c into `out`; false if it does not fit. */
static bool join(char *out, size_t size, const char *a, const char *b, const char *c)
{
	const char *parts[] = { a, b, c };
	size_t used = 0;

	for (int i = 0; i < 3; i++) {
		size_t n = strlen(parts[i]);

		if (n >= size - used)
			return false;
		memcpy(out + used, parts[i], n);
		used += n;
	}
	out[used] = 0;
	return true;
}

static ssize_t read_some(int fd, char *buf, size_t size)
{
	ssize_t n;

	do
		n = syscall(SYS_read, fd, buf, size);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Not negative: to be closed by close_file. */
static int open_file(const char *path)
{
	int fd;

	weft__fd_low_begin();
	do
		fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		weft__fd_low_end();
	return fd;
}

static void close_file(int fd)
{
	syscall(SYS_close, fd);
	weft__fd_low_end();
}

/* The next line without its newline, NULL at the end. Valid until the next call. */
static char *next_line(struct reader *r)
{
	for (;;) {
		char *line = r->buf + r->pos;
		char *end = memchr(line, '\n', r->len - r->pos);
		ssize_t n;

		if (end) {
			*end = 0;
			r->pos = (unsigned)(end + 1 - r->buf);
			if (!r->cut)
				return line;
			r->cut = false;
			continue;
		}
		if (r->cut)
			r->pos = r->len;
		r->len -= r->pos;
		memmove(r->buf, r->buf + r->pos, r->len);
		r->pos = 0;
		n = r->len < LINE ? read_some(r->fd, r->buf + r->len, LINE - r->len) : 0;
		if (n > 0) {
			r->len += (unsigned)n;
			continue;
		}
		if (!r->len)
			return NULL;
		r->cut = true;
		r->buf[r->len] = 0;
		r->pos = r->len;
		return r->buf;
	}
}

/* Is `word` one of the comma-separated words of `list`? */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (;;) {
		if (!strncmp(list, word, n) && (list[n] == ',' || !list[n]))
			return true;
		list = strchr(list, ',');
		if (!list)
			return false;
		list++;
	}
}

/* A decimal number at *s, which moves behind it; false if there is none. */
bool weft__cgroup_number(const char **s, uint64_t *out)
{
	const char *p = *s;
	uint64_t v = 0;

	while (*p == ' ')
		p++;
	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (v < UINT64_MAX / 16)
			v = v * 10 + (uint64_t)(*p - '0');
	*s = p;
	*out = v;
	return true;
}

bool weft__cgroup_read(const char *dir, const char *file, char *text, size_t size)
{
	char path[WEFT__CGROUP_DIR + 32];
	size_t used = 0;
	ssize_t n;
	int fd;

	if (!join(path, sizeof(path), dir, "/", file))
		return false;
	fd = open_file(path);
	if (fd < 0)
		return false;
	do {
		n = read_some(fd, text + used, size - 1 - used);
		used += n > 0 ? (size_t)n : 0;
	} while (n > 0 && used < size - 1);
	close_file(fd);
	text[used] = 0;
	return used > 0;
}

/* What is left of `path` below `top`, both cgroup paths ("" if they are equal); NULL if it is not
 * below. */
static const char *below(const char *path, const char *top)
{
	size_t n = strlen(top);

	if (n && top[n - 1] == '/')
		n--;			/* the root: "/" */
	if (strncmp(path, top, n) || (path[n] && path[n] != '/'))
		return NULL;
	path += n;
	return strcmp(path, "/") ? path : "";
}

/* Nothing but "/..", once or more. */
static bool above_us(const char *top)
{
	for (; *top; top += 3)
		if (strncmp(top, "/..", 3))
			return false;
	return true;
}

/* The part `top` of hierarchy h is mounted at `point`. */
static void mounted(struct search *s, enum weft__cgroup_version h, const char *top, const char *point)
{
	char dir[NAME];
	const char *rest = below(s->cgroup[h], top);
	size_t stop;

	if (rest && !strncmp(rest, "/..", 3) && (rest[3] == '/' || !rest[3]))
		return;			/* we are outside of our own namespace's part */
	if (!rest && above_us(top))
		rest = "";
	if (!rest || !join(dir, sizeof(dir), s->root, point, rest))
		return;
	stop = strlen(s->root) + strlen(point);
	for (;;) {
		s->see(dir, h, s->arg);
		if (strlen(dir) <= stop)
			return;
		*strrchr(dir, '/') = 0;
	}
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

/* Cut the next word off *s. */
static char *word(char **s)
{
	char *w = *s, *end = strchr(w, ' ');

	if (end) {
		*end = 0;
		*s = end + 1;
	} else {
		*s = w + strlen(w);
	}
	return w;
}

/* id parent major:minor ROOT POINT options [optional ...] - TYPE source OPTIONS */
static void mount_line(struct search *s, char *line)
{
	char *top, *point, *type, *options;

	for (int i = 0; i < 3; i++)
		word(&line);
	top = word(&line);
	point = word(&line);
	do
		options = word(&line);
	while (*options && strcmp(options, "-"));
	type = word(&line);
	word(&line);
	options = word(&line);
	unescape(top);
	unescape(point);
	if (!strcmp(type, "cgroup2") && s->cgroup[WEFT__CGROUP_V2][0])
		mounted(s, WEFT__CGROUP_V2, top, point);
	else if (!strcmp(type, "cgroup") && s->cgroup[WEFT__CGROUP_V1][0] && has_word(options, s->controller))
		mounted(s, WEFT__CGROUP_V1, top, point);
}

/* number:CONTROLLERS:PATH, with "0::" for version 2 */
static void cgroup_line(struct search *s, const char *line)
{
	const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
	char controllers[256];
	size_t n;

	if (!path)
		return;
	list++;
	n = (size_t)(path - list);
	path++;
	if (*path != '/' || n >= sizeof(controllers))
		return;
	memcpy(controllers, list, n);
	controllers[n] = 0;
	if (!n)
		join(s->cgroup[WEFT__CGROUP_V2], NAME, path, "", "");
	else if (has_word(controllers, s->controller))
		join(s->cgroup[WEFT__CGROUP_V1], NAME, path, "", "");
}

static bool open_reader(struct reader *r, const char *root, const char *file)
{
	r->pos = r->len = 0;
	r->cut = false;
	r->fd = join(r->buf, sizeof(r->buf), root, file, "") ? open_file(r->buf) : -1;
	return r->fd >= 0;
}

void weft__cgroups_each(const char *root, const char *controller,
			void (*see)(const char *dir, enum weft__cgroup_version version, void *arg),
			void *arg)
{
	struct search s = { .root = root, .controller = controller, .see = see, .arg = arg };
	int error = errno;
	struct reader r;
	char *line;

	if (open_reader(&r, root, "/proc/self/cgroup")) {
		while ((line = next_line(&r)))
			cgroup_line(&s, line);
		close_file(r.fd);
	}
	if ((s.cgroup[WEFT__CGROUP_V1][0] || s.cgroup[WEFT__CGROUP_V2][0]) &&
	    open_reader(&r, root, "/proc/self/mountinfo")) {
		while ((line = next_line(&r)))
			mount_line(&s, line);
		close_file(r.fd);
	}
	errno = error;
}
