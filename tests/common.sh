# SPDX-License-Identifier: MIT
# Shared by the test runners: run a program under weft or plain, with a deadline, and tell failure from hang.
#
# WEFT       the weft tool; if unset or not executable, LD_PRELOAD=$WEFT_SHIM is used instead
# WEFT_SHIM  libweft-pthread.so
# BUILDDIR   where the compiled test programs are; if unset they are compiled into a temporary directory
# TIMEOUT_SCALE  multiplies every deadline (slow machines)
#
# Expects bash. Sets: top (the source tree), work (temporary directory, removed at exit).

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/weft-test.XXXXXX")
load_pids=
common_cleanup() {
	stop_load
	rm -rf "$work"
}
# Off while a subshell is started that will be killed: it runs our traps if the signal comes before it has dropped them.
traps_on() {
	trap common_cleanup EXIT
	trap 'exit 130' INT TERM
}
traps_off() {
	trap - EXIT INT TERM
}
traps_on

if [ -n "${WEFT:-}" ] && [ -x "$WEFT" ]; then
	under_weft=("$WEFT" run --)
	WEFT_SHIM=${WEFT_SHIM:-}
elif [ -n "${WEFT_SHIM:-}" ] && [ -f "$WEFT_SHIM" ]; then
	under_weft=(env "LD_PRELOAD=$WEFT_SHIM")
else
	under_weft=()
fi

need_weft() {
	[ ${#under_weft[@]} -gt 0 ] && return
	echo "$0: set WEFT to the weft tool or WEFT_SHIM to libweft-pthread.so" >&2
	exit 2
}

# Two busy loops at normal priority: both CPUs have something else to do.
start_load() {
	local i
	traps_off
	for i in 1 2; do
		( exec -a weft-test-load sh -c 'while :; do :; done' ) </dev/null >/dev/null 2>&1 &
		load_pids="$load_pids $!"
	done
	traps_on
}

stop_load() {
	local p
	for p in $load_pids; do
		kill "$p" 2>/dev/null
		wait "$p" 2>/dev/null
	done
	load_pids=
}

# All threads of a process that hangs, into a file: what gdb sees, or what /proc says.
backtraces() {
	local pid=$1 t
	echo "--- threads of $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null))"
	for t in "/proc/$pid/task/"*; do
		echo "$(cat "$t/comm" 2>/dev/null) $(basename "$t"): $(cat "$t/wchan" 2>/dev/null)" \
		     "$(cat "$t/syscall" 2>/dev/null)"
	done
	if command -v gdb >/dev/null 2>&1; then
		timeout -k 5 60 gdb -q -batch -p "$pid" -ex 'thread apply all bt 20' 2>&1 |
			grep -v '^\[New LWP\|^warning: \|^Reading symbols'
	fi
}

# The process itself and what it started.
family() {
	local p
	echo "$1"
	for p in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
		family "$p"
	done
}

# run_limited SECONDS LOG COMMAND…: run in a session of its own, both outputs into LOG. Returns the status of the
# command; 124 after a hang, whose backtraces are then in LOG. Standard input is $run_stdin or empty, standard output
# goes to $run_stdout if set.
run_limited() {
	local limit=$(($1 * ${TIMEOUT_SCALE:-1})) log=$2 pid rc dog
	shift 2
	rm -f "$log.hang"
	: >"$log"
	if [ -n "${run_stdout:-}" ]; then
		setsid "$@" <"${run_stdin:-/dev/null}" >"$run_stdout" 2>>"$log" &
	else
		setsid "$@" <"${run_stdin:-/dev/null}" >>"$log" 2>&1 &
	fi
	pid=$!
	traps_off
	(
		nap=
		trap '[ -z "$nap" ] || kill $nap; exit' TERM
		sleep "$limit" &
		nap=$!
		wait $nap
		trap '' TERM
		: >"$log.hang"
		echo "--- no end after $limit s" >>"$log"
		for p in $(family $pid); do
			backtraces "$p" >>"$log" 2>&1
		done
		kill -KILL -- -$pid
	) >/dev/null 2>&1 &	# a sleep that outlives it must not keep our caller's pipe open
	dog=$!
	traps_on
	wait $pid 2>/dev/null
	rc=$?
	kill $dog 2>/dev/null
	wait $dog 2>/dev/null
	[ -e "$log.hang" ] && return 124
	kill -KILL -- -$pid 2>/dev/null	# what it left behind in its session
	return $rc
}

# Milliseconds since some start.
now_ms() {
	local t=$EPOCHREALTIME
	echo $((${t/[.,]/} / 1000))
}

# compile OUT SOURCE [FLAGS…]
compile() {
	local out=$1 src=$2
	shift 2
	[ -x "$out" ] && [ "$out" -nt "$src" ] && [ "$out" -nt "$top/tests/integration/check.h" ] && return
	"${CC:-cc}" -std=gnu11 -O2 -g -Wall -Wextra -D_GNU_SOURCE "-I$(dirname "$src")" \
		-I"$top/include" -I"$top/tests/integration" "$src" -o "$out" -pthread -ldl -lm "$@"
}
