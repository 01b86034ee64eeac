/* SPDX-License-Identifier: MIT
 * Distances by hwloc. See topology.h.
 *
 * libhwloc is linked, not loaded by dlopen: in the preload library it, libudev and libm make the
 * start of `true` 0.17 ms longer (0.53 to 0.70 ms, median of 600, 2-CPU virtual machine), which
 * every program under weft pays once.
 */
#include "sched/topology.h"

#include <errno.h>
#include <hwloc.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Nearest first. INNER and OUTER are NUMA node and package: either may contain several of the
 * other. */
enum level { CORE, L2, L3, INNER, OUTER, LEVELS };

struct place {
	cpu_set_t node_cpus;		/* all that may be used; if `node` is known */
	int cpu;			/* the kernel's number, -1 = not measured */
	int node;			/* NUMA node, by hwloc's count; -1 = not measured */
	int level[LEVELS];		/* the part it belongs to; -1 = unknown, shared with nobody */
};

struct weft__topology {
	unsigned vps;
	unsigned cpus;
	struct place place[];		/* one for each VP */
};

static const hwloc_obj_type_t kept[] = {
	HWLOC_OBJ_CORE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_PACKAGE,
};

/* What hwloc is to see of the environment: its own settings, after ours. It looks for plugins each
 * time it starts, and would load what they need (libX11, libOpenCL, libstdc++) into the program. */
static void hwloc_environment(char **env, size_t room)
{
	size_t n = 0;

	env[n++] = "HWLOC_PLUGINS_PATH=/nonexistent";
	env[n++] = "HWLOC_HIDE_ERRORS=2";	/* errors of the firmware are not the program's to report */
	for (char **e = environ; e && *e && n < room - 1; e++)
		if (!strncmp(*e, "HWLOC_", 6))
			env[n++] = *e;
	env[n] = NULL;
}

/* Read the machine, without anything that has a side effect on the program: no change of the
 * calling thread's binding (the x86 back end moves it over all CPUs), no devices. */
static int measure(hwloc_topology_t *out, const char *synthetic)
{
	hwloc_topology_t h;
	unsigned long flags = 0;

	if (hwloc_topology_init(&h))
		return -1;
	if (synthetic && hwloc_topology_set_synthetic(h, synthetic))
		goto fail;
#if HWLOC_API_VERSION >= 0x00020500
	flags |= HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING;
#endif
	if (hwloc_topology_set_flags(h, flags) ||
	    hwloc_topology_set_all_types_filter(h, HWLOC_TYPE_FILTER_KEEP_NONE))
		goto fail;
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		if (hwloc_topology_set_type_filter(h, kept[i], HWLOC_TYPE_FILTER_KEEP_ALL))
			goto fail;
	/* without groups, the nodes within a package are lost in made-up machines */
	if (hwloc_topology_set_type_filter(h, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE) ||
	    hwloc_topology_load(h))
		goto fail;
	*out = h;
	return 0;
fail:
	hwloc_topology_destroy(h);
	return -1;
}

static int part(hwloc_topology_t h, hwloc_obj_type_t type, hwloc_obj_t pu)
{
	hwloc_obj_t o = hwloc_get_ancestor_obj_by_type(h, type, pu);

	return o ? (int)o->logical_index : -1;
}

static void locate(hwloc_topology_t h, hwloc_obj_t pu, struct place *p)
{
	int packages = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_PACKAGE);
	bool big_nodes = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_NUMANODE) < packages;

	p->cpu = (int)pu->os_index;
	p->level[CORE] = part(h, HWLOC_OBJ_CORE, pu);
	p->level[L2] = part(h, HWLOC_OBJ_L2CACHE, pu);
	p->level[L3] = part(h, HWLOC_OBJ_L3CACHE, pu);
	/* memory is beside the tree, not above the CPUs: the first of the nodes near this one names
	 * them */
	p->node = pu->nodeset ? hwloc_bitmap_first(pu->nodeset) : -1;
	p->level[big_nodes ? OUTER : INNER] = p->node;
	p->level[big_nodes ? INNER : OUTER] = part(h, HWLOC_OBJ_PACKAGE, pu);
}

static void locate_node(hwloc_topology_t h, hwloc_const_bitmap_t binding, struct place *p)
{
	hwloc_obj_t node = p->node < 0 ? NULL : hwloc_get_numanode_obj_by_os_index(h, (unsigned)p->node);

	CPU_ZERO(&p->node_cpus);
	for (int i = node ? hwloc_bitmap_first(node->cpuset) : -1; i >= 0 && i < CPU_SETSIZE; i = hwloc_bitmap_next(node->cpuset, i))
		if (!binding || hwloc_bitmap_isset(binding, (unsigned)i))
			CPU_SET(i, &p->node_cpus);
}

/* May the calling thread run there? `binding` NULL: anywhere. */
static bool usable(hwloc_obj_t pu, hwloc_const_bitmap_t binding)
{
	return !binding || hwloc_bitmap_isset(binding, pu->os_index);
}

static void fill(struct weft__topology *t, hwloc_topology_t h)
{
	hwloc_bitmap_t binding = NULL;
	hwloc_obj_t pu = NULL;
	unsigned n = 0;

	if (hwloc_topology_is_thissystem(h)) {
		binding = hwloc_bitmap_alloc();
		if (binding && hwloc_get_cpubind(h, binding, HWLOC_CPUBIND_THREAD)) {
			hwloc_bitmap_free(binding);
			binding = NULL;
		}
	}
	while ((pu = hwloc_get_next_obj_by_type(h, HWLOC_OBJ_PU, pu))) {
		if (!usable(pu, binding))
			continue;
		if (n < t->vps) {
			locate(h, pu, &t->place[n]);
			locate_node(h, binding, &t->place[n]);
		}
		n++;
	}
	t->cpus = n;
	for (unsigned i = n; n && i < t->vps; i++)
		t->place[i] = t->place[i % n];
	hwloc_bitmap_free(binding);
}

struct weft__topology *weft__topology_load(unsigned vps, bool must_measure, const char *synthetic)
{
	struct weft__topology *t;
	hwloc_topology_t h;

	if (!vps)
		return NULL;
	t = malloc(sizeof(*t) + vps * sizeof(t->place[0]));
	if (!t)
		return NULL;
	t->vps = vps;
	t->cpus = 0;
	for (unsigned i = 0; i < vps; i++) {
		t->place[i].cpu = t->place[i].node = -1;
		for (int l = 0; l < LEVELS; l++)
			t->place[i].level[l] = -1;
	}
	if (vps > 2 || must_measure) {
		char *env[32], **program = environ;
		sigset_t all, old;

		hwloc_environment(env, sizeof(env) / sizeof(*env));
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, &old);	/* a handler might use the environment */
		environ = env;
		if (!measure(&h, synthetic)) {
			fill(t, h);
			hwloc_topology_destroy(h);
		}
		environ = program;
		sigprocmask(SIG_SETMASK, &old, NULL);
	}
	return t;
}

void weft__topology_free(struct weft__topology *t)
{
	free(t);
}

static int distance(const struct place *a, const struct place *b)
{
	int l = 0;

	while (l < LEVELS && (a->level[l] < 0 || a->level[l] != b->level[l]))
		l++;
	return l;
}

int weft__topology_order(const struct weft__topology *t, unsigned vp, unsigned *order)
{
	unsigned n = 0;

	if (!t || vp >= t->vps)
		return -EINVAL;
	for (int d = 0; d <= LEVELS; d++)
		for (unsigned i = 1; i < t->vps; i++) {
			unsigned other = (vp + i) % t->vps;

			if (distance(&t->place[vp], &t->place[other]) == d)
				order[n++] = other;
		}
	return (int)n;
}

int weft__topology_distance(const struct weft__topology *t, unsigned a, unsigned b)
{
	return t && a < t->vps && b < t->vps && a != b ? distance(&t->place[a], &t->place[b]) : 0;
}

int weft__topology_node(const struct weft__topology *t, unsigned vp)
{
	return t && vp < t->vps ? t->place[vp].node : -1;
}

bool weft__topology_node_cpus(const struct weft__topology *t, unsigned vp, cpu_set_t *cpus)
{
	if (weft__topology_node(t, vp) < 0)
		return false;
	*cpus = t->place[vp].node_cpus;
	return true;
}

int weft__topology_cpu(const struct weft__topology *t, unsigned vp)
{
	return t && vp < t->vps ? t->place[vp].cpu : -1;
}

unsigned weft__topology_cpus(const struct weft__topology *t)
{
	return t ? t->cpus : 0;
}
