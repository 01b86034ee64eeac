/* SPDX-License-Identifier: MIT
 * Loading the shim: check the settings (a wrong one must not be found out at the first thread), and keep
 * children from inheriting us if so asked. Nothing is started: a program without threads pays for this only.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pthread/shim.h"
#include "runtime/runtime.h"
#include "upcall/fault.h"
#include "weft/config.h"

void *weft__next_symbol(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p) {
		weft__warn("libc has no %s", name);
		weft__die("a function of libc that the shim needs is missing");
	}
	return p;
}

extern struct weft__real_name __start_weft_real[] __attribute__((visibility("hidden")));
extern struct weft__real_name __stop_weft_real[] __attribute__((visibility("hidden")));

void weft__resolve_all(void)
{
	for (struct weft__real_name *n = __start_weft_real; n < __stop_weft_real; n++)
		if (!*n->where)
			*n->where = dlsym(RTLD_NEXT, n->name);
}

/* Take our own entry out of LD_PRELOAD: programs started from here run without weft. */
static void leave_environment(void)
{
	const char *old = getenv("LD_PRELOAD"), *p = old;
	char *kept, *end;

	if (!old || !(kept = malloc(strlen(old) + 1)))
		return;
	end = kept;
	*end = '\0';
	while (*p) {
		size_t n = strcspn(p, ": ");

		if (n && !memmem(p, n, "libweft-pthread.so", 18)) {
			if (end > kept)
				*end++ = ':';
			memcpy(end, p, n);
			end += n;
			*end = '\0';
		}
		p += n;
		p += strspn(p, ": ");
	}
	if (end == kept)
		unsetenv("LD_PRELOAD");
	else
		setenv("LD_PRELOAD", kept, 1);
	free(kept);
}

static bool want_stats;

static __attribute__((constructor)) void load(void)
{
	struct weft_config c;
	char err[256];

	if (weft_config_from_env(&c, err, sizeof err) != 0) {
		weft__warn("%s", err);
		_exit(125);
	}
	if (!c.inherit)
		leave_environment();
	want_stats = c.stats;
	weft__self();
	weft__shim = true;
	weft__fault_enable();
}

static __attribute__((destructor)) void unload(void)
{
	if (want_stats && weft__running())
		weft__stats_print();
}
