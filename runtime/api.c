/* SPDX-License-Identifier: MIT
 * weft/weft.h: the native API, a thin skin over fiber.h.
 *
 * Model:     a weft_fiber is the runtime's struct weft__fiber under its public name. Arguments are
 *            checked here, so that the runtime below may trust them.
 * Context:   as weft.h says for each function.
 * Not here:  weft_init, weft_fini, weft_vps (start.c), weft_stats (stats.c).
 */
#include "weft/weft.h"

#include <errno.h>
#include <string.h>

#include "runtime/fiber.h"
#include "runtime/sync.h"
#include "runtime/wait.h"

#define EXPORT __attribute__((visibility("default")))

enum {
	PRIO_MAX = 99,			/* sched.h */
	STACK_MIN = 16384,		/* of a caller's stack; as PTHREAD_STACK_MIN */
};

static struct weft__fiber *inner(const weft_fiber *f)
{
	return (struct weft__fiber *)(uintptr_t)f;
}

static bool attr_valid(const struct weft_attr *a)
{
	if (a->tls != WEFT_TLS_FULL && a->tls != WEFT_TLS_SHARED)
		return false;
	if (a->prio < 0 || a->prio > PRIO_MAX)
		return false;
	return !a->stack_addr || a->stack_size >= STACK_MIN;
}

EXPORT int weft_spawn(weft_fiber **out, const struct weft_attr *attr, void *(*fn)(void *),
		      void *arg)
{
	static const struct weft_attr none = WEFT_ATTR_INIT;
	const struct weft_attr *a = attr ? attr : &none;
	struct weft__fiber *f;
	int r;

	if (!fn || !attr_valid(a) || (!out && !a->detached))
		return -EINVAL;
	r = weft__spawn(&f, &(struct weft__spawn){
		.fn = fn,
		.arg = arg,
		.stack_size = a->stack_size,
		.guard_size = SIZE_MAX,		/* the default */
		.stack_addr = a->stack_addr,
		.shared_tls = a->tls == WEFT_TLS_SHARED,
		.detached = a->detached,
		.prio = a->prio,
		.sigmask = weft__self()->sigmask,
		.name = a->name,
	});
	if (r == 0 && out)
		*out = (weft_fiber *)f;	/* not a detached one's to use: it may be gone already */
	return r;
}

EXPORT int weft_join(weft_fiber *f, void **result)
{
	return f ? weft__join(inner(f), result, WEFT__NEVER) : -EINVAL;
}

EXPORT int weft_detach(weft_fiber *f)
{
	return f ? weft__detach(inner(f)) : -EINVAL;
}

EXPORT void weft_exit(void *result)
{
	weft__exit(result);
}

EXPORT void weft_sleep(uint64_t ns)
{
	uint64_t deadline = weft__after(ns);

	/* a signal handler may run meanwhile; "at least ns" holds all the same */
	while (weft__sleep_until(deadline) == WEFT__INTERRUPTED)
		;
}

EXPORT weft_fiber *weft_self(void)
{
	return (weft_fiber *)weft__self();
}

EXPORT uint32_t weft_id(const weft_fiber *f)
{
	return inner(f)->id;
}

EXPORT void weft_set_name(weft_fiber *f, const char *name)
{
	weft__name_set(inner(f), name ? name : "");
}

EXPORT void weft_get_name(const weft_fiber *f, char name[16])
{
	strncpy(name, weft__name(inner(f)), 15);
	name[15] = '\0';
}
