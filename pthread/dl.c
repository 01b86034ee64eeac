/* SPDX-License-Identifier: MIT
 * dlopen, dlmopen, dlclose: the runtime must know when modules come and go (runtime/modules.h). And dlvsym.
 *
 * dlvsym:    a sanitizer's runtime stands before us and asks for the next pthread_cond_wait@GLIBC_2.3.2 after itself. Our symbols have no
 *            versions, so it would get libc's, and for names without a version, by dlsym, ours: half of an object's functions each.
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
WEFT__REAL(dlvsym);

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

/* --- dlvsym --- */

/* The module of an address. */
static struct link_map *module_of(const void *addr, Dl_info *info)
{
	struct link_map *map = NULL;

	return dladdr1(addr, info, (void **)&map, RTLD_DL_LINKMAP) ? map : NULL;
}

/* By its GNU hash table, without versions: dlsym needs a handle, which a module that was there from the start has none of. */
static void *function_of(const struct link_map *m, const char *name)
{
	const uint32_t *table = NULL, *buckets, *chain;
	const ElfW(Sym) *symbols = NULL;
	const char *strings = NULL;
	uint32_t hash = 5381, i;

	for (const ElfW(Dyn) *d = m->l_ld; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_GNU_HASH)
			table = (const uint32_t *)d->d_un.d_ptr;
		else if (d->d_tag == DT_SYMTAB)
			symbols = (const ElfW(Sym) *)d->d_un.d_ptr;
		else if (d->d_tag == DT_STRTAB)
			strings = (const char *)d->d_un.d_ptr;
	}
	if (!table || !symbols || !strings || !table[0])
		return NULL;
	for (const char *c = name; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	/* buckets, first symbol, words of the Bloom filter, its shift; the filter, the buckets, the chains */
	buckets = table + 4 + table[2] * (sizeof(ElfW(Addr)) / sizeof *table);
	chain = buckets + table[0];
	i = buckets[hash % table[0]];
	if (i < table[1])
		return NULL;
	for (;; i++) {
		uint32_t h = chain[i - table[1]];

		if ((h | 1) == (hash | 1) && strcmp(strings + symbols[i].st_name, name) == 0 && symbols[i].st_shndx != SHN_UNDEF &&
		    ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC)
			return (char *)m->l_addr + symbols[i].st_value;
		if (h & 1)
			return NULL;
	}
}

/* Our function of that name, for a caller that looks behind itself and finds us before libc. */
static void *ours(const char *name, const char *version, const void *caller)
{
	Dl_info info;
	struct link_map *us = module_of((void *)ours, &info), *m = module_of(caller, &info);

	/* the condition variables of that version are other objects */
	if (strncmp(version, "GLIBC_", 6) != 0 || (strcmp(version, "GLIBC_2.2.5") == 0 && strncmp(name, "pthread_cond_", 13) == 0))
		return NULL;
	if (!us || !m || m == us)
		return NULL;
	while (m && m != us)
		m = m->l_next;
	return m ? function_of(us, name) : NULL;
}

TAIL_CALL WEFT__EXPORT void *dlvsym(void *restrict handle, const char *restrict name, const char *restrict version)
{
	void *fn = handle == RTLD_NEXT ? ours(name, version, __builtin_return_address(0)) : NULL;

	return fn ? fn : weft__real(dlvsym)(handle, name, version);
}
