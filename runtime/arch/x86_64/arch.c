/* SPDX-License-Identifier: MIT
 * x86-64: what is decided once. FSGSBASE is for user space only where the kernel says so (AT_HWCAP2, since Linux 5.9);
 * CPUID alone does not tell. Elsewhere arch_prctl(2) sets the FS base, 80 to 190 ns a switch.
 */
#include "runtime/arch/arch.h"

#include <asm/prctl.h>
#include <errno.h>
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

/* long weft__arch_syscall_point(const _Atomic uint32_t *flag (rdi), long nr (rsi), const long args[6] (rdx))
 * A leaf: nothing is pushed, so the handler may send it from anywhere between begin and end to cancel. When the kernel restarts a system
 * call it sets the pc back to the instruction, which is in that range too; at `end` the call has been made. */
__asm__(
	".pushsection .text\n"
	".globl weft__arch_syscall_point\n"
	".hidden weft__arch_syscall_point\n"
	".type weft__arch_syscall_point, @function\n"
	"weft__arch_syscall_point:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	movq %rdi, %r11\n"
	"	movq %rdx, %rcx\n"
	"	movq %rsi, %rax\n"
	"	movq 0(%rcx), %rdi\n"
	"	movq 8(%rcx), %rsi\n"
	"	movq 16(%rcx), %rdx\n"
	"	movq 24(%rcx), %r10\n"
	"	movq 32(%rcx), %r8\n"
	"	movq 40(%rcx), %r9\n"
	"weft__arch_point_begin:\n"
	"	cmpl $0, (%r11)\n"
	"	jne weft__arch_point_cancel\n"
	"	syscall\n"
	"weft__arch_point_end:\n"
	"	ret\n"
	"weft__arch_point_cancel:\n"
	"	movq $-4, %rax\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size weft__arch_syscall_point, . - weft__arch_syscall_point\n"
	".popsection\n"
);
_Static_assert(EINTR == 4, "used by the assembly above");

extern const char weft__arch_point_begin[] __attribute__((visibility("hidden")));
extern const char weft__arch_point_end[] __attribute__((visibility("hidden")));
extern const char weft__arch_point_cancel[] __attribute__((visibility("hidden")));

bool weft__arch_frame_at_point(const void *uc)
{
	uintptr_t pc = weft__arch_frame_pc(uc);

	return pc >= (uintptr_t)weft__arch_point_begin && pc < (uintptr_t)weft__arch_point_end;
}

bool weft__arch_frame_end_point(void *uc)
{
	if (!weft__arch_frame_at_point(uc))
		return false;
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)weft__arch_point_cancel;
	return true;
}

static bool is_syscall(const uint8_t *pc)
{
	return pc[0] == 0x0f && pc[1] == 0x05;
}

bool weft__arch_frame_waits(const void *uc)
{
	const greg_t *reg = ((const ucontext_t *)uc)->uc_mcontext.gregs;
	const uint8_t *pc = (const uint8_t *)(uintptr_t)reg[REG_RIP];

	return is_syscall(pc) || (reg[REG_RAX] == -EINTR && is_syscall(pc - 2));
}
