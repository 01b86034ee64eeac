#!/bin/bash
# SPDX-License-Identifier: MIT
# Run a program as it is and under weft, and compare: standard output, standard error, exit status, and the files that it left behind.
#
# usage: tests/differential/run.sh [options] [--] PROGRAM [ARGUMENT…]
#   -i FILE    standard input (default: none)
#   -d DIR     begin in a copy of this directory (default: an empty one)
#   -s         sort the lines of the outputs first: threads may speak in any order
#   -e SCRIPT  a sed script over both outputs first, for what differs by nature (times, addresses, process ids)
#   -E         leave standard error out
#   -F         leave the contents of files out, compare names, types and modes only
#   -c CONFIG  settings under weft, such as "WEFT_VPS=1 WEFT_QUANTUM=100us"; may be repeated, each is compared (default: none)
#   -n RUNS    so many times under weft for each (default 1)
#   -t SECONDS limit for one run (default 120)
# For WEFT, WEFT_SHIM, TIMEOUT_SCALE see tests/common.sh. Exit status: 0 no difference, 1 a difference, 2 usage, 3 the plain run hangs.

input=/dev/null from= sort= script= noerr= nofiles= configs=() runs=1 limit=120
while getopts i:d:se:EFc:n:t:h opt; do
	case $opt in
	i) input=$OPTARG ;;
	d) from=$OPTARG ;;
	s) sort=1 ;;
	e) script=$OPTARG ;;
	E) noerr=1 ;;
	F) nofiles=1 ;;
	c) configs+=("$OPTARG") ;;
	n) runs=$OPTARG ;;
	t) limit=$OPTARG ;;
	*) sed -n '3,17s/^# \{0,1\}//p' "$0"; [ "$opt" = h ]; exit $((2 * $?)) ;;
	esac
done
shift $((OPTIND - 1))
case $input in /*) ;; *) input=$PWD/$input ;; esac
case $from in ""|/*) ;; *) from=$PWD/$from ;; esac
case ${1:-} in /*) ;; */*) set -- "$PWD/$1" "${@:2}" ;; esac
. "$(cd "$(dirname "$0")" && pwd)/../common.sh"
need_weft
if [ $# -eq 0 ]; then
	echo "$0: name a program to run" >&2
	exit 2
fi
[ ${#configs[@]} -gt 0 ] || configs=("")

# tidy FILE: in place
tidy() {
	[ -z "$script" ] || sed -i -e "$script" "$1"
	[ -z "$sort" ] || LC_ALL=C sort -o "$1" "$1"
}

# once INTO COMMAND…: INTO/{out,err,status,tree}
once() {
	local into=$1 rc
	cd "$work" || exit 2
	shift
	rm -rf "$into"
	mkdir -p "$into/dir"
	[ -z "$from" ] || cp -a "$from/." "$into/dir"
	cd "$into/dir" || exit 2
	run_stdin=$input run_stdout=$into/out run_limited "$limit" "$into/err" "$@"
	rc=$?
	echo $rc > "$into/status"
	[ ! -e "$into/err.hang" ] || return 1
	tidy "$into/out"
	tidy "$into/err"
	[ -z "$noerr" ] || : > "$into/err"
	( find . ! -name . -printf '%P %y %m' -a \( -type f -printf ' %s' , -type l -printf ' %l' , -printf '\n' \) |
		LC_ALL=C sort
	  [ -n "$nofiles" ] || find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum ) > "$into/tree"
}

name=$(basename "$1")
if ! once "$work/plain" "$@"; then
	echo "$name: the plain run has no end after $limit s"
	exit 3
fi
status=0
for config in "${configs[@]}"; do
	for ((r = 1; r <= runs; r++)); do
		once "$work/weft" env $config "${under_weft[@]}" "$@" || echo "$name: no end after $limit s under weft"
		for part in status out err tree; do
			cmp -s "$work/plain/$part" "$work/weft/$part" && continue
			status=1
			echo "$name: under weft${config:+ ($config)}, run $r, \"$part\" differs (- plain, + weft):"
			diff -u "$work/plain/$part" "$work/weft/$part" | sed '1,2d; s/^/    /' | head -n "${LOG_TAIL:-40}"
		done
	done
done
exit $status
