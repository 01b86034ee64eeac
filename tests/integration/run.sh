#!/bin/bash
# SPDX-License-Identifier: MIT
# Plain pthread programs that check themselves: on NPTL, which proves the tests, then under weft in its settings.
#
# usage: tests/integration/run.sh [-n RUNS] [-l] [-q] [-a] [-c CONFIG]… [PROGRAM…]
#   -n RUNS    run each so many times in a row (default 1)
#   -l         load both CPUs with something else meanwhile
#   -q         quick: NPTL and weft's defaults only
#   -a         all settings for all programs, also where a program is meant for one of them
#   -c CONFIG  only this one: nptl, default, or settings such as "WEFT_VPS=1 WEFT_FUZZ=20us"; may be repeated
# For WEFT, WEFT_SHIM, BUILDDIR, TIMEOUT_SCALE see tests/common.sh. Exit status: 0 all passed, 1 a failure, 2 usage.

programs="preempt handoff idle records forks vforks ends joins attrs locals many admission signals selfsig sigmasks eintr anywhere"

runs=1 load= quick= all= only=()
while getopts n:lqac:h opt; do
	case $opt in
	n) runs=$OPTARG ;;
	l) load=1 ;;
	q) quick=1 ;;
	a) all=1 ;;
	c) only+=("$OPTARG") ;;
	*) sed -n '3,12s/^# \{0,1\}//p' "$0"; [ "$opt" = h ]; exit $((2 * $?)) ;;
	esac
done
shift $((OPTIND - 1))
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../common.sh"
log=$work/log
build=${BUILDDIR:-$work}

configs=(nptl default "WEFT_VPS=1" "WEFT_VPS=8" "WEFT_FUZZ=20us" "WEFT_FUZZ=20us WEFT_VPS=1" "WEFT_BLOCKED=marks" "WEFT_BLOCKED=state"
	 "WEFT_FSBASE=arch_prctl" "WEFT_GUARD=mprotect" "WEFT_MEMBARRIER=off" "WEFT_URING=off" "WEFT_POLICY=rr"
	 "WEFT_FSBASE=arch_prctl WEFT_GUARD=mprotect WEFT_MEMBARRIER=off WEFT_BLOCKED=state WEFT_VPS=8")
[ -n "$quick" ] && configs=(nptl default)
[ ${#only[@]} -gt 0 ] && configs=("${only[@]}")
[ "${configs[*]}" = nptl ] || need_weft

# Does this program say anything in this configuration?
meant_for() {
	[ -n "$all" ] && return 0
	case $1,$2 in
	preempt,*FUZZ*) return 1 ;;		# counts signals
	idle,*FUZZ*) return 1 ;;
	handoff,*VPS=8*|handoff,*FUZZ*) return 1 ;;	# needs VPs = CPUs for its comparison
	many,*FUZZ*) return 0 ;;
	esac
	return 0
}

# run CONFIG PROGRAM [ARGUMENT…]
run() {
	local config=$1 program=$2
	shift 2
	case $config in
	nptl) run_limited 60 "$log" "$build/$program" "$@" ;;
	default) run_limited 90 "$log" "${under_weft[@]}" "$build/$program" "$@" ;;
	*) run_limited 120 "$log" env $config "${under_weft[@]}" "$build/$program" "$@" ;;
	esac
}

# The ways to end: "MODE STATUS OUTPUT", spaces in the output as _.
ends_expect="
exit 5 buffered_atexit
return 6 buffered_atexit
detached 0 buffered_atexit
last 0 buffered_last_thread_atexit
none 0 buffered_atexit
main-exited 5 buffered_atexit
_exit 9 -
quick_exit 10 -
abort 134 -
segv 139 -
raise 143 -
exec 7 after_exec
exec-main 7 after_exec
"
ends_test() {
	local mode status output rc said
	while read -r mode status output; do
		[ -n "$mode" ] || continue
		run_stdout=$work/out run "$1" ends "$mode"
		rc=$?
		said=$(tr ' \n' '__' <"$work/out" | sed 's/_*$//')
		if [ $rc -ne "$status" ] || [ "${said:--}" != "$output" ]; then
			echo "ends $mode: status $rc, expected $status; output \"$said\", expected \"$output\"" >>"$log"
			return 1
		fi
	done <<<"$ends_expect"
}

[ $# -gt 0 ] || set -- $programs
for p; do
	case " $programs " in
	*" $p "*) ;;
	*) echo "$0: no program \"$p\"; there are: $programs" >&2; exit 2 ;;
	esac
	compile "$build/$p" "$here/$p.c" || exit 1
done

[ -n "$load" ] && start_load
status=0
for config in "${configs[@]}"; do
	line= bad=
	start=$(now_ms)
	for p; do
		meant_for "$p" "$config" || continue
		failures=0 hangs=0
		for ((r = 1; r <= runs; r++)); do
			if [ "$p" = ends ]; then ends_test "$config"; else run "$config" "$p"; fi && continue
			[ -e "$log.hang" ] && hangs=$((hangs + 1)) || failures=$((failures + 1))
			echo "--- $p with $config, run $r:"
			tail -n "${LOG_TAIL:-25}" "$log" | sed 's/^/    /'
		done
		if [ $((failures + hangs)) -gt 0 ]; then
			status=1
			bad="$bad $p ($failures failures, $hangs hangs)"
		fi
		line="$line $p"
	done
	ms=$(($(now_ms) - start))
	if [ -n "$bad" ]; then
		printf 'FAIL %s:%s; %d.%d s\n' "$config" "$bad" $((ms / 1000)) $((ms % 1000 / 100))
	else
		printf 'ok   %s:%s x %d; %d.%d s\n' "$config" "$line" "$runs" $((ms / 1000)) $((ms % 1000 / 100))
	fi
done
exit $status
