/* SPDX-License-Identifier: MIT
 * x86-64: what is decided once. FSGSBASE is for user space only where the kernel says so (AT_HWCAP2, since Linux 5.9);
 * CPUID alone does not tell. Elsewhere arch_prctl(2) sets the FS base, 80 to 190 ns a switch.
 */
#include "runtime/arch/arch.h"

#include <asm/prctl.h>
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
