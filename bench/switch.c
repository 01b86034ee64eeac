/* SPDX-License-Identifier: MIT
 * The yardstick: what the processor asks for a switch between two stacks, bare and with
 * `wrfsbase`.
 *
 * Two contexts hand the processor to each other. A switch saves the six callee-saved registers
 * and the stack pointer, loads the other's and jumps; both jumps have one target each, so they
 * are always predicted. Nothing is queued, counted or checked: no scheduler can be faster than
 * this.
 */
#include "bench.h"

#include <asm/hwcap2.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/auxv.h>

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

struct context {
	void *sp;
	void *pc;
	uint64_t fsbase;
};

/*
 * void NAME(struct context *self, struct context *other, uint64_t n): n times from self to
 * other and back. NAME_peer is where `other` starts; on its stack lie, from the top, `other`
 * and `self`.
 */
#define SAVE(self)						\
	"pushq %rbp\n pushq %rbx\n pushq %r12\n"		\
	"pushq %r13\n pushq %r14\n pushq %r15\n"		\
	"movq %rsp, 0(" self ")\n"				\
	"leaq 2f(%rip), %rax\n movq %rax, 8(" self ")\n"
#define LOAD(other, fs)						\
	"movq 0(" other "), %rsp\n" fs "jmpq *8(" other ")\n"	\
	"2: endbr64\n"						\
	"popq %r15\n popq %r14\n popq %r13\n"			\
	"popq %r12\n popq %rbx\n popq %rbp\n"
#define PING_PONG(name, fs_to_other)				\
	".p2align 6\n .type " name ", @function\n"		\
	name ":\n"						\
	"pushq %rbp\n pushq %rbx\n pushq %r12\n"		\
	"movq %rdi, %rbx\n movq %rsi, %rbp\n movq %rdx, %r12\n"	\
	".p2align 4\n"						\
	"1:\n" SAVE("%rbx") LOAD("%rbp", fs_to_other("%rbp"))	\
	"decq %r12\n jnz 1b\n"					\
	"popq %r12\n popq %rbx\n popq %rbp\n"			\
	"ret\n .size " name ", .-" name "\n"			\
	".p2align 6\n .type " name "_peer, @function\n"		\
	name "_peer:\n"						\
	"endbr64\n"						\
	"popq %rbx\n popq %rbp\n"				\
	".p2align 4\n"						\
	"1:\n" SAVE("%rbx") LOAD("%rbp", fs_to_other("%rbp"))	\
	"jmp 1b\n .size " name "_peer, .-" name "_peer\n"

#define FS_KEEP(other) ""
#define FS_WRITE(other) "movq 16(" other "), %rax\n wrfsbase %rax\n"

__asm__(".text\n"
	PING_PONG("switch_bare", FS_KEEP)
	PING_PONG("switch_fs", FS_WRITE));

void switch_bare(struct context *self, struct context *other, uint64_t n);
void switch_fs(struct context *self, struct context *other, uint64_t n);
void switch_bare_peer(void);
void switch_fs_peer(void);

static uint64_t peer_stack[512] __attribute__((aligned(64)));
static uint64_t peer_tls[64] __attribute__((aligned(64)));	/* never read: it touches no TLS */

static uint64_t run(uint64_t n, void *arg)
{
	bool fs = *(bool *)arg;
	struct context self = { 0 }, other = { 0 };
	uint64_t *top = &peer_stack[256];
	uint64_t start;

	self.fsbase = (uint64_t)pthread_self();		/* on x86-64 that is the FS base */
	other.fsbase = (uint64_t)&peer_tls[32];
	top[0] = (uint64_t)&other;
	top[1] = (uint64_t)&self;
	other.sp = top;
	other.pc = fs ? (void *)switch_fs_peer : (void *)switch_bare_peer;
	start = now_ns();
	if (fs)
		switch_fs(&self, &other, n);
	else
		switch_bare(&self, &other, n);
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	uint64_t budget = BUDGET(argc, argv);
	bool fs = strcmp(option_text(argc, argv, 'o', "bare"), "wrfsbase") == 0;

	if (fs && !(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) {
		fprintf(stderr, "bench: this machine does not allow wrfsbase (no FSGSBASE)\n");
		return 77;
	}
	/* A round trip is two switches. */
	report("ns", measure(run, &fs, 10000, budget) / 2, "ns/switch");
	return 0;
}
