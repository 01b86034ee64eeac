#!/bin/sh
# SPDX-License-Identifier: MIT
# echo.sh: the thread-per-client echo server as kernel threads and as fibers, against the event
# loop, each under the client that checks every byte.
#
#     echo.sh [CLIENTS [ROUNDS [SIZE]]]             (200, 200 and 64 unless told)
#
# Looks for the programs in $EXAMPLES (this script's folder unless set) and for the weft command in
# $WEFT, the build tree and the PATH. Exit status 0 if every server gave every byte back.

set -u
clients=${1:-200}
rounds=${2:-200}
size=${3:-64}
here=$(cd "$(dirname "$0")" && pwd)
bin=${EXAMPLES:-$here}
deadline=${ECHO_DEADLINE:-120}

for program in echo_threads echo_epoll echo_client; do
	if [ ! -x "$bin/$program" ]; then
		echo "echo.sh: no $bin/$program: build it, or set EXAMPLES to its folder" >&2
		exit 2
	fi
done
weft=${WEFT:-}
if [ -z "$weft" ]; then
	for weft in "$bin/../weft" "$bin/../tools/weft" "$(command -v weft)"; do
		[ -x "$weft" ] && [ ! -d "$weft" ] && break
	done
fi
if [ ! -x "$weft" ]; then
	echo "echo.sh: no weft command: build it, or set WEFT to it" >&2
	exit 2
fi

tmp=$(mktemp -d) || exit 1
server=
cleanup() {
	[ -n "$server" ] && kill "$server" 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
failed=0

# run TITLE COMMAND…: start the server, load it, wait for it
run() {
	title=$1
	shift
	: > "$tmp/log"
	timeout "$deadline" "$@" "$clients" > "$tmp/log" 2>&1 &
	server=$!
	port=
	tries=0
	while [ -z "$port" ] && [ $tries -lt 100 ] && kill -0 $server 2>/dev/null; do
		port=$(sed -n 's/^listening on 127.0.0.1://p' "$tmp/log")
		tries=$((tries + 1))
		[ -n "$port" ] || sleep 0.05
	done
	ok=yes
	if [ -n "$port" ]; then
		result=$(timeout "$deadline" "$bin/echo_client" "$port" "$clients" "$rounds" \
			 "$size" 2>&1) || ok=no
	else
		result="the server did not start"
		ok=no
	fi
	[ $ok = yes ] || kill $server 2>/dev/null
	wait $server || ok=no
	server=
	printf '%-22s %s\n' "$title:" "$result"
	if [ $ok = no ]; then
		sed 's/^/    server: /' "$tmp/log"
		failed=1
	fi
}

run "threads, NPTL" "$bin/echo_threads"
run "threads, weft" "$weft" run -- "$bin/echo_threads"
run "event loop, epoll" "$bin/echo_epoll"
exit $failed
