# SPDX-License-Identifier: MIT
# What the runners of real programs share: options, running under weft with a deadline, servers and their clients, the loop over
# the cases. Sourced by run.sh and more.sh with the cases' names in $cases and the folder in $here; they define for each case
# NAME_have, which says what is missing (and fails), and NAME_run, which is one run, and end with `drive`.
# Expects bash.

runs=1 load= plain= keep_going=1 outdir=
while getopts n:lpko:Lh opt; do
	case $opt in
	n) runs=$OPTARG ;;
	l) load=1 ;;
	p) plain=1 ;;
	k) keep_going= ;;
	o) outdir=$OPTARG ;;
	L) echo "$cases" | tr ' ' '\n'; exit 0 ;;
	*) sed -n '3,${/^#/!q;s/^# \{0,1\}//p}' "$0"; [ "$opt" = h ]; exit $((2 * $?)) ;;
	esac
done
shift $((OPTIND - 1))
. "$here/../common.sh"
[ -z "${BUILDDIR:-}" ] || mkdir -p "$BUILDDIR" || exit 2
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

free_port() {
	$python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# serve SECONDS PORT CLIENT SERVER…: start the server under weft, wait for its port, call CLIENT, end the server by its
# process id ($stop_signal, or TERM) and check that it ends well.
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
	kill -"${stop_signal:-TERM}" $pid 2>/dev/null || { echo "the server died" >>"$log"; rc=1; }
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

drive_cases=("$@")
drive() {
	set -- "${drive_cases[@]}"
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
}
