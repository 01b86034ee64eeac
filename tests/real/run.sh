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
here=$(cd "$(dirname "$0")" && pwd)
. "$here/driver.sh"

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

# stress-ng 0.15.06 has a fault of its own: it does not join the last thread that it made when its time is up while it makes them, and that thread
# reads a variable that is gone. If it has made only one by then, it may end by SIGSEGV ("unsuccessful run", without another message), on plain NPTL
# too: there --pthread-ops 1 does in half of the runs.
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

drive
