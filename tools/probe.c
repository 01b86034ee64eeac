/* SPDX-License-Identifier: MIT
 * What the kernel and libc of this machine really do: every probe uses the facility once, as the
 * runtime will. Version numbers and configuration files are not asked; sandboxes make them lie.
 */
#include "tools/tool.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/membarrier.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HWCAP2_BIT_FSGSBASE (1UL << 1)
#define ADVICE_GUARD_INSTALL 102	/* MADV_GUARD_INSTALL, Linux 6.13 */
#define CPUS_MAX 8192

/* Sleeping must leave a record in the ring. */
static int sleep_leaves_record(const struct perf_event_mmap_page *ring)
{
	struct timespec nap = { 0, 100000 };

	for (int i = 0; i < 10; i++) {
		nanosleep(&nap, NULL);
		/* Relaxed: only whether it moved matters, the record is not read. */
		if (__atomic_load_n(&ring->data_head, __ATOMIC_RELAXED))
			return 0;
	}
	return -ENODATA;
}

int weft__probe_records(enum weft__records_step *step)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.exclude_kernel = 1,
		.context_switch = 1,
		.watermark = 1,
		.wakeup_watermark = 1,
	};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *ring;
	long fd;
	int r;

	*step = WEFT__RECORDS_OPEN;
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return -errno;
	*step = WEFT__RECORDS_MAP;
	ring = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
	if (ring == MAP_FAILED) {
		r = -errno;
		close((int)fd);
		return r;
	}
	*step = WEFT__RECORDS_READ;
	r = sleep_leaves_record(ring);
	if (!r)
		*step = WEFT__RECORDS_WORK;
	munmap(ring, 2 * page);
	close((int)fd);
	return r;
}

const char *weft__records_advice(enum weft__records_step step, int err, char *buf, size_t size)
{
	int64_t paranoid;

	if (step == WEFT__RECORDS_READ) {
		snprintf(buf, size, "the kernel accepts the request, but writes no records");
	} else if (step == WEFT__RECORDS_MAP) {
		snprintf(buf, size, "mapping the ring: %s; raise 'ulimit -l' or "
			 "kernel.perf_event_mlock_kb", strerror(err));
	} else if (err != EACCES && err != EPERM) {
		snprintf(buf, size, "perf_event_open: %s%s", strerror(err), err == ENOSYS ?
			 "; this kernel or sandbox has no perf events" : "");
	} else if (weft__read_number("/proc/sys/kernel/perf_event_paranoid", &paranoid) &&
		   paranoid > 2 && geteuid()) {
		snprintf(buf, size, "perf_event_open: %s; kernel.perf_event_paranoid is %d: "
			 "'sysctl kernel.perf_event_paranoid=2' as root allows it",
			 strerror(err), (int)paranoid);
	} else {
		snprintf(buf, size, "perf_event_open: %s; a sandbox (seccomp, container, security "
			 "module) forbids it: allow perf_event_open there", strerror(err));
	}
	return buf;
}

int weft__probe_guard(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int r;

	if (p == MAP_FAILED)
		return -errno;
	r = madvise(p, page, ADVICE_GUARD_INSTALL) ? -errno : 0;
	munmap(p, page);
	return r;
}

int weft__probe_membarrier(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) ||
	    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
		return -errno;
	return 0;
}

int weft__probe_uring(void)
{
	struct io_uring_params params;
	long fd;

	memset(&params, 0, sizeof(params));
	fd = syscall(SYS_io_uring_setup, 2, &params);
	if (fd < 0)
		return -errno;
	close((int)fd);
	return 0;
}

bool weft__probe_fsbase(void)
{
	return getauxval(AT_HWCAP2) & HWCAP2_BIT_FSGSBASE;
}

unsigned weft__probe_affinity(void)
{
	size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
	cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
	unsigned n = 1;

	if (set && !sched_getaffinity(0, size, set))
		n = (unsigned)CPU_COUNT_S(size, set);
	CPU_FREE(set);
	return n;
}

const char *weft__probe_libc(void)
{
	static const char *const names[] = {
		"_dl_allocate_tls", "_dl_allocate_tls_init", "_dl_deallocate_tls",
		"_thread_db_sizeof_pthread", "_thread_db_pthread_tid", "__call_tls_dtors",
		"__ctype_init",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!dlsym(RTLD_DEFAULT, names[i]))
			return names[i];
	return NULL;
}
