/* SPDX-License-Identifier: MIT
 * The directories of the cgroups that limit this process, and their files.
 *
 * Context:   any but a signal handler. Runs at the first pthread_create of arbitrary programs: no
 *            allocation, no stdio, errno kept. weft__cgroups_each takes about 9 KB of stack,
 *            weft__cgroup_read 2 KB.
 * Limits:    what lies above a cgroup namespace or outside of the mounted part of the tree cannot
 *            be seen.
 */
#ifndef WEFT_UPCALL_CGROUP_H
#define WEFT_UPCALL_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEFT__CGROUP_DIR = 2048 };	/* longest path that is understood */

enum weft__cgroup_version { WEFT__CGROUP_V1, WEFT__CGROUP_V2 };

/* see() is called with the directory of our cgroup and of each of its ancestors, in the version 1
 * hierarchy of `controller` and in that of version 2. `root` stands before every path that is
 * opened: "" is the real system, a test gives a directory with a made-up one. */
void weft__cgroups_each(const char *root, const char *controller,
			void (*see)(const char *dir, enum weft__cgroup_version version, void *arg),
			void *arg);

/* The first size - 1 bytes of dir/file as text; false if it cannot be read. */
bool weft__cgroup_read(const char *dir, const char *file, char *text, size_t size);

/* A decimal number at *s, which moves behind it; false if there is none ("max"). */
bool weft__cgroup_number(const char **s, uint64_t *out);

#endif
