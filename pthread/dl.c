/* SPDX-License-Identifier: MIT
 * dlopen, dlmopen, dlclose: the runtime must know when modules come and go (runtime/modules.h).
 *
 * The caller's address: libc looks at who calls. A name without a slash is searched for in the caller's DT_RUNPATH and DT_RPATH, and $ORIGIN is
 * where the caller is. Called from here, libc would take the shim for the caller. Where it makes a difference, the call is
 * made in our place (a tail call keeps the return address), and then nobody tells the runtime when it is over.
 */
#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "pthread/shim.h"
#include "runtime/modules.h"

WEFT__REAL(dlopen);
WEFT__REAL(dlmopen);
WEFT__REAL(dlclose);

/* libc's function must find our caller's return address on the stack: not with -O0 */
#define TAIL_CALL __attribute__((optimize("O2", "optimize-sibling-calls")))

struct search {
	uintptr_t pc;
	bool found, has_path;
};

static int see_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	const ElfW(Dyn) *d = NULL;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t lo = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type == PT_LOAD && s->pc >= lo && s->pc < lo + ph->p_memsz)
			s->found = true;
		if (ph->p_type == PT_DYNAMIC)
			d = (const ElfW(Dyn) *)lo;
	}
	if (!s->found)
		return 0;
	for (; d && d->d_tag != DT_NULL; d++)
		s->has_path |= d->d_tag == DT_RUNPATH || d->d_tag == DT_RPATH;
	return 1;
}

/* Does it matter who asks for this file? */
static bool caller_matters(const char *file, const void *caller)
{
	struct search s = { .pc = (uintptr_t)caller };

	if (!file || !*file)
		return false;
	if (strchr(file, '$'))
		return true;
	if (strchr(file, '/'))
		return false;
	dl_iterate_phdr(see_module, &s);
	return s.has_path;
}

TAIL_CALL WEFT__EXPORT void *dlopen(const char *file, int mode)
{
	void *handle;

	if (caller_matters(file, __builtin_return_address(0))) {
		weft__modules_begin_for_good();
		return weft__real(dlopen)(file, mode);
	}
	weft__modules_begin();
	handle = weft__real(dlopen)(file, mode);
	weft__modules_end();
	return handle;
}

TAIL_CALL WEFT__EXPORT void *dlmopen(Lmid_t space, const char *file, int mode)
{
	void *handle;

	if (caller_matters(file, __builtin_return_address(0))) {
		weft__modules_begin_for_good();
		return weft__real(dlmopen)(space, file, mode);
	}
	weft__modules_begin();
	handle = weft__real(dlmopen)(space, file, mode);
	weft__modules_end();
	return handle;
}

WEFT__EXPORT int dlclose(void *handle)
{
	int err;

	weft__modules_begin();
	err = weft__real(dlclose)(handle);
	weft__modules_end();
	return err;
}
