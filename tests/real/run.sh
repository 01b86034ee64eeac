#!/bin/bash
# SPDX-License-Identifier: MIT
# Real programs, unmodified, as Debian ships them, under weft; each verifies its own result.
#
# usage: tests/real/run.sh [-n RUNS] [-l] [-p] [-k] [-o DIR] [CASE…]
#   -n RUNS  run each case so many times in a row (default 1)
#   -l       load both CPUs with something else meanwhile
#   -p       plain NPTL instead of weft, to prove the test itself
#   -k       stop at a case's first failure
#   -o DIR   keep the logs of failures there (default: tests/real/logs below $BUILDDIR or /tmp)
#   -L       list the cases
# For WEFT, WEFT_SHIM, BUILDDIR, TIMEOUT_SCALE see tests/common.sh. Exit status: 0 all passed, 1 a failure, 2 usage.

cases="stats python cpython pigz pbzip2 xz zstd sysbench_threads sysbench_mutex memcached redis stress_ng cxx rust"

runs=1 load= plain= keep_going=1 outdir=
while getopts n:lpko:Lh opt; do
	case $opt in
	n) runs=$OPTARG ;;
	l) load=1 ;;
	p) plain=1 ;;
	k) keep_going= ;;
	o) outdir=$OPTARG ;;
	L) echo "$cases" | tr ' ' '\n'; exit 0 ;;
	*) sed -n '3,14s/^# \{0,1\}//p' "$0"; [ "$opt" = h ]; exit $((2 * $?)) ;;
	esac
done
shift $((OPTIND - 1))
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../common.sh"
outdir=${outdir:-${BUILDDIR:-/tmp}/weft-real-logs}
if [ -n "$plain" ]; then
	under_weft=()
else
	need_weft
fi
python=/usr/bin/python3
log=$work/log

# A program of this run under weft.
weft() {
	"${under_weft[@]}" "$@"
}

# limited SECONDS COMMAND…: under weft, with a deadline; output to the log.
limited() {
	local limit=$1 rc
	shift
	run_limited "$limit" "$work/step.log" "${under_weft[@]}" "$@"
	rc=$?
	{ echo "\$ $* (status $rc)"; cat "$work/step.log"; } >>"$log"
	[ $rc -eq 124 ] && : >"$work/hang"
	return $rc
}

# said PATTERN: the last step printed it.
said() {
	grep -Eq "$1" "$work/step.log" && return
	echo "expected in the output: $1" >>"$log"
	return 1
}

have() {
	local p
	for p; do
		command -v "$p" >/dev/null 2>&1 || { echo "$p is not installed"; return 1; }
	done
}

# --- cases: NAME_have says what is missing (and fails), NAME_run is one run

python_have() { have $python; }
python_run() { limited 120 $python "$here/threads200.py" && said '^ok: 200 threads'; }

# A few of CPython's own test modules; cpython.sh has all of them.
cpython_have() { have $python && { $python -c 'import test.test_thread' 2>/dev/null || { echo "no test modules"; return 1; }; }; }
cpython_run() {
	[ -n "$plain" ] && return	# it runs them both ways itself
	BUILDDIR=${BUILDDIR:-$work} bash "$here/cpython.sh" -q >"$work/step.log" 2>&1
	local rc=$?
	cat "$work/step.log" >>"$log"
	return $rc
}

# 200 threads on 2 VPs never need more kernel threads than VPs + blocked + 4: by weft's own count and by /proc's.
stats_have() { have $python && { [ -z "$plain" ] || { echo "says nothing about plain NPTL"; return 1; }; }; }
stat_of() { sed -n "s/^weft: $1 //p" "$work/step.log"; }
stats_run() {
	local rc vps kernel blocked fibers seen
	run_limited 120 "$work/step.log" $python "$here/kthreads.py" "$work/seen" \
		env WEFT_VPS=2 WEFT_STATS=1 "${under_weft[@]}" $python "$here/threads200.py"
	rc=$?
	cat "$work/step.log" >>"$log"
	[ $rc -eq 124 ] && : >"$work/hang"
	[ $rc -eq 0 ] && said '^ok: 200 threads' || return 1
	vps=$(stat_of vps) kernel=$(stat_of kernel_threads_max) blocked=$(stat_of blocked_max)
	fibers=$(stat_of fibers_max) seen=$(cat "$work/seen")
	echo "vps=$vps kernel_threads_max=$kernel blocked_max=$blocked fibers_max=$fibers /proc: $seen" |
		tee -a "$log" >"$work/figures"
	[ -n "$vps" ] && [ -n "$kernel" ] && [ -n "$blocked" ] && [ -n "$fibers" ] &&
		[ "$vps" -eq 2 ] && [ "$fibers" -ge 200 ] &&
		[ "$kernel" -le $((vps + blocked + 4)) ] && [ "$seen" -le $((vps + blocked + 4)) ]
}

# Compress and decompress under weft, compare. round_trip COMPRESS… -- DECOMPRESS…: both read standard input.
round_trip() {
	local c=() rc
	while [ "$1" != -- ]; do c+=("$1"); shift; done
	shift
	[ -s "$work/data" ] || $python "$here/mixed_data.py" "$work/data" 40
	[ -n "${data_sum:-}" ] || data_sum=$(sha256sum <"$work/data")
	run_stdin=$work/data run_stdout=$work/packed limited 120 "${c[@]}" || return 1
	run_stdin=$work/packed run_stdout=$work/unpacked limited 120 "$@" || return 1
	if [ "$(sha256sum <"$work/unpacked")" != "$data_sum" ]; then
		echo "the round trip changed the data" >>"$log"
		return 1
	fi
	[ "$(stat -c %s "$work/packed")" -lt "$(stat -c %s "$work/data")" ]
}
pigz_have() { have pigz; }
pigz_run() { round_trip pigz -p 4 -c -- pigz -d -p 4 -c; }
pbzip2_have() { have pbzip2; }
pbzip2_run() { round_trip pbzip2 -1 -p4 -c -- pbzip2 -d -p4 -c; }
xz_have() { have xz; }
xz_run() { round_trip xz -0 -T4 --block-size=2MiB -c -- xz -d -T4 -c; }
zstd_have() { have zstd; }
zstd_run() { round_trip zstd -q -5 -T4 -c -- zstd -q -d -T4 -c; }

sysbench_threads_have() { have sysbench; }
sysbench_threads_run() {
	limited 120 sysbench threads --threads=32 --thread-yields=200 --thread-locks=4 --events=4000 --time=0 run &&
		said 'total number of events: +4000$' && ! grep -Eqi 'fatal|error' "$work/step.log"
}
sysbench_mutex_have() { have sysbench; }
sysbench_mutex_run() {
	limited 120 sysbench mutex --threads=32 --mutex-num=64 --mutex-locks=200000 --mutex-loops=100 run &&
		said 'total number of events: +32$' && ! grep -Eqi 'fatal|error' "$work/step.log"
}

free_port() {
	$python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# serve SECONDS PORT CLIENT SERVER…: start the server under weft, wait for its port, call CLIENT, end the server by its
# process id and check that it ends well.
serve() {
	local limit=$1 port=$2 client=$3 pid rc tries=0 dog
	shift 3
	setsid "${under_weft[@]}" "$@" </dev/null >"$work/server.log" 2>&1 &
	pid=$!
	until (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		tries=$((tries + 1))
		if [ $tries -gt 300 ] || ! kill -0 $pid 2>/dev/null; then
			echo "the server does not listen" >>"$log"
			break
		fi
		sleep 0.05
	done
	"$client" "$limit" "$port"
	rc=$?
	[ $rc -ne 0 ] && kill -0 $pid 2>/dev/null && backtraces $pid >>"$log" 2>&1
	kill -TERM $pid 2>/dev/null || { echo "the server died" >>"$log"; rc=1; }
	traps_off
	( nap=; trap '[ -z "$nap" ] || kill $nap; exit' TERM; sleep 20 & nap=$!; wait $nap
	  echo "the server does not end" >>"$log"; : >"$work/hang"
	  backtraces $pid >>"$log" 2>&1; kill -KILL $pid ) 2>/dev/null &
	dog=$!
	traps_on
	wait $pid
	server_status=$?
	kill $dog 2>/dev/null
	wait $dog 2>/dev/null
	{ echo "\$ $* (status $server_status)"; tail -n 60 "$work/server.log"; } >>"$log"
	[ $rc -eq 0 ] && [ $server_status -eq 0 ]
}

# client SECONDS COMMAND…: not under weft.
client() {
	local limit=$1 rc
	shift
	run_limited "$limit" "$work/step.log" "$@"
	rc=$?
	{ echo "\$ $* (status $rc)"; cat "$work/step.log"; } >>"$log"
	[ $rc -eq 124 ] && : >"$work/hang"
	return $rc
}

memcached_have() { have memcached $python; }
memcached_client() { client "$1" $python "$here/memcached_client.py" "$2" && said '^ok'; }
memcached_run() {
	local port
	port=$(free_port)
	serve 90 "$port" memcached_client memcached -u "$(id -un)" -l 127.0.0.1 -p "$port" -U 0 -t 4 -m 256
}

redis_have() { have redis-server redis-benchmark $python; }
redis_client() {
	client "$1" redis-benchmark -p "$2" -n 10000 -c 50 -P 8 -r 1000 -d 200 -q \
		-t set,get,incr,lpush,lpop,sadd,hset,mset &&
		! grep -Eqi 'error|wrong' "$work/step.log" && said 'MSET.*requests per second' &&
		client "$1" $python "$here/redis_client.py" "$2" && said '^ok'
}
redis_run() {
	local port
	port=$(free_port)
	serve 120 "$port" redis_client redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no \
		--dir "$work" --io-threads 4 --io-threads-do-reads yes
}

stress_ng_have() { have stress-ng; }
stress_ng_run() {
	limited 60 stress-ng --pthread 2 --mutex 2 --sem 2 --verify -t 5 --temp-path "$work" &&
		said 'successful run completed' && ! grep -Eq 'failed: [1-9]|stress-ng: fail' "$work/step.log"
}

cxx_have() { have "${CXX:-c++}"; }
cxx_run() {
	local bin=${BUILDDIR:-$work}/cxx_threads
	if ! [ -x "$bin" ] || [ "$here/cxx_threads.cc" -nt "$bin" ]; then
		"${CXX:-c++}" -std=c++20 -O2 -g -Wall -Wextra "$here/cxx_threads.cc" -o "$bin" -pthread >>"$log" 2>&1 ||
			return 1
	fi
	limited 60 "$bin" && said '^ok$'
}

rust_have() { have "${RUSTC:-/usr/bin/rustc}"; }
rust_run() {
	local bin=${BUILDDIR:-$work}/rust_threads
	if ! [ -x "$bin" ] || [ "$here/rust_threads.rs" -nt "$bin" ]; then
		"${RUSTC:-/usr/bin/rustc}" --edition 2021 -O "$here/rust_threads.rs" -o "$bin" >>"$log" 2>&1 ||
			return 1
	fi
	limited 60 "$bin" && said '^ok$'
}

# ---

[ $# -gt 0 ] || set -- $cases
for c; do
	case " $cases " in
	*" $c "*) ;;
	*) echo "$0: no case \"$c\"; the cases are: $cases" >&2; exit 2 ;;
	esac
done

[ -n "$load" ] && start_load
status=0
for c; do
	if ! missing=$("${c}_have"); then
		printf '%-17s skipped: %s\n' "$c" "$missing"
		continue
	fi
	failures=0 hangs=0 done_runs=0 start=$(now_ms)
	for ((r = 1; r <= runs; r++)); do
		rm -f "$work/hang" "$work/figures"
		: >"$log"
		if "${c}_run"; then
			done_runs=$((done_runs + 1))
			continue
		fi
		done_runs=$((done_runs + 1))
		status=1
		if [ -e "$work/hang" ]; then hangs=$((hangs + 1)); else failures=$((failures + 1)); fi
		mkdir -p "$outdir"
		cp "$log" "$outdir/$c.$r.log"
		echo "--- $c, run $r: $outdir/$c.$r.log ends:"
		tail -n "${LOG_TAIL:-25}" "$log" | sed 's/^/    /'
		[ -n "$keep_going" ] || break
	done
	ms=$(($(now_ms) - start))
	printf '%-17s %3d runs  %d failures  %d hangs  %d.%d s%s\n' "$c" $done_runs $failures $hangs \
		$((ms / 1000)) $((ms % 1000 / 100)) "$([ -s "$work/figures" ] && echo "  $(cat "$work/figures")")"
done
exit $status
