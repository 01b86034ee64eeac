/* SPDX-License-Identifier: MIT
 * x86-64: the switch, the first frame of a fiber, the thread pointer, the signal frame.
 *
 * Switch:    inline, so that the compiler saves only what the caller keeps in registers and the pair
 *            of call and ret around it stays balanced: what a switch costs is the mispredicted ret (8 to 16 ns
 *            against 2). The resume address is stored beside the stack pointer and reached by an
 *            indirect jump, which the branch target buffer predicts. Nothing is pushed, so the compiler's CFI is valid
 *            at the resume label and a parked fiber can be unwound from (pc, sp, bp).
 * Kept:      rsp, rbp by hand; rbx, r12-r15 by the clobber list; MXCSR and x87 control bits by comparison, since
 *            loading MXCSR costs 50 ns and more, and its sticky status bits differ all the time.
 * Not kept:  vector registers, x87 stack, status bits: caller-saved in the ABI.
 */
#ifndef WEFT_ARCH_X86_64_H
#define WEFT_ARCH_X86_64_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

struct weft__ctx {
	void *sp;			/* offset 0 */
	void *bp;			/* offset 8 */
	void *pc;			/* offset 16 */
	void *tls;			/* FS base */
	uint32_t mxcsr;
	uint16_t fpucw;
};

#define WEFT__MXCSR_CONTROL 0xffc0u	/* masks, rounding, FTZ, DAZ; not the six status bits */

extern bool weft__arch_fsgsbase;	/* wrfsbase may be used (AT_HWCAP2 bit 1) */
void weft__arch_init(bool force_syscall);
void weft__arch_set_tls_syscall(void *tp);

_Static_assert(offsetof(struct weft__ctx, sp) == 0, "used by the assembly below");
_Static_assert(offsetof(struct weft__ctx, bp) == 8, "used by the assembly below");
_Static_assert(offsetof(struct weft__ctx, pc) == 16, "used by the assembly below");

static inline void *weft__arch_tls(void)
{
	void *tp;
	__asm__ volatile("movq %%fs:0, %0" : "=r"(tp));	/* glibc keeps a self pointer there */
	return tp;
}

/* A word of the caller's thread block, `offset` bytes from the thread pointer: a constant. Volatile: a switch changes it. */
#define weft__arch_tcb_word(type, offset)						\
	({ type value_; __asm__ volatile("movq %%fs:%c1, %0" : "=r"(value_) : "i"(offset)); value_; })

/* Only where weft__arch_fsgsbase says so. */
static inline void weft__arch_set_tls_direct(void *tp)
{
	__asm__ volatile("wrfsbase %0" : : "r"(tp) : "memory");
}

static inline void weft__arch_set_tls(void *tp)
{
	if (__builtin_expect(weft__arch_fsgsbase, 1))
		weft__arch_set_tls_direct(tp);
	else
		weft__arch_set_tls_syscall(tp);
}

static inline void weft__arch_pause(void)
{
	__builtin_ia32_pause();
}

struct weft__arrival {
	struct weft__ctx *self;		/* who arrives: `from` of the switch that it left by. Of use because it need not be loaded */
	void *word;
};

/* Continue in `to`. Set the thread pointer before, if it has to change: between the two, a signal handler finds
 * the new thread pointer on the old stack, and since both sides have preemption disabled it does nothing.
 * What the next one needs stays in registers, which are those of the first three arguments of a function: weft__arch_make. */
static inline __attribute__((always_inline)) struct weft__arrival weft__arch_switch(struct weft__ctx *from,
										     struct weft__ctx *to, void *word)
{
	__asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(from->mxcsr), "=m"(from->fpucw));
	if (__builtin_expect(((from->mxcsr ^ to->mxcsr) & WEFT__MXCSR_CONTROL) |
			     (uint32_t)(from->fpucw ^ to->fpucw), 0))
		__asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(to->mxcsr), "m"(to->fpucw));
	__asm__ volatile(
		"leaq 1f(%%rip), %%rax\n\t"
		"movq %%rsp, 0(%%rdi)\n\t"
		"movq %%rbp, 8(%%rdi)\n\t"
		"movq %%rax, 16(%%rdi)\n\t"
		"movq 0(%%rsi), %%rsp\n\t"
		"movq 8(%%rsi), %%rbp\n\t"
		"jmpq *16(%%rsi)\n"
		"1:\tendbr64\n\t"
		: "+D"(from), "+S"(to), "+d"(word)
		:
		: "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
		  "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return (struct weft__arrival){ to, word };
}

/* Make `ctx` start fn(from, self, word), what the first switch to it is called with, on the stack that ends at `top`. fn must not return:
 * its return address is 0, which also ends every backtrace. The floating-point control is the caller's. */
static inline void weft__arch_make(struct weft__ctx *ctx, void *top, void (*fn)(struct weft__ctx *, struct weft__ctx *, void *))
{
	uintptr_t sp = ((uintptr_t)top & ~(uintptr_t)15) - 16;

	((void **)sp)[0] = NULL;
	((void **)sp)[1] = NULL;
	ctx->sp = (void *)(sp + 8);	/* as after a call: 16-byte aligned plus 8; [sp] == 0 */
	ctx->bp = NULL;
	ctx->pc = (void *)fn;
	__asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(ctx->mxcsr), "=m"(ctx->fpucw));
}

/* clone(2) of a thread that starts fn(arg), which must not return, on the stack that ends at `top`. The tid, or -errno. */
static inline long weft__arch_clone(unsigned long flags, void *top, int *tid, void *tls, void (*fn)(void *), void *arg)
{
	void **sp = (void **)((uintptr_t)top & ~(uintptr_t)15);
	register long r10 __asm__("r10") = 0;
	register void *r8 __asm__("r8") = tls;
	long ret;

	*--sp = arg;
	*--sp = (void *)fn;
	__asm__ volatile(
		"syscall\n\t"
		"testq %%rax, %%rax\n\t"
		"jnz 1f\n\t"
		"xorl %%ebp, %%ebp\n\t"	/* the child: the end of every backtrace */
		"popq %%rax\n\t"
		"popq %%rdi\n\t"
		"callq *%%rax\n\t"
		"ud2\n"
		"1:"
		: "=a"(ret)
		: "0"(56l /* SYS_clone */), "D"(flags), "S"(sp), "d"(tid), "r"(r10), "r"(r8)
		: "rcx", "r11", "memory");
	return ret;
}

static inline uintptr_t weft__arch_frame_pc(const void *uc)
{
	return (uintptr_t)((const ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP];
}

static inline uint64_t weft__arch_frame_digest(const void *uc)
{
	const greg_t *r = ((const ucontext_t *)uc)->uc_mcontext.gregs;
	uint64_t digest = 0;

	_Static_assert(REG_R8 == 0 && REG_RSP == 15, "the general registers come first");
	for (int i = 0; i < 16; i++)
		digest = digest << 4 | (uint64_t)r[i] * 0x9e3779b97f4a7c15u >> 60;
	return digest;
}

/* arch.c. Between the look at the flag and the system call a signal handler may set the flag, or find it set: it tells by the frame's pc. */
long weft__arch_syscall_point(const _Atomic uint32_t *flag, long nr, const long args[6]);
bool weft__arch_frame_at_point(const void *uc);
bool weft__arch_frame_end_point(void *uc);
bool weft__arch_frame_waits(const void *uc);

static inline uintptr_t weft__arch_frame_sp(const void *uc)
{
	return (uintptr_t)((const ucontext_t *)uc)->uc_mcontext.gregs[REG_RSP];
}

/* A signal frame as the kernel makes it: the return address, which is that of rt_sigreturn(2)'s trampoline; struct ucontext with a mask of
 * 64 bits; siginfo; padding; the floating-point state, 64-byte aligned, which uc_mcontext.fpregs points to. */
enum {
	WEFT__FRAME_BEFORE = 8,		/* the return address, before the ucontext */
	WEFT__FRAME_INFO = 304,		/* siginfo, from the ucontext */
};

static inline uintptr_t weft__arch_frame_info(const void *uc)
{
	return (uintptr_t)uc + WEFT__FRAME_INFO;
}

/* arch.c: bytes of the frame around `uc`, and a copy of it that ends at or below `top`; rt_sigreturn works from there. */
size_t weft__arch_frame_size(const void *uc);
void *weft__arch_frame_move(const void *uc, void *top);

/* Leave this stack: run fn(sig, info, uc) as the kernel would, on the stack that the frame of `uc` is on; its return is the frame's end. */
static inline _Noreturn void weft__arch_frame_run(void *uc, int sig, void (*fn)(int, siginfo_t *, void *))
{
	__asm__ volatile("movq %0, %%rsp\n\tjmpq *%1"
			 : : "r"((char *)uc - WEFT__FRAME_BEFORE), "r"(fn), "D"((long)sig),
			     "S"((char *)uc + WEFT__FRAME_INFO), "d"(uc) : "memory");
	__builtin_unreachable();
}

/* arch.c: run fn(arg) on the stack that ends at `top`, and come back. */
void weft__arch_call_on(void *top, void (*fn)(void *), void *arg);

/* The stack pointer that longjmp will set: the jump buffer keeps it rotated and mixed with the pointer guard. */
static inline uintptr_t weft__arch_jump_sp(const void *jmpbuf)
{
	uintptr_t sp = ((const uintptr_t *)jmpbuf)[6];

	__asm__("rorq $17, %0\n\txorq %%fs:48, %0" : "+r"(sp) : : "cc");
	return sp;
}

/* The kernel, with nothing between: a result of -4095 .. -1 is -errno. For code that must not meet the shim's wrappers,
 * libc's cancellation points or errno. */
static inline long weft__arch_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
		: "=a"(ret)
		: "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory", "cc");
	return ret;
}

/* pid_t name(void). The child comes back from here first and reuses the stack below the caller's frame, the slot of the return
 * address included; so that address is in rdi, which the kernel keeps for both, and is stored anew by each of them. */
#define WEFT__ARCH_VFORK(name, before, after)					\
	__asm__(".text\n\t"							\
		".globl " #name "\n\t"						\
		".type " #name ", @function\n"					\
		#name ":\n\t"							\
		".cfi_startproc\n\t"						\
		"endbr64\n\t"							\
		"subq $8, %rsp\n\t"						\
		".cfi_adjust_cfa_offset 8\n\t"					\
		"call " #before "\n\t"						\
		"addq $8, %rsp\n\t"						\
		".cfi_adjust_cfa_offset -8\n\t"					\
		"popq %rdi\n\t"							\
		".cfi_adjust_cfa_offset -8\n\t"					\
		".cfi_register rip, rdi\n\t"					\
		"movl $58, %eax\n\t"		/* SYS_vfork */			\
		"syscall\n\t"							\
		"pushq %rdi\n\t"						\
		".cfi_adjust_cfa_offset 8\n\t"					\
		".cfi_rel_offset rip, 0\n\t"					\
		"subq $8, %rsp\n\t"						\
		".cfi_adjust_cfa_offset 8\n\t"					\
		"movq %rax, %rdi\n\t"						\
		"call " #after "\n\t"						\
		"addq $8, %rsp\n\t"						\
		".cfi_adjust_cfa_offset -8\n\t"					\
		"ret\n\t"							\
		".cfi_endproc\n\t"						\
		".size " #name ", .-" #name)

#endif
