/* SPDX-License-Identifier: MIT
 * x86-64: what is decided once. FSGSBASE is for user space only where the kernel says so (AT_HWCAP2, since Linux 5.9);
 * CPUID alone does not tell. Elsewhere arch_prctl(2) sets the FS base, 80 to 190 ns a switch.
 */
#include "runtime/arch/arch.h"

#include <asm/prctl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HWCAP2_FSGSBASE (1ul << 1)

bool weft__arch_fsgsbase;

void weft__arch_init(bool force_syscall)
{
	weft__arch_fsgsbase = !force_syscall && (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE);
}

void weft__arch_set_tls_syscall(void *tp)
{
	/* Inline: the thread pointer changes under us, so errno must not be touched. */
	long ret;
	__asm__ volatile("syscall" : "=a"(ret)
			 : "0"((long)SYS_arch_prctl), "D"((long)ARCH_SET_FS), "S"(tp)
			 : "rcx", "r11", "memory");
}

#define XSTATE_WORDS 464		/* in the 512 bytes of fxsave, what the kernel says about the rest: magic, size of all */
#define XSTATE_MAGIC 0x46505853u

size_t weft__arch_frame_size(const void *uc_)
{
	const ucontext_t *uc = uc_;
	const char *fp = (const char *)uc->uc_mcontext.fpregs, *begin = (const char *)uc - WEFT__FRAME_BEFORE;
	uint32_t words[2];

	if (!fp)
		return WEFT__FRAME_BEFORE + WEFT__FRAME_INFO + sizeof(siginfo_t);
	memcpy(words, fp + XSTATE_WORDS, sizeof words);
	return (size_t)(fp - begin) + (words[0] == XSTATE_MAGIC ? words[1] : 512);
}

void *weft__arch_frame_move(const void *uc_, void *top)
{
	const ucontext_t *uc = uc_;
	const char *fp = (const char *)uc->uc_mcontext.fpregs;
	size_t size = weft__arch_frame_size(uc);
	const char *begin = (const char *)uc - WEFT__FRAME_BEFORE;
	/* by a multiple of 64: xrstor wants that of the state, the ABI 16 of the frame */
	uintptr_t by = (((uintptr_t)begin + size) - (uintptr_t)top + 63) & ~(uintptr_t)63;
	ucontext_t *to = (ucontext_t *)((uintptr_t)uc - by);

	memcpy((char *)to - WEFT__FRAME_BEFORE, begin, size);
	if (fp)
		to->uc_mcontext.fpregs = (void *)((uintptr_t)fp - by);
	return to;
}

/* With a frame pointer, so that unwinders find the caller on the other stack. */
__attribute__((noinline, optimize("no-omit-frame-pointer")))
void weft__arch_call_on(void *top, void (*fn)(void *), void *arg)
{
	__asm__ volatile(
		"movq %%rsp, %%rbx\n\t"
		"movq %0, %%rsp\n\t"
		"callq *%1\n\t"
		"movq %%rbx, %%rsp"
		: "+r"(top), "+r"(fn), "+D"(arg)
		:
		: "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc",
		  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
