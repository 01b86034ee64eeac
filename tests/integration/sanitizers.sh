#!/bin/bash
# SPDX-License-Identifier: MIT
# Programs built with AddressSanitizer and ThreadSanitizer under `weft run`: a right one runs clean, as fibers; a wrong one is found out.
#
# WEFT       the weft command; default: in the build tree

. "$(dirname "$0")/../common.sh"
WEFT=${WEFT:-$top/weft}
if [ ! -x "$WEFT" ]; then
	echo "$0: set WEFT to the weft command; there is none at $WEFT" >&2
	exit 2
fi
failed=0 done=0
log=$work/log

# expect STATUS TEXT COMMAND…: the exit status and a line in the output
expect() {
	local status=$1 text=$2
	shift 2
	run_limited 60 "$log" "$@"
	local got=$?
	if [ $got -ne "$status" ] || ! grep -q -- "$text" "$log"; then
		echo "FAILED: $* (status $got, wanted $status and '$text')"
		tail -n 20 "$log" | sed 's/^/    /'
		failed=1
	fi
}

for cc in gcc clang; do
	command -v $cc >/dev/null || continue
	for kind in address thread; do
		p=$work/$cc-$kind
		$cc -D_GNU_SOURCE -g -O1 -pthread -fsanitize=$kind -o "$p" "$top/tests/integration/sanitized.c" 2>/dev/null || continue
		"$p" >/dev/null 2>&1 || continue	# here it does not even run without weft
		done=$((done + 1))
		for settings in WEFT_VPS=2 WEFT_VPS=1 WEFT_FUZZ=100us; do
			expect 0 '^4000 400$' env $settings "$WEFT" run -- "$p"
		done
		# ThreadSanitizer has a thread of its own
		expect 0 '^weft: spawned 4[01]$' env WEFT_STATS=1 "$WEFT" run -- "$p"
		case $kind in
		address) expect 1 'heap-use-after-free' "$WEFT" run -- "$p" freed ;;
		thread) expect 66 'data race' "$WEFT" run -- "$p" race ;;
		esac
	done
done
if [ $done -eq 0 ]; then
	echo "no compiler here makes programs with a sanitizer"
	exit 77
fi
echo "sanitizers: $done kinds of program"
exit $failed
