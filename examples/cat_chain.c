/* SPDX-License-Identifier: MIT
 * cat_chain: two files, one after the other, as cat(1) prints them, by a single chain of operations: read file 1,
 * read file 2 after it, write both out. The kernel runs it from one end to the other; the caller is woken at its end.
 *
 *     cat_chain FILE1 FILE2 [OUT]                   (to standard output unless told)
 *
 * On standard error: how many operations were left to the kernel, how often the caller slept and was woken. Exit
 * status 0 if all of it was written.
 *
 * The chain is fixed before anything is read, so the sizes must be known: regular files only, up to 1 GB each. A file
 * that shrinks meanwhile ends the chain, and nothing is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <weft/io.h>
#include <weft/weft.h>

enum { MOST = WEFT_IO_LEN_MAX / 2 };	/* both are written out by one operation */

static void give_up(const char *what, const char *why)
{
	fprintf(stderr, "cat_chain: %s: %s\n", what, why);
	exit(1);
}

static int open_input(const char *path, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c;

	if (fd < 0 || fstat(fd, st) != 0)
		give_up(path, strerror(errno));
	if (!S_ISREG(st->st_mode))
		give_up(path, "not a regular file");
	if (st->st_size == 0 && pread(fd, &c, 1, 0) == 1)	/* as in /proc */
		give_up(path, "its size is not known before it is read");
	if (st->st_size > MOST)
		give_up(path, "too large for one operation");
	return fd;
}

static int open_output(const char *path, const struct stat in[2])
{
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : STDOUT_FILENO;
	struct stat st;

	if (!path)
		path = "standard output";
	if (fd < 0 || fstat(fd, &st) != 0)
		give_up(path, strerror(errno));
	for (int i = 0; i < 2; i++)
		if (S_ISREG(st.st_mode) && st.st_dev == in[i].st_dev && st.st_ino == in[i].st_ino)
			give_up(path, "is one of the input files");
	if (fd != STDOUT_FILENO && S_ISREG(st.st_mode) && ftruncate(fd, 0) != 0)
		give_up(path, strerror(errno));
	return fd;
}

int main(int argc, char **argv)
{
	struct weft_io_op op[3] = { { .kind = WEFT_IO_READ }, { .kind = WEFT_IO_READ }, { .kind = WEFT_IO_WRITE, .off = -1 } };
	struct weft_io io;
	struct stat st[2];
	size_t all;
	char *buf;
	int done;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: cat_chain FILE1 FILE2 [OUT]\n");
		return 2;
	}
	if (weft_init() < 0)
		give_up("weft", "does not start");
	for (int i = 0; i < 2; i++)
		op[i].fd = open_input(argv[1 + i], &st[i]);
	op[2].fd = open_output(argv[3], st);
	all = (size_t)st[0].st_size + (size_t)st[1].st_size;
	buf = mmap(NULL, all + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		give_up("memory for both files", strerror(errno));
	op[0].buf = op[2].buf = buf;
	op[0].len = (size_t)st[0].st_size;
	op[1].buf = buf + op[0].len;
	op[1].len = (size_t)st[1].st_size;
	op[2].len = all;

	done = weft_io_start(&io, op, 3);
	if (done < 0)
		give_up("the chain", strerror(-done));
	/* here the caller may do something else */
	done = weft_io_wait(&io, UINT64_MAX);
	if (done < 3)
		give_up(done < 2 ? argv[1 + done] : "the output", op[done].result < 0 ? strerror((int)-op[done].result) :
										"cut short");
	fprintf(stderr, "cat_chain: %zu bytes; 3 operations, %u left to the kernel; woken %u times\n", all, io.in_kernel,
		io.woken);
	weft_fini();
	return 0;
}
