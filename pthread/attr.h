/* SPDX-License-Identifier: MIT
 * From attributes to fibers.
 */
#ifndef WEFT_PTHREAD_ATTR_H
#define WEFT_PTHREAD_ATTR_H

#include <pthread.h>

#include "pthread/shim.h"

/* What `attr`, or the process's default if it is NULL, says about the new thread. `explicit`: it has scheduling parameters
 * of its own. 0 or an error number. */
int weft__attr_read(const pthread_attr_t *attr, struct weft__spawn *s, bool *explicit);

/* scope.c: was scope SYSTEM asked for? */
bool weft__attr_bound(const pthread_attr_t *attr);

#endif
