/* SPDX-License-Identifier: MIT
 * A thread that says when it is about to wait, and is cancelled then.
 */
#ifndef WEFT_TESTS_CANCEL_CHECK_H
#define WEFT_TESTS_CANCEL_CHECK_H

#include "synctest.h"

static int in;

static inline void enter(void)
{
	__atomic_store_n(&in, 1, __ATOMIC_RELEASE);
}

static inline void cancelled(pthread_t t)
{
	CHECK_IS(pthread_cancel(t), 0);
	CHECK(finish(t) == PTHREAD_CANCELED);
	in = 0;
}

#endif
