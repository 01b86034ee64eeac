/* SPDX-License-Identifier: MIT
 * Contention scope: PTHREAD_SCOPE_PROCESS is a fiber, PTHREAD_SCOPE_SYSTEM a bound fiber.
 *
 * Default:   a fiber, whatever the attributes say. NPTL knows only SYSTEM, so programs ask for it by habit and mean nothing by it.
 *            With WEFT_SCOPE=posix it is taken at its word: who calls pthread_attr_setscope(PTHREAD_SCOPE_SYSTEM) gets
 *            a kernel thread of its own. Attributes whose scope was never set make fibers in any case.
 * Bound:     glibc's own thread. To the runtime it is a foreign one, which may call and wait for everything.
 * Where:     in the flags of the attribute object, so that a copy of it says the same. Their place is glibc's private matter: found
 *            to be elsewhere, scope stays as glibc has it.
 */
#include <errno.h>
#include <string.h>

#include "pthread/attr.h"

WEFT__REAL(pthread_attr_setscope);

#define FLAGS_AT 8			/* behind priority and policy */
enum {
	FLAG_DETACHED = 1,		/* glibc's */
	FLAG_PROCESS = 4,		/* glibc's: pthread_attr_getscope reads it, nothing sets it */
	FLAG_BOUND = 1 << 20,		/* ours: SYSTEM was asked for */
};

static int flags_of(const pthread_attr_t *attr)
{
	int flags;

	memcpy(&flags, (const char *)attr + FLAGS_AT, sizeof flags);
	return flags;
}

static void set_flags(pthread_attr_t *attr, int flags)
{
	memcpy((char *)attr + FLAGS_AT, &flags, sizeof flags);
}

/* Are the flags where we think? */
static bool known(void)
{
	static _Atomic int answer;	/* 0 not asked yet, 1 yes, 2 no; relaxed: everybody finds the same */
	int a = atomic_load_explicit(&answer, memory_order_relaxed), scope = PTHREAD_SCOPE_SYSTEM;
	pthread_attr_t attr;

	if (!a) {
		if (pthread_attr_init(&attr) != 0)
			return false;
		a = 2;
		if (flags_of(&attr) == 0 && pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0 &&
		    flags_of(&attr) == FLAG_DETACHED) {
			set_flags(&attr, FLAG_PROCESS | FLAG_BOUND);
			if (pthread_attr_getscope(&attr, &scope) == 0 && scope == PTHREAD_SCOPE_PROCESS)
				a = 1;
		}
		pthread_attr_destroy(&attr);
		atomic_store_explicit(&answer, a, memory_order_relaxed);
	}
	return a == 1;
}

WEFT__EXPORT int pthread_attr_setscope(pthread_attr_t *attr, int scope)
{
	int flags;

	if ((scope != PTHREAD_SCOPE_PROCESS && scope != PTHREAD_SCOPE_SYSTEM) || !known())
		return weft__real(pthread_attr_setscope)(attr, scope);
	flags = flags_of(attr) & ~(FLAG_PROCESS | FLAG_BOUND);
	set_flags(attr, flags | (scope == PTHREAD_SCOPE_PROCESS ? FLAG_PROCESS : FLAG_BOUND));
	return 0;
}

bool weft__attr_bound(const pthread_attr_t *attr)
{
	return attr && known() && (flags_of(attr) & FLAG_BOUND);
}
