/* SPDX-License-Identifier: MIT
 * The functions that change user and group ids of the process (upcall/ids.h).
 */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pthread/shim.h"
#include "upcall/ids.h"

WEFT__REAL(setuid);
WEFT__REAL(setgid);
WEFT__REAL(seteuid);
WEFT__REAL(setegid);
WEFT__REAL(setreuid);
WEFT__REAL(setregid);
WEFT__REAL(setresuid);
WEFT__REAL(setresgid);
WEFT__REAL(setgroups);

/* libc's while the runtime does not run: it knows all threads then. */
#define CHANGE(call, nr, a, b, c)						\
	do {									\
		long result = weft__ids_change(nr, (long)(a), (long)(b), (long)(c));	\
										\
		if (result == -ENOSYS)						\
			return call;						\
		if (result < 0)							\
			errno = (int)-result;					\
		return result < 0 ? -1 : 0;					\
	} while (0)

WEFT__EXPORT int setuid(uid_t uid)
{
	CHANGE(weft__real(setuid)(uid), SYS_setuid, uid, 0, 0);
}

WEFT__EXPORT int setgid(gid_t gid)
{
	CHANGE(weft__real(setgid)(gid), SYS_setgid, gid, 0, 0);
}

/* For these two -1 is no id, and not one that stays as it is: the kernel's calls below would take it for that. */
WEFT__EXPORT int seteuid(uid_t uid)
{
	if (uid == (uid_t)-1) {
		errno = EINVAL;
		return -1;
	}
	CHANGE(weft__real(seteuid)(uid), SYS_setresuid, -1, uid, -1);
}

WEFT__EXPORT int setegid(gid_t gid)
{
	if (gid == (gid_t)-1) {
		errno = EINVAL;
		return -1;
	}
	CHANGE(weft__real(setegid)(gid), SYS_setresgid, -1, gid, -1);
}

WEFT__EXPORT int setreuid(uid_t real, uid_t effective)
{
	CHANGE(weft__real(setreuid)(real, effective), SYS_setreuid, real, effective, 0);
}

WEFT__EXPORT int setregid(gid_t real, gid_t effective)
{
	CHANGE(weft__real(setregid)(real, effective), SYS_setregid, real, effective, 0);
}

WEFT__EXPORT int setresuid(uid_t real, uid_t effective, uid_t saved)
{
	CHANGE(weft__real(setresuid)(real, effective, saved), SYS_setresuid, real, effective, saved);
}

WEFT__EXPORT int setresgid(gid_t real, gid_t effective, gid_t saved)
{
	CHANGE(weft__real(setresgid)(real, effective, saved), SYS_setresgid, real, effective, saved);
}

WEFT__EXPORT int setgroups(size_t n, const gid_t *list)
{
	CHANGE(weft__real(setgroups)(n, list), SYS_setgroups, n, list, 0);
}

/* libc's would reach its own setgroups, and wait for ever (upcall/ids.h). */
WEFT__EXPORT int initgroups(const char *user, gid_t group)
{
	int n = 64, room, result;
	gid_t *list = NULL, *more;

	do {
		room = n;
		more = realloc(list, (size_t)room * sizeof *list);
		if (!more) {
			free(list);
			return -1;
		}
		list = more;
	} while (getgrouplist(user, group, list, &n) < 0 && n > room);
	/* as many as the kernel takes */
	do
		result = setgroups((size_t)n, list);
	while (result < 0 && errno == EINVAL && --n > 0);
	free(list);		/* leaves errno alone */
	return result;
}
