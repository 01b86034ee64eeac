/* SPDX-License-Identifier: MIT
 * Names of threads: pthread_setname_np, pthread_getname_np, prctl(PR_SET_NAME, PR_GET_NAME).
 *
 * Model:     a fiber's name is in its struct; it begins as its creator's, as in the kernel. main's is the process's name too
 *            (/proc/self/comm), written through. The kernel's names of the workers stay as they are.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pthread/shim.h"

WEFT__REAL(pthread_setname_np);
WEFT__REAL(pthread_getname_np);
WEFT__REAL(prctl);

/* A fiber by a handle. Before the runtime starts main is libc's. */
static struct weft__fiber *named(pthread_t thread)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	return f && (f->kind == WEFT__FIBER || weft__is_fiber(f)) ? f : NULL;
}

static void set_name(struct weft__fiber *f, const char *name)
{
	if (f->kind == WEFT__MAIN) {
		int fd = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);

		if (fd >= 0) {
			if (write(fd, name, strnlen(name, sizeof f->name - 1)) < 0)
				(void)0;	/* the name below is what we report */
			close(fd);
		}
	}
	weft__name_set(f, name);
}

WEFT__EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
	struct weft__fiber *f = named(thread);

	if (!f)
		return weft__real(pthread_setname_np)(thread, name);
	if (strlen(name) >= sizeof f->name)
		return ERANGE;
	set_name(f, name);
	return 0;
}

WEFT__EXPORT int pthread_getname_np(pthread_t thread, char *name, size_t size)
{
	struct weft__fiber *f = named(thread);

	if (!f)
		return weft__real(pthread_getname_np)(thread, name, size);
	if (size < sizeof f->name)
		return ERANGE;
	strcpy(name, weft__name(f));
	return 0;
}

WEFT__EXPORT int prctl(int option, ...)
{
	struct weft__fiber *self = weft__self();
	unsigned long a[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (weft__is_fiber(self) && option == PR_SET_NAME) {
		set_name(self, (const char *)a[0]);
		return 0;
	}
	if (weft__is_fiber(self) && option == PR_GET_NAME) {
		strcpy((char *)a[0], weft__name(self));
		return 0;
	}
	return weft__real(prctl)(option, a[0], a[1], a[2], a[3]);
}
