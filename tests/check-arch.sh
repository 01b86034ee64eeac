#!/bin/sh
# SPDX-License-Identifier: MIT
# Structure check: only runtime/arch/ knows CPUs: no #if on one and no instruction anywhere else.
# usage: check-arch.sh [SOURCE-TREE]
#
# First proves on bad input that it can fail, then checks the tree.

set -u
tree=${1:-${srcdir:-.}}

scan() {
	(cd "$1" && find include sched runtime upcall pthread tools -name '*.[chS]' 2>/dev/null |
	 grep -v '^runtime/arch/' | sort | xargs awk '
	/^[ \t]*#[ \t]*(if|ifdef|ifndef|elif)[^a-z]/ &&
	/(__x86_64|__amd64|__i[3-6]86|__aarch64|__arm|__riscv|__powerpc|__ppc|__s390|__loongarch|__mips|__ia64|__SSE|__AVX|__ILP32__)/ {
		print FILENAME ":" FNR ": #if on a CPU belongs into runtime/arch/"
	}
	# an empty template is a compiler barrier; .symver and the like are for the linker
	/(^|[^A-Za-z0-9_])(__asm__|__asm|asm)[ \t]+(volatile|__volatile__|goto|inline)[ \t]*\([ \t]*"[^"]/ {
		print FILENAME ":" FNR ": assembly belongs into runtime/arch/"
	}
	FILENAME ~ /\.S$/ && FNR == 1 {
		print FILENAME ": assembly belongs into runtime/arch/"
	}')
}

# --- proof that bad input is noticed and good input is not
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/runtime/arch/x86_64" "$tmp/pthread" "$tmp/sched"
printf '#if defined(__x86_64__)\n#endif\n' > "$tmp/runtime/arch/arch.h"
printf 'asm volatile("pause");\n' > "$tmp/runtime/arch/x86_64/a.c"
printf '#ifdef WEFT_DEBUG\n#endif\n__asm__ volatile("" ::: "memory");\n' > "$tmp/runtime/good.c"
good=$(scan "$tmp")
printf '#ifdef __x86_64__\n#endif\n' > "$tmp/runtime/bad.c"
printf '# if FOO || defined(__aarch64__)\n# endif\n' > "$tmp/pthread/bad.c"
printf '	__asm__ volatile("pause");\n' > "$tmp/sched/bad.c"
printf 'nop\n' > "$tmp/runtime/bad.S"
bad=$(scan "$tmp" | wc -l)
if [ -n "$good" ] || [ "$bad" -ne 4 ]; then
	echo "check-arch: self-test failed: $bad of 4 errors found; on good input: $good"
	exit 1
fi

# --- the tree
if [ ! -f "$tree/runtime/arch/arch.h" ]; then
	echo "check-arch: $tree is not the source tree"
	exit 1
fi
found=$(scan "$tree")
if [ -n "$found" ]; then
	echo "$found"
	echo "check-arch: CPU knowledge outside runtime/arch/"
	exit 1
fi
echo "check-arch: CPU knowledge only in runtime/arch/"
