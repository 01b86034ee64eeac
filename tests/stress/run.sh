#!/bin/bash
# SPDX-License-Identifier: MIT
# Long random mixes under weft, for `make soak`.
#
# usage: tests/stress/run.sh [-l] [-p] [SECONDS [SEED]]
#   SECONDS  altogether, shared out over the settings below (default 60)
#   SEED     of the first; the next ones count up (default: the clock's). Each run prints its own.
#   -l       load both CPUs with something else meanwhile
#   -p       plain NPTL instead of weft, to prove the test itself
# For WEFT, WEFT_SHIM, BUILDDIR see tests/common.sh. Exit status: 0 all passed, 1 a failure, 2 usage.

load= plain=
while getopts lph opt; do
	case $opt in
	l) load=1 ;;
	p) plain=1 ;;
	*) sed -n '3,10s/^# \{0,1\}//p' "$0"; [ "$opt" = h ]; exit $((2 * $?)) ;;
	esac
done
shift $((OPTIND - 1))
seconds=${1:-60} seed=${2:-$(date +%s)}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../common.sh"
build=${BUILDDIR:-$work}
log=$work/log

configs=("WEFT_STATS=0" "WEFT_FUZZ=20us" "WEFT_VPS=1" "WEFT_VPS=8 WEFT_FUZZ=50us" "WEFT_BLOCKED=marks" "WEFT_BLOCKED=state"
	 "WEFT_FSBASE=arch_prctl WEFT_GUARD=mprotect WEFT_MEMBARRIER=off" "WEFT_POLICY=rr WEFT_FUZZ=100us")
if [ -n "$plain" ]; then
	configs=("WEFT_STATS=0")
	under_weft=()
else
	need_weft
fi
for p in mix:stress forks:stress anywhere:integration; do
	compile "$build/${p%:*}" "$top/tests/${p#*:}/${p%:*}.c" || exit 1
done
each=$((seconds / ${#configs[@]}))
[ $each -gt 0 ] || each=1

[ -n "$load" ] && start_load
status=0
run() {
	run_limited $((each * 2 + 60)) "$log" env $config "${under_weft[@]}" "$@" && return
	echo "FAIL $config: $*"
	tail -n "${LOG_TAIL:-40}" "$log" | sed 's/^/    /'
	status=1
	false
}
for config in "${configs[@]}"; do
	if run "$build/mix" $each "$seed"; then
		echo "ok   $config: $(sed 's/^mix: //' "$log" | paste -sd';' | sed 's/;/; /g')"
	fi
	case $config in
	WEFT_STATS=0 | WEFT_VPS=1) run "$build/forks" 1000 && echo "ok   $config: $(tail -n 1 "$log")" ;;
	*VPS=8*) run "$build/forks" 200 && echo "ok   $config: $(tail -n 1 "$log")" ;;
	esac
	case $config in
	*FUZZ*) run "$build/anywhere" $((each / 4 + 1)) && echo "ok   $config: anywhere: $(tail -n 1 "$log")" ;;
	esac
	seed=$((seed + 1))
done
exit $status
