/* SPDX-License-Identifier: MIT
 * How many CPUs this process may use. See cpus.h.
 *
 * /proc/self/cgroup names the cgroup of each hierarchy, /proc/self/mountinfo where (a part of) that
 * hierarchy is mounted. Mounted root R at M and cgroup P: if P lies in R, its directory is M
 * followed by the rest of P, and all directories from there up to M are looked at. If R is above
 * our namespace (/.., /../..), M itself is an ancestor. Any other mount shows cgroups that are not
 * ours.
 */
#include "upcall/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "weft/config.h"

enum {
	LINE = 2048,			/* longer lines are cut; none that matters is */
	NAME = 2048,			/* longest cgroup path and file name that is understood */
};

enum hierarchy { V1, V2, HIERARCHIES };

/* Lines of a file. */
struct reader {
	int fd;
	unsigned pos, len;		/* unread part of buf */
	bool cut;			/* the rest of an overlong line is still to be dropped */
	char buf[LINE + 1];
};

struct search {
	const char *root;
	unsigned least;			/* tightest limit so far */
	char cgroup[HIERARCHIES][NAME];	/* path of ours; "" = not in that hierarchy */
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
		n = read(fd, buf, size);
	while (n < 0 && errno == EINTR);
	return n;
}

static int open_file(const char *path)
{
	int fd;

	do
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	while (fd < 0 && errno == EINTR);
	return fd;
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
static bool number(const char **s, uint64_t *out)
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

static void limit(struct search *s, uint64_t quota, uint64_t period)
{
	uint64_t cpus;

	if (!period)
		return;
	cpus = quota / period + (quota % period != 0);
	if (!cpus)
		cpus = 1;
	if (cpus < s->least)
		s->least = (unsigned)cpus;
}

/* The beginning of dir/file as text; false if it cannot be read. `dir` has NAME bytes. */
static bool contents(char *dir, const char *file, char text[64])
{
	size_t used = strlen(dir);
	ssize_t n;
	int fd;

	if (!join(dir + used, NAME - used, "/", file, ""))
		return false;
	fd = open_file(dir);
	dir[used] = 0;
	if (fd < 0)
		return false;
	n = read_some(fd, text, 63);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	return true;
}

/* "max" and version 1's "-1" are no numbers: unlimited. */
static void look_at(struct search *s, enum hierarchy h, char *dir)
{
	char quota[64], period[64];
	const char *q = quota, *p = period;
	uint64_t amount, length;

	if (h == V2) {
		if (contents(dir, "cpu.max", quota) && number(&q, &amount) && number(&q, &length))
			limit(s, amount, length);
		return;
	}
	if (contents(dir, "cpu.cfs_quota_us", quota) && number(&q, &amount) &&
	    contents(dir, "cpu.cfs_period_us", period) && number(&p, &length))
		limit(s, amount, length);
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
static void mounted(struct search *s, enum hierarchy h, const char *top, const char *point)
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
		look_at(s, h, dir);
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
	if (!strcmp(type, "cgroup2") && s->cgroup[V2][0])
		mounted(s, V2, top, point);
	else if (!strcmp(type, "cgroup") && s->cgroup[V1][0] && has_word(options, "cpu"))
		mounted(s, V1, top, point);
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
		join(s->cgroup[V2], NAME, path, "", "");
	else if (has_word(controllers, "cpu"))
		join(s->cgroup[V1], NAME, path, "", "");
}

static bool open_reader(struct reader *r, const char *root, const char *file)
{
	r->pos = r->len = 0;
	r->cut = false;
	r->fd = join(r->buf, sizeof(r->buf), root, file, "") ? open_file(r->buf) : -1;
	return r->fd >= 0;
}

unsigned weft__cpus_quota(const char *root)
{
	struct search s = { .root = root, .least = WEFT__CPUS_UNLIMITED };
	int error = errno;
	struct reader r;
	char *line;

	if (open_reader(&r, root, "/proc/self/cgroup")) {
		while ((line = next_line(&r)))
			cgroup_line(&s, line);
		close(r.fd);
	}
	if ((s.cgroup[V1][0] || s.cgroup[V2][0]) &&
	    open_reader(&r, root, "/proc/self/mountinfo")) {
		while ((line = next_line(&r)))
			mount_line(&s, line);
		close(r.fd);
	}
	errno = error;
	return s.least;
}

unsigned weft__cpus_affinity(void)
{
	cpu_set_t set[8192 / CPU_SETSIZE];	/* as many as Linux supports */
	int error = errno, n = 0;

	if (!sched_getaffinity(0, sizeof(set), set))
		n = CPU_COUNT_S(sizeof(set), set);
	errno = error;
	return n > 0 ? (unsigned)n : 1;
}

unsigned weft__cpus_allowed(void)
{
	unsigned cpus = weft__cpus_affinity(), quota = weft__cpus_quota("");

	return quota < cpus ? quota : cpus;
}

__attribute__((visibility("default"))) unsigned weft_cpus_available(void)
{
	return weft__cpus_allowed();
}
