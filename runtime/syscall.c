/* SPDX-License-Identifier: MIT
 * The library's own syscall(2). See arch/arch.h.
 */
#include <errno.h>
#include <stdarg.h>

#include "runtime/arch/arch.h"

long weft__syscall(long nr, ...)
{
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	r = weft__arch_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (r < 0 && r >= -4095) {
		errno = (int)-r;
		r = -1;
	}
	return r;
}
