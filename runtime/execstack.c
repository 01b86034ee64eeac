/* SPDX-License-Identifier: MIT
 * Stacks from which code is run: nested functions of GNU C, Ada and Fortran whose address is taken are entered by way of a few instructions
 * on the stack of their parent.
 *
 * Model:     a module says that it needs such stacks by the flags of its PT_GNU_STACK, or by having none. The kernel and the loader then make
 *            the first stack executable, and libc those of its threads; ours are, if a module wants it when the runtime starts. One
 *            that is loaded later is noticed when a fiber faults at an instruction on its stack (upcall/fault.c).
 */
#include <link.h>
#include <string.h>

#include "runtime/runtime.h"

static int see_module(struct dl_phdr_info *info, size_t size, void *wanted)
{
	(void)size;
	if (strncmp(info->dlpi_name, "linux-vdso", 10) == 0)	/* the kernel's, which has no stack in mind */
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_STACK)
			return *(bool *)wanted = info->dlpi_phdr[i].p_flags & PF_X;
	return *(bool *)wanted = true;
}

static bool wanted_by_some(void)
{
	bool wanted = false;

	dl_iterate_phdr(see_module, &wanted);
	return wanted;
}

void weft__execstack_start(void)
{
	static bool looked;

	/* not again in the child of a fork, where the loader's lock may be held for ever */
	if (!looked && wanted_by_some())
		weft__stacks_executable();
	looked = true;
}

bool weft__execstack_late(const struct weft__fiber *f, uintptr_t pc)
{
	/* The loader's lock is recursive, and the program's code: whoever holds it gets our VP if we stall on it. */
	if (!weft__stack_has(f, pc))
		return false;
	if (!weft__stacks_are_executable()) {
		if (!wanted_by_some())
			return false;
		weft__stacks_executable();
	}
	/* another may have been at it when we faulted */
	return weft__stack_executable(f);
}
