#!/bin/bash
# SPDX-License-Identifier: MIT
# Requirements of POSIX and the man pages, one program a subject: on NPTL, which proves the tests, then under weft on 1, 2 and 8
# virtual processors and with a quantum of 100 µs.
#
# usage: tests/posix/run.sh [-n RUNS] [-l] [-c CONFIG]… [PROGRAM…]
#   -n RUNS    run each so many times in a row (default 1)
#   -l         load both CPUs with something else meanwhile
#   -c CONFIG  only this one: nptl, or settings such as "WEFT_VPS=1 WEFT_FUZZ=20us"; may be repeated
# For WEFT, WEFT_SHIM, BUILDDIR, TIMEOUT_SCALE see tests/common.sh. Exit status: 0 all passed, 1 a failure, 2 usage.

runs=1 load= only=()
while getopts n:lc:h opt; do
	case $opt in
	n) runs=$OPTARG ;;
	l) load=1 ;;
	c) only+=("$OPTARG") ;;
	*) sed -n '3,11s/^# \{0,1\}//p' "$0"; [ "$opt" = h ]; exit $((2 * $?)) ;;
	esac
done
shift $((OPTIND - 1))
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../common.sh"
need_weft
log=$work/log
build=${BUILDDIR:+$BUILDDIR/posix}
build=${build:-$work}
mkdir -p "$build"

configs=(nptl "WEFT_VPS=1" "WEFT_VPS=2" "WEFT_VPS=8" "WEFT_VPS=2 WEFT_QUANTUM=100us")
[ ${#only[@]} -gt 0 ] && configs=("${only[@]}")
if [ $# -eq 0 ]; then
	set -- $(cd "$here" && ls *.c *.cc 2>/dev/null)
fi

[ -n "$load" ] && start_load
status=0
for p; do
	source=$(ls "$here/${p%.*}".c* | head -1)
	p=$(basename "${p%.*}")
	if [ "${source##*.}" = cc ]; then
		[ "$build/$p" -nt "$source" ] || ${CXX:-c++} -O2 -g -Wall -Wextra "$source" -o "$build/$p" -pthread || exit 1
	elif ! [ "$build/$p" -nt "$source" ] || [ "$here/req.h" -nt "$build/$p" ]; then
		rm -f "$build/$p"
		compile "$build/$p" "$source" || exit 1
	fi
	for config in "${configs[@]}"; do
		start=$(now_ms)
		for ((r = 1; r <= runs; r++)); do
			if [ "$config" = nptl ]; then
				run_limited 60 "$log" "$build/$p"
			else
				run_limited 60 "$log" env $config "${under_weft[@]}" "$build/$p"
			fi
			rc=$?
			[ $rc -eq 0 ] && continue
			status=1
			echo "FAIL $p, $config, run $r: status $rc"
			tail -n "${LOG_TAIL:-60}" "$log" | sed 's/^/    /'
		done
		echo "ran  $p, $config: $(($(now_ms) - start)) ms"
	done
done
exit $status
