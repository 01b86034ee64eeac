#!/bin/bash
# SPDX-License-Identifier: MIT
# The differential runner: proof that it sees each kind of difference and none where there is none; then the programs that need it.
# Needs WEFT or WEFT_SHIM, see tests/common.sh.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../common.sh"
need_weft
build=${BUILDDIR:-$work}
mkdir -p "$build"
diff=$here/run.sh
failed=0

# expect STATUS WORD ARGUMENT…: the runner's status, and a word of what it says ("" = says nothing)
expect() {
	local want=$1 word=$2 got said
	shift 2
	said=$("$diff" "$@" 2>&1)
	got=$?
	if [ $got -ne "$want" ] || { [ -n "$word" ] && ! grep -q -e "$word" <<<"$said"; } || { [ -z "$word" ] && [ -n "$said" ]; }; then
		echo "FAIL differential self-test: $*: status $got, not $want, or no word of \"$word\": $said"
		failed=1
	fi
}
under='case ${LD_PRELOAD:-} in *weft*) true;; *) false;; esac'
expect 0 "" -- sh -c 'echo out; echo err >&2; echo x > f; mkdir d; ln -s f l; exit 3'
expect 1 '"out"' -- sh -c "$under && echo yes; :"
expect 1 '"err"' -- sh -c "$under && echo yes >&2; :"
expect 0 "" -E -- sh -c "$under && echo yes >&2; :"
expect 1 '"status"' -- sh -c "$under && exit 1; :"
expect 1 '"status"' -- sh -c "$under && kill -9 \$\$; :"
expect 1 '"tree"' -- sh -c "$under && echo yes > f || echo no > f"
expect 1 '"tree"' -- sh -c "echo x > f; $under && chmod 600 f; :"
expect 0 "" -F -- sh -c "$under && echo one > f || echo two > f"
expect 0 "" -e 's/[0-9]\{1,\}/N/g' -- sh -c 'echo $$'
expect 0 "" -s -- sh -c "$under && { echo b; echo a; } || { echo a; echo b; }"
expect 2 'name a program' --

compile "$build/exits" "$top/tests/posix/exits.c" -I"$top/tests/posix" || exit 1
for mode in all join-main join-main-late exit-main alone exit return handlers fork abort segv quick exec; do
	"$diff" -c "WEFT_VPS=1" -c "WEFT_VPS=2 WEFT_QUANTUM=100us" -c "WEFT_VPS=8" -t 30 -- "$build/exits" $mode || { echo "FAIL exits $mode"; failed=1; }
done
[ $failed -ne 0 ] || echo "differential: all as without weft"
exit $failed
