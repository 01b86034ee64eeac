/* SPDX-License-Identifier: MIT
 * Programs built with a sanitizer whose runtime is a shared library, as gcc does it.
 *
 * Why:       the runtimes of AddressSanitizer and ThreadSanitizer insist on being the first library: their functions of the same names must be
 *            found before the shim's, which they then call (RTLD_NEXT). So the runtime goes into LD_PRELOAD ahead of the
 *            shim. clang links it into the program, which comes first anyway.
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/tool.h"

struct image {
	const char *data;
	size_t size;
	const ElfW(Phdr) *ph;
	unsigned phnum;
};

/* `n` bytes at file offset `at`, or NULL if the file is shorter. */
static const void *part(const struct image *im, uint64_t at, uint64_t n)
{
	return at <= im->size && n <= im->size - at ? im->data + at : NULL;
}

static uint64_t offset_of(const struct image *im, uint64_t vaddr)
{
	for (unsigned i = 0; i < im->phnum; i++)
		if (im->ph[i].p_type == PT_LOAD && vaddr - im->ph[i].p_vaddr < im->ph[i].p_filesz)
			return vaddr - im->ph[i].p_vaddr + im->ph[i].p_offset;
	return UINT64_MAX;
}

/* The string at `at`, if all of it is in the file. */
static const char *string(const struct image *im, uint64_t at)
{
	return at < im->size && memchr(im->data + at, '\0', im->size - at) ? im->data + at : NULL;
}

static const char *needed(const struct image *im, const ElfW(Phdr) *dynamic)
{
	size_t n = dynamic->p_filesz / sizeof(ElfW(Dyn));
	const ElfW(Dyn) *d = part(im, dynamic->p_offset, n * sizeof(*d));
	uint64_t strings = UINT64_MAX;

	if (!d)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (d[i].d_tag == DT_STRTAB)
			strings = offset_of(im, d[i].d_un.d_ptr);
	for (size_t i = 0; i < n && strings != UINT64_MAX; i++) {
		const char *name = d[i].d_tag == DT_NEEDED ? string(im, strings + d[i].d_un.d_val) : NULL;

		if (name && (!strncmp(name, "libasan.so", 10) || !strncmp(name, "libtsan.so", 10)))
			return name;
	}
	return NULL;
}

bool weft__sanitizer(const char *path, char *name, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *found = NULL;
	struct image im = { 0 };
	const ElfW(Ehdr) *eh;
	struct stat st;
	void *map;

	if (fd < 0)
		return false;
	map = fstat(fd, &st) == 0 && st.st_size > 0 ?
	      mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	close(fd);
	if (map == MAP_FAILED)
		return false;
	im.data = map;
	im.size = (size_t)st.st_size;
	eh = part(&im, 0, sizeof(*eh));
	if (eh && !memcmp(eh->e_ident, ELFMAG, SELFMAG) && eh->e_phentsize == sizeof(*im.ph)) {
		im.phnum = eh->e_phnum;
		im.ph = part(&im, eh->e_phoff, im.phnum * sizeof(*im.ph));
	}
	for (unsigned i = 0; im.ph && !found && i < im.phnum; i++)
		if (im.ph[i].p_type == PT_DYNAMIC)
			found = needed(&im, &im.ph[i]);
	if (found)
		snprintf(name, size, "%s", found);
	munmap(map, im.size);
	return found;
}
