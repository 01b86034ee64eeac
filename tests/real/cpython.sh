#!/bin/bash
# SPDX-License-Identifier: MIT
# CPython's own test modules, as Debian ships them: every test must give under weft the result that it gives without.
#
# usage: tests/real/cpython.sh [-n RUNS] [-l] [-q] [-k] [-c CONFIG]… [-m PATTERN]… [-o DIR] [MODULE…]
#   -n RUNS     run each so many times under weft in each setting (default 1)
#   -l          load both CPUs with something else meanwhile
#   -q          quick: a few short modules, with weft's defaults
#   -k          stop at a module's first difference
#   -c CONFIG   only this one: default, or settings such as "WEFT_VPS=1 WEFT_QUANTUM=100us"; may be repeated
#   -m PATTERN  only tests that match, as "python -m test -m"; may be repeated
#   -o DIR      keep the logs of differences there (default: weft-cpython-logs below $BUILDDIR or /tmp)
# Prints the list of differences: "module setting test without with". For WEFT, WEFT_SHIM, TIMEOUT_SCALE see
# tests/common.sh, PYTHON is the interpreter (default /usr/bin/python3). Exit status: 0 the list is empty, 1 it is not, 2 usage,
# 77 the test modules are not installed.

modules="test_threading test_thread test_queue test_threadsignals test_signal test_socket test_subprocess test_fork1 test_os
	test_concurrent_futures test_asyncio test_multiprocessing_fork test_faulthandler test_ssl test_select test_selectors test_io
	test_sched test_time"
quick_modules="test_thread test_sched test_select test_threadsignals"
configs=(default "WEFT_VPS=1" "WEFT_VPS=2" "WEFT_VPS=8" "WEFT_QUANTUM=100us")

runs=1 load= quick= keep_going=1 only=() patterns=() outdir=
while getopts n:lqkc:m:o:h opt; do
	case $opt in
	n) runs=$OPTARG ;;
	l) load=1 ;;
	q) quick=1 ;;
	k) keep_going= ;;
	c) only+=("$OPTARG") ;;
	m) patterns+=(-m "$OPTARG") ;;
	o) outdir=$OPTARG ;;
	*) sed -n '3,16s/^# \{0,1\}//p' "$0"; [ "$opt" = h ]; exit $((2 * $?)) ;;
	esac
done
shift $((OPTIND - 1))
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../common.sh"
need_weft
outdir=${outdir:-${BUILDDIR:-/tmp}/weft-cpython-logs}
python=${PYTHON:-/usr/bin/python3}
if [ -n "$quick" ]; then
	modules=$quick_modules
	configs=(default)
fi
[ ${#only[@]} -gt 0 ] && configs=("${only[@]}")
if ! $python -c 'import test.test_threading' 2>/dev/null; then
	echo "$python has no test modules (Debian: libpython3.11-testsuite)"
	exit 77
fi

# Not comparable: they hang without weft where the kernel has vsock and nobody listens.
ignored=(-i '*VSOCK*')

# test_module MODULE NAME COMMAND…: the result in $work/NAME.xml, what it said in $work/NAME.log; its status.
test_module() {
	local module=$1 name=$2
	shift 2
	rm -rf "$work/$name.xml" "$work/$name.log" "$work/home"
	mkdir -p "$work/home"
	run_limited 600 "$work/$name.log" env -C "$work/home" "TMPDIR=$work/home" "$@" \
		$python -m test -v --junit-xml "$work/$name.xml" "${ignored[@]}" ${patterns[@]+"${patterns[@]}"} "$module"
}

# The name of the test that was under way at the end of a log without a result.
last_started() {
	grep -ao '^test[A-Za-z0-9_]* ([A-Za-z0-9_.]*)' "$1" | tail -n 1 | sed 's/.*(\(.*\))/\1/'
}

[ -n "$load" ] && start_load
[ $# -gt 0 ] || set -- $modules
total=0 status=0
for module; do
	start=$(now_ms)
	test_module "$module" plain
	plain=$?
	if ! [ -s "$work/plain.xml" ]; then
		echo "$module: gives no result without weft (status $plain)"
		tail -n 5 "$work/plain.log" | sed 's/^/    /'
		status=1
		continue
	fi
	different=0
	for config in "${configs[@]}"; do
		settings=($config)
		[ "$config" = default ] && settings=()
		for ((r = 1; r <= runs; r++)); do
			test_module "$module" weft ${settings[@]+"${settings[@]}"} "${under_weft[@]}"
			weft=$?
			if ! [ -s "$work/weft.xml" ]; then
				echo "$(last_started "$work/weft.log") - $([ $weft -eq 124 ] && echo hangs || echo "dies:$weft")" >"$work/list"
			elif $python "$here/cpython_results.py" "$work/plain.xml" "$work/weft.xml" >"$work/list" 2>&1 &&
			     [ $plain -eq $weft ]; then
				continue
			elif ! [ -s "$work/list" ]; then
				echo "exit-status $plain $weft" >"$work/list"
			fi
			sed "s/^/$module [$config] /" "$work/list"
			different=$((different + $(wc -l <"$work/list")))
			mkdir -p "$outdir"
			cp "$work/weft.log" "$outdir/$module.$(echo "$config" | tr -c 'A-Za-z0-9\n' _).$r.log"
			[ -n "$keep_going" ] || break 2
		done
	done
	ms=$(($(now_ms) - start))
	printf '%-26s %4d tests  %2d runs  %d differences  %d.%d s\n' "$module" "$(grep -o '<testcase ' "$work/plain.xml" | wc -l)" \
		$((runs * ${#configs[@]})) $different $((ms / 1000)) $((ms % 1000 / 100))
	total=$((total + different))
done
[ $total -eq 0 ] || status=1
echo "differences: $total"
exit $status
