/* SPDX-License-Identifier: MIT
 * Signals for the program that arrive where no fiber can take them.
 */
#include <errno.h>

#include "upcall/upcall.h"

int weft__signals_fd(void) { return -1; }
void weft__signals_route(void) { }
void weft__signals_deferred(struct weft__fiber *self) { (void)self; }
