/* SPDX-License-Identifier: MIT
 * A machine with two NUMA nodes, made up by hwloc: what the runtime makes of it. Its memory is this machine's; what can be seen is which VP is taken
 * to be near to which, and that no VP's pool has a stack of the other node.
 *
 * Distances are measured only in a process that has one thread, and Criterion's has two; so each test is a child of a fork, which ends with the
 * number of the line where something was wrong.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "weft/weft.h"

enum { VPS = 4, FIBERS = 600, ROUNDS = 20 };

TestSuite(nodes, .timeout = 60);

#define HOLDS(x) do { if (!(x)) _exit(__LINE__); } while (0)

static void in_child(void (*check)(void))
{
	pid_t pid = fork();
	int status;

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		__libc_single_threaded = 1;
		setenv("HWLOC_SYNTHETIC", "numa:2 core:2 pu:1", 1);
		setenv("WEFT_VPS", "4", 1);
		HOLDS(weft_init() == 0);
		HOLDS(weft__rt.nvps == VPS);
		check();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status), "signal %d", WTERMSIG(status));
	cr_assert_eq(WEXITSTATUS(status), 0, "line %d", WEXITSTATUS(status));
}

static void neighbours_are_nearer(void)
{
	for (unsigned a = 0; a < VPS; a++) {
		HOLDS(weft__rt.vp[a].far);
		HOLDS(weft__rt.vp[a].node == a / 2);
		HOLDS(weft__rt.vp[a].far[a ^ 1] < weft__rt.vp[a].far[a ^ 2]);
		HOLDS(weft__rt.vp[a].far[a ^ 1] < weft__rt.vp[a].far[a ^ 3]);
	}
}

static void *spin_a_little(void *arg)
{
	volatile unsigned n = 0;

	while (n < 2000)
		n++;
	weft_yield();
	return arg;
}

static void stacks_stay_on_theirs(void)
{
	static weft_fiber *f[FIBERS];
	unsigned pooled = 0;

	for (int r = 0; r < ROUNDS; r++) {
		for (int i = 0; i < FIBERS; i++)
			HOLDS(weft_spawn(&f[i], NULL, spin_a_little, NULL) == 0);
		for (int i = 0; i < FIBERS; i++)
			HOLDS(weft_join(f[i], NULL) == 0);
	}
	weft_sleep(20 * 1000 * 1000);	/* the last ones have left; pools change only where a fiber is made or ends */
	for (unsigned i = 0; i < VPS; i++)
		for (struct weft__fiber *p = weft__rt.vp[i].pool; p; p = p->next, pooled++)
			HOLDS(p->memory_node == weft__rt.vp[i].node);
	HOLDS(pooled > 0);
}

Test(nodes, neighbours_are_nearer)
{
	in_child(neighbours_are_nearer);
}

Test(nodes, stacks_stay_on_theirs)
{
	in_child(stacks_stay_on_theirs);
}
