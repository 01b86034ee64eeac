/* SPDX-License-Identifier: MIT
 * Standard I/O as cancellation points.
 *
 * Why:       libc reads and writes inside, with system calls that the shim does not see. A thread that waits there is cancelled
 *            (upcall/cancel.h); but one that prints in a loop, never waits, and in NPTL is cancelled all the same, at a write(2).
 * Model:     before libc's function runs, a request acts if the call is likely to come to the system call: the stream is not fully
 *            buffered, its buffer is half full, or there is nothing left to read. POSIX allows a point in each of these functions; to
 *            act at more of them than NPTL would only hit threads where they never were before.
 * Cost:      a load and a branch; what is looked at in the stream is looked at when there is a request.
 * Not here:  fclose (io_open.c), functions of one character, of wide ones, and those whose names end in _unlocked.
 * Locks:     none is held here. A caller that holds the stream (flockfile) is unwound with it held, as in NPTL.
 */
/* The header's inline versions would be in the way. */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdio_ext.h>

#include "pthread/sync.h"

/* Fortified names, and those that <stdio.h> gives another name in the assembler; no header declares them. */
int __printf_chk(int, const char *, ...);
int __fprintf_chk(FILE *, int, const char *, ...);
int __vprintf_chk(int, const char *, va_list);
int __vfprintf_chk(FILE *, int, const char *, va_list);
int __dprintf_chk(int, int, const char *, ...);
int __vdprintf_chk(int, int, const char *, va_list);
char *__fgets_chk(char *, size_t, int, FILE *);
size_t __fread_chk(void *, size_t, size_t, size_t, FILE *);
int __isoc99_vscanf(const char *, va_list);
int __isoc99_vfscanf(FILE *, const char *, va_list);

WEFT__REAL(puts);
WEFT__REAL(fputs);
WEFT__REAL(fwrite);
WEFT__REAL(fflush);
WEFT__REAL(perror);
WEFT__REAL(vprintf);
WEFT__REAL(vfprintf);
WEFT__REAL(vdprintf);
WEFT__REAL(__vprintf_chk);
WEFT__REAL(__vfprintf_chk);
WEFT__REAL(__vdprintf_chk);
WEFT__REAL(fgets);
WEFT__REAL(fread);
WEFT__REAL(getline);
WEFT__REAL(getdelim);
WEFT__REAL(__fgets_chk);
WEFT__REAL(__fread_chk);
WEFT__REAL(__isoc99_vscanf);
WEFT__REAL(__isoc99_vfscanf);

/* Is there a descriptor behind it? */
static bool is_file(FILE *f)
{
	int saved = errno;
	bool is = fileno(f) >= 0;

	errno = saved;
	return is;
}

static __attribute__((noinline)) void asked(struct weft__fiber *self, FILE *f, bool reads)
{
	/* Hints: another thread may use the stream now. The buffer of one that has none is one character. */
	if (is_file(f) && (reads ? f->_IO_read_ptr >= f->_IO_read_end :
			   __flbf(f) || __fpending(f) * 2 + 1 >= __fbufsize(f)))
		weft__cancel_at(self);
}

static inline void point(FILE *f, bool reads)
{
	struct weft__fiber *self = weft__tls_self;

	if (self && weft__unlikely(atomic_load_explicit(&self->cancel, memory_order_relaxed)))
		asked(self, f, reads);
}

/* --- output --- */

WEFT__EXPORT int puts(const char *s)
{
	point(stdout, false);
	return weft__real(puts)(s);
}

WEFT__EXPORT int fputs(const char *restrict s, FILE *restrict f)
{
	point(f, false);
	return weft__real(fputs)(s, f);
}

WEFT__EXPORT size_t fwrite(const void *restrict p, size_t size, size_t n, FILE *restrict f)
{
	point(f, false);
	return weft__real(fwrite)(p, size, n, f);
}

/* What the program wants to be written it may not write again: so the work comes first. */
WEFT__EXPORT int fflush(FILE *f)
{
	int r = weft__real(fflush)(f);

	weft__testcancel();
	return r;
}

WEFT__EXPORT void perror(const char *s)
{
	weft__testcancel();
	weft__real(perror)(s);
}

#define VARARGS(last, call) ({		\
	va_list ap_;			\
	int ret_;			\
	va_start(ap_, last);		\
	ret_ = (call);			\
	va_end(ap_);			\
	ret_; })

WEFT__EXPORT int vfprintf(FILE *restrict f, const char *restrict format, va_list ap)
{
	point(f, false);
	return weft__real(vfprintf)(f, format, ap);
}

WEFT__EXPORT int vprintf(const char *restrict format, va_list ap)
{
	point(stdout, false);
	return weft__real(vprintf)(format, ap);
}

WEFT__EXPORT int vdprintf(int fd, const char *restrict format, va_list ap)
{
	weft__testcancel();
	return weft__real(vdprintf)(fd, format, ap);
}

WEFT__EXPORT int fprintf(FILE *restrict f, const char *restrict format, ...)
{
	point(f, false);
	return VARARGS(format, weft__real(vfprintf)(f, format, ap_));
}

WEFT__EXPORT int printf(const char *restrict format, ...)
{
	point(stdout, false);
	return VARARGS(format, weft__real(vprintf)(format, ap_));
}

WEFT__EXPORT int dprintf(int fd, const char *restrict format, ...)
{
	weft__testcancel();
	return VARARGS(format, weft__real(vdprintf)(fd, format, ap_));
}

WEFT__EXPORT int __vfprintf_chk(FILE *f, int flag, const char *format, va_list ap)
{
	point(f, false);
	return weft__real(__vfprintf_chk)(f, flag, format, ap);
}

WEFT__EXPORT int __vprintf_chk(int flag, const char *format, va_list ap)
{
	point(stdout, false);
	return weft__real(__vprintf_chk)(flag, format, ap);
}

WEFT__EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	weft__testcancel();
	return weft__real(__vdprintf_chk)(fd, flag, format, ap);
}

WEFT__EXPORT int __fprintf_chk(FILE *f, int flag, const char *format, ...)
{
	point(f, false);
	return VARARGS(format, weft__real(__vfprintf_chk)(f, flag, format, ap_));
}

WEFT__EXPORT int __printf_chk(int flag, const char *format, ...)
{
	point(stdout, false);
	return VARARGS(format, weft__real(__vprintf_chk)(flag, format, ap_));
}

WEFT__EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	weft__testcancel();
	return VARARGS(format, weft__real(__vdprintf_chk)(fd, flag, format, ap_));
}

/* --- input --- */

WEFT__EXPORT char *fgets(char *restrict s, int n, FILE *restrict f)
{
	point(f, true);
	return weft__real(fgets)(s, n, f);
}

WEFT__EXPORT char *__fgets_chk(char *s, size_t room, int n, FILE *f)
{
	point(f, true);
	return weft__real(__fgets_chk)(s, room, n, f);
}

WEFT__EXPORT size_t fread(void *restrict p, size_t size, size_t n, FILE *restrict f)
{
	point(f, true);
	return weft__real(fread)(p, size, n, f);
}

WEFT__EXPORT size_t __fread_chk(void *p, size_t room, size_t size, size_t n, FILE *f)
{
	point(f, true);
	return weft__real(__fread_chk)(p, room, size, n, f);
}

WEFT__EXPORT ssize_t getline(char **restrict line, size_t *restrict n, FILE *restrict f)
{
	point(f, true);
	return weft__real(getline)(line, n, f);
}

WEFT__EXPORT ssize_t getdelim(char **restrict line, size_t *restrict n, int delimiter, FILE *restrict f)
{
	point(f, true);
	return weft__real(getdelim)(line, n, delimiter, f);
}
WEFT__ALIAS(__getdelim, getdelim);

WEFT__EXPORT int __isoc99_vfscanf(FILE *f, const char *format, va_list ap)
{
	point(f, true);
	return weft__real(__isoc99_vfscanf)(f, format, ap);
}

WEFT__EXPORT int __isoc99_vscanf(const char *format, va_list ap)
{
	point(stdin, true);
	return weft__real(__isoc99_vscanf)(format, ap);
}

/* <stdio.h> makes these names of fscanf and scanf. */
WEFT__EXPORT int fscanf(FILE *restrict f, const char *restrict format, ...)
{
	point(f, true);
	return VARARGS(format, weft__real(__isoc99_vfscanf)(f, format, ap_));
}

WEFT__EXPORT int scanf(const char *restrict format, ...)
{
	point(stdin, true);
	return VARARGS(format, weft__real(__isoc99_vscanf)(format, ap_));
}
