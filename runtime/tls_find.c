/* SPDX-License-Identifier: MIT
 * How does libc have its thread control blocks? Its private names and offsets, found at the start and proved: by changing what is to be there, and
 * by a block of our own that has to work as a thread's. See tls.h.
 */
#include "runtime/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/modules.h"
#include "runtime/runtime.h"

static __thread volatile int probe __attribute__((tls_model("initial-exec"))) = 0x77656674;

static int see_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	char *tp = arg, *block = info->dlpi_tls_data;

	(void)size;
	if (info->dlpi_tls_modid == 0 || block == NULL || block >= tp ||
	    block < tp - (weft__tls.size - weft__tls.tcb_size))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const size_t n = info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type != PT_TLS ||
		    !((tp + weft__tls.errno_offset >= block && tp + weft__tls.errno_offset < block + n) ||
		      (tp + weft__tls.self_offset >= block && tp + weft__tls.self_offset < block + n)))
			continue;
		if (weft__tls.nkept == 2)
			return 1;
		weft__tls.kept[weft__tls.nkept++] = (struct piece){ (size_t)(tp - block), n };
	}
	return 0;
}

/* Where the two modules are whose TLS is not reset. They are never unloaded. */
static bool see_modules(void)
{
	weft__tls.nkept = 0;
	if (dl_iterate_phdr(see_module, weft__arch_tls()) != 0 || weft__tls.nkept == 0)
		return false;
	if (weft__tls.nkept == 2 && weft__tls.kept[0].offset < weft__tls.kept[1].offset) {
		struct piece p = weft__tls.kept[0];

		weft__tls.kept[0] = weft__tls.kept[1];
		weft__tls.kept[1] = p;
	}
	return true;
}

/* Does a block that we make work as a thread's? Nothing in here may use TLS but on purpose. */
static __attribute__((noinline)) bool try_block(char *tcb)
{
	uint64_t all = ~0ull, old;
	void *mine = weft__arch_tls(), *self;
	int *(*volatile location)(void) = __errno_location;	/* declared const: not to be hoisted */
	int value, *err;
	uintptr_t guard, my_guard = ((struct tcb_head *)mine)->stack_guard;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	weft__arch_set_tls(tcb);
	self = weft__arch_tls();
	value = probe;
	err = location();
	guard = ((struct tcb_head *)self)->stack_guard;
	weft__arch_set_tls(mine);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	return self == tcb && value == 0x77656674 && (char *)err == tcb + weft__tls.errno_offset &&
	       guard == my_guard;
}

static bool self_test(void)
{
	static struct weft__fiber fake;
	void (*deallocate)(void *, bool) = dlsym(RTLD_DEFAULT, "_dl_deallocate_tls");
	size_t bytes = (weft__tls.size + weft__tls.align + 4095) & ~(size_t)4095;
	char *mem = weft__stack_map(bytes), *tcb;
	bool works = false;

	if (!mem)
		return false;
	tcb = (char *)((uintptr_t)(mem + bytes - weft__tls.tcb_size) & ~(uintptr_t)(weft__tls.align - 1));
	fake.tid = WEFT__TID_LIFE;
	/* the main thread's block must look as we believe: its tid is where we would write */
	if (*(pid_t *)((char *)weft__arch_tls() + weft__tls.tid_offset) == (pid_t)weft__gettid() &&
	    weft__tls_build(tcb, &fake) == 0) {
		works = weft__tls_keep_pristine(tcb) && try_block(tcb) && weft__tls_reset(tcb, &fake) == 0 && try_block(tcb);
		if (deallocate)
			deallocate(tcb, false);
	}
	munmap(mem, bytes);
	return works;
}

/* Where in the TCB libc keeps whether it may be cancelled: proved by changing it. 0: not as we know it. */
static ptrdiff_t find_cancel_word(void)
{
	const uint32_t *field = dlsym(RTLD_DEFAULT, "_thread_db_pthread_cancelhandling");
	int (*set_type)(int, int *) = dlsym(RTLD_NEXT, "pthread_setcanceltype");
	const int *word;
	int type, before, during;

	if (!field || !set_type || field[0] != 32 || field[2] + sizeof *word > weft__tls.tcb_size)
		return 0;
	word = (const int *)((char *)weft__arch_tls() + field[2]);
	before = *(const volatile int *)word;
	if (before & ~LIBC_DISABLED || set_type(PTHREAD_CANCEL_ASYNCHRONOUS, &type) != 0)
		return 0;
	during = *(const volatile int *)word;
	set_type(type, NULL);
	return during == (before | LIBC_ASYNC) ? (ptrdiff_t)field[2] : 0;
}

/* Where in the TCB libc keeps the list of its own cleanup handlers: where the newest one's address turns up. 0: nowhere. */
static ptrdiff_t find_cleanup_word(void)
{
	void (*push)(void *, void (*)(void *), void *) = dlsym(RTLD_NEXT, "_pthread_cleanup_push");
	void (*pop)(void *, int) = dlsym(RTLD_NEXT, "_pthread_cleanup_pop");
	void *const volatile *word = weft__arch_tls();
	void *buffer[4];
	ptrdiff_t found = 0;
	unsigned n = 0;

	if (!push || !pop)
		return 0;
	push(buffer, NULL, NULL);
	for (size_t i = 0; i < weft__tls.tcb_size / sizeof *word; i++)
		if (word[i] == buffer) {
			found = (ptrdiff_t)(i * sizeof *word);
			n++;
		}
	pop(buffer, 0);
	return n == 1 ? found : 0;
}

static bool resolve(void)
{
	const uint32_t *size = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
	const uint32_t *tid = dlsym(RTLD_DEFAULT, "_thread_db_pthread_tid");	/* bits, count, offset */
	const uint32_t *list = dlsym(RTLD_DEFAULT, "_thread_db_pthread_list");
	const ptrdiff_t *rseq = dlsym(RTLD_DEFAULT, "__rseq_offset");
	char *tp = weft__arch_tls();
	char *resp = dlsym(RTLD_DEFAULT, "__resp");
	void *robust = NULL;
	size_t len = 0, list_offset;

	weft__tls.allocate = dlsym(RTLD_DEFAULT, "_dl_allocate_tls");
	weft__tls.initialise = dlsym(RTLD_DEFAULT, "_dl_allocate_tls_init");
	weft__tls.get_static = dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info");
	weft__tls.ctype_init = dlsym(RTLD_DEFAULT, "__ctype_init");
	weft__tls.call_dtors = dlsym(RTLD_DEFAULT, "__call_tls_dtors");
	weft__tls.dlerror = dlsym(RTLD_DEFAULT, "dlerror");
	if (!size || !tid || !weft__tls.allocate || !weft__tls.initialise || !weft__tls.get_static || !weft__tls.ctype_init ||
	    !weft__tls.call_dtors || !weft__tls.dlerror || tid[0] != 32)
		return false;
	weft__tls.get_static(&weft__tls.size, &weft__tls.align);
	if (weft__tls.align < 64)
		weft__tls.align = 64;
	weft__tls.tcb_size = *size;
	weft__tls.tid_offset = weft__tcb_tid = tid[2];
	list_offset = list && list[2] + 2 * sizeof(void *) <= *size ? list[2] : 0;
	if (weft__tls.tcb_size < sizeof(struct tcb_head) || weft__tls.size < weft__tls.tcb_size ||
	    weft__tls.tid_offset >= weft__tls.tcb_size)
		return false;
	weft__tls.errno_offset = (char *)__errno_location() - tp;
	weft__tls.self_offset = (char *)&weft__tls_self - tp;
	weft__tls.resp_offset = resp ? resp - tp : 0;
	weft__tls.cancel_offset = find_cancel_word();
	weft__tls.cleanup_offset = find_cleanup_word();
	weft__tls.rseq_offset = rseq && *rseq > 0 && *rseq < (ptrdiff_t)weft__tls.tcb_size ? *rseq : 0;
	if (syscall(SYS_get_robust_list, 0, &robust, &len) == 0 && robust &&
	    (char *)robust > tp && (char *)robust + len <= tp + weft__tls.tcb_size)
		weft__tls.robust_offset = (char *)robust - tp;
	/* main's block stays on glibc's list; without the list modules with static TLS must be there from the start */
	weft__modules_init(list_offset, weft__rt.main ? weft__rt.main->tcb : tp);
	return true;
}

int weft__tls_init(bool force_shared)
{
	if (force_shared)
		return -ENOSYS;
	if (weft__tls.full)
		return 0;		/* again, in the child of a fork */
	if (resolve()) {
		weft__tls.full = true;
		if (see_modules() && self_test())
			return 0;
	}
	weft__tls.full = false;
	weft__tls.size = 4096;
	weft__tls.align = 64;
	weft__tls.tcb_size = 1024;
	return -ENOSYS;
}
