/* SPDX-License-Identifier: MIT
 * pthread_exit in main: its cleanup handlers run, the process lives until the last thread ends, and
 * ends with status 0.
 */
#include "synctest.h"

static int handled;

static void handler(void *arg)
{
	(void)arg;
	__atomic_store_n(&handled, 1, __ATOMIC_RELEASE);
}

static void *outlive(void *arg)
{
	(void)arg;
	until(&handled, 1);
	sleep_ms(20);
	return NULL;
}

int main(void)
{
	start(outlive, NULL);
	pthread_cleanup_push(handler, NULL);
	pthread_exit((void *)17);
	pthread_cleanup_pop(0);
	return 1;
}
