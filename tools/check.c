/* SPDX-License-Identifier: MIT
 * Would LD_PRELOAD reach this program?
 *
 * The kernel and the dynamic linker say nothing when a preload does not apply: the program then
 * runs as if weft were not there. So look first: statically linked, another libc, set-id, wrong
 * machine. What cannot be seen from here (a file we may execute but not read, a security module) is
 * left to exec.
 */
#include "tools/tool.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define HEAD_SIZE 256		/* what the kernel reads to recognise a file */
#define SCRIPT_DEPTH_MAX 5	/* the kernel's own limit of interpreters of interpreters */

/* This executable's header, from the linker: the machine and class that weft is built for. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

static int refuse(int status, const char *path, const char *why)
{
	weft__complain("%s: %s", path, why);
	return status;
}

/* 0 or an exit status: is this a file that exec would take? */
static int check_executable(const char *path, const char *what)
{
	struct stat st;

	if (stat(path, &st)) {
		weft__complain("%s%s: %s", path, what, strerror(errno));
		return errno == ENOENT || errno == ENOTDIR ? WEFT__EXIT_NOT_FOUND :
							     WEFT__EXIT_CANNOT_RUN;
	}
	if (S_ISDIR(st.st_mode)) {
		weft__complain("%s%s: is a directory", path, what);
		return WEFT__EXIT_CANNOT_RUN;
	}
	if (!S_ISREG(st.st_mode)) {
		weft__complain("%s%s: not a regular file", path, what);
		return WEFT__EXIT_CANNOT_RUN;
	}
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS)) {
		weft__complain("%s%s: %s%s", path, what, strerror(errno),
			       !(st.st_mode & 0111) ? " (not executable: chmod +x)" : "");
		return WEFT__EXIT_CANNOT_RUN;
	}
	return 0;
}

int weft__find_program(const char *name, char *path, size_t size)
{
	static char standard[256];
	const char *dirs = getenv("PATH");
	struct stat st;
	bool denied = false;

	if (strchr(name, '/')) {
		if (strlen(name) >= size)
			return refuse(WEFT__EXIT_NOT_FOUND, name, strerror(ENAMETOOLONG));
		strcpy(path, name);
		return check_executable(path, "");
	}
	if (!dirs) {
		confstr(_CS_PATH, standard, sizeof(standard));
		dirs = standard;
	}
	while (*name) {
		size_t n = strcspn(dirs, ":");

		if ((size_t)snprintf(path, size, "%.*s%s%s", (int)n, dirs, n ? "/" : "./", name) <
		    size && !stat(path, &st) && S_ISREG(st.st_mode)) {
			if (!faccessat(AT_FDCWD, path, X_OK, AT_EACCESS))
				return 0;
			denied = true;
		}
		if (!dirs[n])
			break;
		dirs += n + 1;
	}
	if (denied) {
		weft__complain("'%s' is in PATH, but not executable", name);
		return WEFT__EXIT_CANNOT_RUN;
	}
	weft__complain("'%s' not found in PATH%s", name,
		       !access(name, F_OK) && *name ? "; there is one here: prefix it with './'" : "");
	return WEFT__EXIT_NOT_FOUND;
}

/* Do the file's capabilities give the program any? (Their inheritable part is
 * empty unless somebody arranged for it, and not looked at.) */
static bool gains_capabilities(const char *path)
{
	struct vfs_cap_data d;
	ssize_t n = getxattr(path, "security.capability", &d, sizeof(d));

	/* Longer than the struct: revision 3, with a root id behind; same beginning. */
	if (n < 0 && errno == ERANGE) {
		struct vfs_ns_cap_data ns;

		n = getxattr(path, "security.capability", &ns, sizeof(ns));
		if (n > 0)
			memcpy(&d, &ns, sizeof(d));
	}
	if (n < (ssize_t)XATTR_CAPS_SZ_1)
		return false;
	return (le32toh(d.magic_etc) & VFS_CAP_FLAGS_EFFECTIVE) || d.data[0].permitted ||
	       (n >= (ssize_t)XATTR_CAPS_SZ_2 && d.data[1].permitted);
}

/* Will the kernel set AT_SECURE, and the dynamic linker thus ignore us? It does so when the new
 * effective ids differ from the *real* ones, or when somebody whose real id is not root gains
 * capabilities. So root may run a set-uid root program under weft, and everybody their own. */
static int check_secure(const char *path)
{
	struct statvfs fs;
	struct stat st;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	bool nosuid;

	if (stat(path, &st))
		return 0;
	nosuid = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
		 (!statvfs(path, &fs) && (fs.f_flag & ST_NOSUID));
	if (!nosuid && (st.st_mode & S_ISUID))
		uid = st.st_uid;
	/* Without group execute permission the bit means mandatory locking. */
	if (!nosuid && (st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP))
		gid = st.st_gid;
	if (uid != getuid() || gid != getgid()) {
		bool su = st.st_mode & S_ISUID, sg = st.st_mode & S_ISGID;

		weft__complain("%s: %s: the dynamic linker ignores weft there; "
			       "run it without weft%s", path,
			       su ? "runs as another user (set-user-ID)" :
			       sg ? "runs as another group (set-group-ID)" :
			       "weft itself was started with another effective user or group",
			       su && !st.st_uid ? ", or as root" : "");
		return WEFT__EXIT_REFUSED;
	}
	if (!nosuid && getuid() != 0 && gains_capabilities(path))
		return refuse(WEFT__EXIT_REFUSED, path,
			      "has file capabilities: the dynamic linker ignores weft there; "
			      "run it without weft, or as root");
	return 0;
}

/* The first object is the command itself: its interpreter into *out. */
static int take_interp(struct dl_phdr_info *info, size_t size, void *out)
{
	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_INTERP)
			*(const char **)out =
				(const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
	return 1;
}

/* The dynamic linker that this command itself runs with. */
static const char *own_interp(void)
{
	const char *interp = "";

	dl_iterate_phdr(take_interp, &interp);
	return interp;
}

static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int check_interp(const char *path, const char *interp)
{
	const char *base = strrchr(interp, '/');

	base = base ? base + 1 : interp;
	if (!same_file(interp, own_interp()) && strncmp(base, "ld-linux", 8)) {
		weft__complain("%s: linked with %s (its dynamic linker is %s); weft needs glibc: "
			       "build it against glibc or run it without weft", path,
			       !strncmp(base, "ld-musl", 7) ? "musl" : "another libc than glibc",
			       interp);
		return WEFT__EXIT_REFUSED;
	}
	if (access(interp, F_OK)) {
		weft__complain("%s: its dynamic linker %s: %s", path, interp, strerror(errno));
		return WEFT__EXIT_CANNOT_RUN;
	}
	return 0;
}

static int check_elf(const char *path, int fd)
{
	static const char damaged[] = "not a complete ELF program";
	static char interp[PATH_MAX];
	ElfW(Ehdr) eh = { 0 };
	ElfW(Phdr) ph;

	if (pread(fd, &eh, sizeof(eh), 0) < (ssize_t)offsetof(ElfW(Ehdr), e_version))
		return refuse(WEFT__EXIT_CANNOT_RUN, path, damaged);
	if (eh.e_ident[EI_DATA] != __ehdr_start.e_ident[EI_DATA] ||
	    (eh.e_machine != __ehdr_start.e_machine &&
	     eh.e_ident[EI_CLASS] == __ehdr_start.e_ident[EI_CLASS]))
		return refuse(WEFT__EXIT_CANNOT_RUN, path, "built for another kind of machine");
	if (eh.e_ident[EI_CLASS] != __ehdr_start.e_ident[EI_CLASS] ||
	    eh.e_machine != __ehdr_start.e_machine)
		return refuse(WEFT__EXIT_REFUSED, path,
			      "a 32-bit program; weft runs 64-bit ones: build it for 64 bits "
			      "or run it without weft");
	if ((eh.e_type != ET_EXEC && eh.e_type != ET_DYN) || eh.e_phentsize != sizeof(ph))
		return refuse(WEFT__EXIT_CANNOT_RUN, path, "an ELF file, but not a program");
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(eh.e_phoff + i * sizeof(ph))) != sizeof(ph))
			return refuse(WEFT__EXIT_CANNOT_RUN, path, damaged);
		if (ph.p_type != PT_INTERP)
			continue;
		if (ph.p_filesz < 2 || ph.p_filesz > sizeof(interp) ||
		    pread(fd, interp, ph.p_filesz, (off_t)ph.p_offset) != (ssize_t)ph.p_filesz)
			return refuse(WEFT__EXIT_CANNOT_RUN, path, damaged);
		interp[ph.p_filesz - 1] = '\0';
		return check_interp(path, interp);
	}
	/* ld.so PROGRAM: it has no interpreter because it is one, and it knows LD_PRELOAD. */
	if (same_file(path, own_interp()))
		return 0;
	return refuse(WEFT__EXIT_REFUSED, path,
		      "statically linked: weft cannot reach its threads; "
		      "link it dynamically or run it without weft");
}

/* "#! interpreter [argument]" in head: the interpreter into path, as the kernel reads it. */
static bool script_interpreter(const char *head, char *path)
{
	const char *p = head + 2 + strspn(head + 2, " \t");
	size_t n = strcspn(p, " \t\r\n");

	/* A carriage return would be part of the name for the kernel; keep it, to name it. */
	if (p[n] == '\r')
		n += 1;
	memcpy(path, p, n);
	path[n] = '\0';
	return n > 0;
}

static int check_file(const char *path, int depth, bool *shell)
{
	char head[HEAD_SIZE + 1], interp[HEAD_SIZE + 1], what[PATH_MAX / 4];
	ssize_t n;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return check_secure(path);
	n = pread(fd, head, HEAD_SIZE, 0);
	if (n < 0) {
		weft__complain("%s: %s", path, strerror(errno));
		close(fd);
		return WEFT__EXIT_CANNOT_RUN;
	}
	head[n] = '\0';
	if (n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG)) {
		r = check_elf(path, fd);
		close(fd);
		return r ? r : check_secure(path);
	}
	close(fd);
	if (n < 2 || memcmp(head, "#!", 2)) {
		/* Neither: another format that the kernel may know, or plain text for the shell. */
		*shell = depth == 0 && !memchr(head, '\0', (size_t)n);
		return *shell ? check_file("/bin/sh", depth + 1, shell) : 0;
	}
	if (!script_interpreter(head, interp))
		return refuse(WEFT__EXIT_CANNOT_RUN, path, "'#!' without an interpreter");
	if (depth == SCRIPT_DEPTH_MAX)
		return refuse(WEFT__EXIT_CANNOT_RUN, path, "too many interpreters of interpreters");
	if (strchr(interp, '\r'))
		return refuse(WEFT__EXIT_CANNOT_RUN, path,
			      "its first line ends in a carriage return; convert it to Unix line ends");
	snprintf(what, sizeof(what), " (the interpreter of %.200s)", path);
	r = check_executable(interp, what);
	if (r)
		return WEFT__EXIT_CANNOT_RUN;
	return check_file(interp, depth + 1, shell);
}

int weft__check_program(const char *path, bool *shell)
{
	*shell = false;
	return check_file(path, 0, shell);
}
