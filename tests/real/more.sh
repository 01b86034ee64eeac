#!/bin/bash
# SPDX-License-Identifier: MIT
# Larger real programs under weft, for `make soak`: language runtimes, servers, parallel libraries, stress-ng's stressors.
# Each verifies its own result. What is not installed is skipped with a message.
#
# usage: tests/real/more.sh [-n RUNS] [-l] [-p] [-k] [-o DIR] [CASE…]
#   -n RUNS  run each case so many times in a row (default 1)
#   -l       load both CPUs with something else meanwhile
#   -p       plain NPTL instead of weft, to prove the test itself
#   -k       stop at a case's first failure
#   -o DIR   keep the logs of failures there (default: tests/real/logs below $BUILDDIR or /tmp)
#   -L       list the cases
# For WEFT, WEFT_SHIM, BUILDDIR, TIMEOUT_SCALE see tests/common.sh. Exit status: 0 all passed, 1 a failure, 2 usage.

stressors="pthread mutex sem sem-sysv futex fork vfork clone sigq sigfd timer itimer alarm switch yield mq poll pipe eventfd"
cases="java java_parallel node perl ruby erlang lisp ada mariadb openmp tbb nginx haproxy ffmpeg git rsync sort"
for s in $stressors; do
	cases="$cases stress_${s//-/_}"
done
here=$(cd "$(dirname "$0")" && pwd)
. "$here/driver.sh"
PATH=$PATH:/usr/sbin:/sbin

# Text to sort.
text() {
	[ -s "$work/text" ] || $python -c '
import random
random.seed(1)
for i in range(400000):
    print("%016x some text" % random.getrandbits(64))' >"$work/text"
}

# same COMMAND: its output is the same under weft and without.
same() {
	local want
	[ -n "${wanted[$1]:-}" ] || wanted[$1]=$(cd "$work" && bash -c "$1" 2>&1)
	limited 120 env -C "$work" bash -c "$1" || return 1
	want=${wanted[$1]}
	[ "$(cat "$work/step.log")" = "$want" ] && return
	echo "expected: $want" >>"$log"
	return 1
}
declare -A wanted

# --- language runtimes

java_class() {
	[ -f "$work/JavaThreads.class" ] || javac -d "$work" "$here/JavaThreads.java" >>"$log" 2>&1
}
java_have() { have java javac; }
java_run() { java_class && limited 180 java -Xmx256m -cp "$work" JavaThreads && said '^ok: 500 threads'; }
java_parallel_have() { have java javac; }
java_parallel_run() {
	java_class && limited 180 java -Xmx256m -XX:+UseParallelGC -XX:ParallelGCThreads=4 -cp "$work" JavaThreads &&
		said '^ok: 500 threads'
}

node_have() { have node; }
node_run() { limited 120 env UV_THREADPOOL_SIZE=16 node "$here/node_workers.js" && said '^ok: 8 workers, 16 jobs'; }

perl_have() { have perl && { perl -Mthreads -e 1 2>/dev/null || { echo "perl was built without threads"; return 1; }; }; }
perl_run() { limited 120 perl "$here/threads.pl" && said '^ok$'; }

erlang_have() { have erl erlc; }
erlang_run() {
	[ -f "$work/procs.beam" ] || erlc -o "$work" "$here/procs.erl" >>"$log" 2>&1 || return 1
	limited 120 erl +A 16 -noshell -pa "$work" -s procs main && said '^ok$'
}

lisp_have() { have sbcl; }
lisp_run() { limited 120 sbcl --script "$here/threads.lisp" && said '^ok$'; }

ada_have() { have gnatmake; }
ada_run() {
	[ -x "$work/tasks" ] || (cd "$work" && gnatmake -q "$here/tasks.adb") >>"$log" 2>&1 || return 1
	limited 120 "$work/tasks" && said '^ok$'
}

ruby_have() { have ruby; }
ruby_run() { limited 120 ruby "$here/threads.rb" && said '^ok$'; }

# --- parallel libraries

openmp_have() {
	have "${CC:-cc}" && { echo 'int main(void) { return 0; }' | "${CC:-cc}" -fopenmp -x c - -o "$work/probe" 2>/dev/null ||
		{ echo "${CC:-cc} knows no -fopenmp"; return 1; }; }
}
openmp_run() {
	[ -x "$work/openmp" ] ||
		"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -fopenmp "$here/openmp.c" -o "$work/openmp" >>"$log" 2>&1 || return 1
	limited 60 "$work/openmp" && said '^ok$' &&
		limited 60 env OMP_WAIT_POLICY=active OMP_NUM_THREADS=2 "$work/openmp" && said '^ok$'
}

tbb_have() {
	have "${CXX:-c++}" && { echo '#include <tbb/parallel_for.h>' | "${CXX:-c++}" -E -x c++ - >/dev/null 2>&1 ||
		{ echo "libtbb-dev is not installed"; return 1; }; }
}
tbb_run() {
	[ -x "$work/tbb" ] ||
		"${CXX:-c++}" -std=c++17 -O2 -Wall -Wextra "$here/tbb.cc" -o "$work/tbb" -ltbb >>"$log" 2>&1 || return 1
	limited 60 "$work/tbb" && said '^ok$'
}

# --- servers

mariadb_have() { have mariadbd mariadb-install-db mariadb sysbench; }
mariadb_client() {
	local at="--protocol=tcp --host=127.0.0.1 --port=$2 --user=root" limit=$1
	local bench="sysbench oltp_read_write --db-driver=mysql --mysql-host=127.0.0.1 --mysql-port=$2 --mysql-user=root
		--tables=4 --table-size=2000"
	client "$limit" mariadb --no-defaults $at -e 'create database sbtest' &&
		client "$limit" $bench --threads=4 prepare &&
		client "$limit" $bench --threads=64 --time=8 run &&
		said 'transactions: +[1-9]' && said 'reconnects: +0 ' && ! grep -Eq 'FATAL|[Ee]rror:' "$work/step.log" &&
		client "$limit" mariadb --no-defaults $at -N sbtest \
			-e 'check table sbtest1, sbtest2, sbtest3, sbtest4; select count(*) from sbtest1' &&
		[ "$(grep -c 'status[[:space:]]OK' "$work/step.log")" -eq 4 ] && said '^2000$' &&
		client "$limit" $bench --threads=4 cleanup
}
mariadb_run() {
	local port
	if [ ! -d "$work/mariadb" ]; then
		limited 120 mariadb-install-db --no-defaults --datadir="$work/mariadb" --user="$(id -un)" \
			--auth-root-authentication-method=normal --skip-test-db || return 1
	fi
	rm -rf "$work/mariadb.run"
	cp -r "$work/mariadb" "$work/mariadb.run"
	port=$(free_port)
	serve 120 "$port" mariadb_client "$(command -v mariadbd)" --no-defaults --datadir="$work/mariadb.run" \
		--user="$(id -un)" --socket="$work/mariadb.sock" --bind-address=127.0.0.1 --port="$port" \
		--max-connections=200 --innodb-buffer-pool-size=64M --thread-handling=one-thread-per-connection ||
		return 1
	! grep '\[ERROR\]' "$work/server.log" >>"$log"
}

# Files of several sizes to serve.
site() {
	local n
	[ -d "$work/site" ] && return
	mkdir "$work/site"
	for n in 0 1 1000 65536 300000 2000000; do
		head -c "$n" /dev/urandom >"$work/site/f$n"
	done
}
http_client() { client "$1" $python "$here/http_client.py" "$2" "$work/site" && said '^ok'; }

nginx_have() {
	have nginx && { nginx -V 2>&1 | grep -q -e --with-threads || { echo "nginx has no threads"; return 1; }; }
}
nginx_run() {
	local port dir
	site
	port=$(free_port)
	mkdir -p "$work/nginx"
	{
		echo "daemon off; worker_processes 2; pid $work/nginx/pid; error_log $work/nginx/error warn;"
		[ "$(id -u)" -ne 0 ] || echo "user root;"
		echo "thread_pool default threads=16; events { worker_connections 256; }"
		echo "http { access_log off; aio threads; sendfile off; directio 1m; output_buffers 2 32k;"
		for dir in client_body proxy fastcgi uwsgi scgi; do
			echo "${dir}_temp_path $work/nginx/$dir;"
		done
		echo "server { listen 127.0.0.1:$port; root $work/site; } }"
	} >"$work/nginx.conf"
	stop_signal=QUIT serve 60 "$port" http_client nginx -e "$work/nginx/error" -c "$work/nginx.conf" || return 1
	! grep -Ev 'No such file' "$work/nginx/error" >>"$log"
}

# One listener passes everything on to another one, which answers with the files.
haproxy_have() { have haproxy; }
haproxy_run() {
	local port inner f
	site
	if [ ! -d "$work/small" ]; then
		mkdir "$work/small"
		cp "$work/site"/f[01]* "$work/site/f65536" "$work/small"
	fi
	port=$(free_port) inner=$(free_port)
	{
		printf 'global\n nbthread 4\n maxconn 500\n tune.bufsize 300000\n'
		printf 'defaults\n mode http\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n'
		printf 'listen front\n bind 127.0.0.1:%s\n server inner 127.0.0.1:%s\n' "$port" "$inner"
		printf 'frontend files\n bind 127.0.0.1:%s\n' "$inner"
		for f in "$work/small"/*; do
			printf ' http-request return status 200 content-type text/plain file %s if { path /%s }\n' \
				"$f" "${f##*/}"
		done
		printf ' http-request return status 404\n'
	} >"$work/haproxy.cfg"
	stop_signal=USR1 serve 60 "$port" small_client haproxy -db -f "$work/haproxy.cfg"
}
small_client() { client "$1" $python "$here/http_client.py" "$2" "$work/small" 100 && said '^ok'; }

# --- tools

ffmpeg_have() { have ffmpeg; }
ffmpeg_run() {
	same 'ffmpeg -v error -f lavfi -i testsrc2=d=3:s=640x360:r=25 -c:v libx264 -threads 4 -preset fast -y video.mkv &&
		ffmpeg -v error -threads 4 -i video.mkv -f framemd5 - | md5sum'
}

git_have() { have git && { git -C "$top" rev-parse HEAD >/dev/null 2>&1 || { echo "no repository"; return 1; }; }; }
git_run() {
	same "rm -rf clone && git clone -q --no-local '$top' clone && git -C clone gc -q && git -C clone fsck 2>&1 &&
		git -C clone grep -c pthread | md5sum"
}

rsync_have() { have rsync; }
rsync_run() { same "rm -rf copy && rsync -a '$top/runtime/' copy/ && diff -r '$top/runtime' copy && ls copy | wc -l"; }

sort_have() { have sort; }
sort_run() { text && same 'sort --parallel=4 -S 2M text | md5sum'; }

# --- stress-ng

for s in $stressors; do
	eval "stress_${s//-/_}_have() { have stress-ng; }
	      stress_${s//-/_}_run() { stressor $s; }"
done
stressor() {
	limited 60 stress-ng "--$1" 2 --verify -t 5 --temp-path "$work" &&
		said 'successful run completed' && ! grep -Eq 'failed: [1-9]|stress-ng: (fail|error)' "$work/step.log"
}

drive
