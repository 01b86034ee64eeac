#!/bin/bash
# SPDX-License-Identifier: MIT
# Check of docs/posix.tab: it names every thread function that the installed C library exports, says of each whether weft defines it, and a
# test that exists; and docs/POSIX.md is made from it.
# usage: check-posix.sh [SOURCE-TREE]
#        check-posix.sh --update [SOURCE-TREE]    write docs/POSIX.md anew
#
# First proves on bad input that it can fail, then checks the tree.

set -u
LC_ALL=C
export LC_ALL
update=
if [ "${1:-}" = --update ]; then
	update=yes
	shift
fi
tree=${1:-${srcdir:-.}}
names='^(pthread_|sem_|thrd_|mtx_|cnd_|tss_)[a-z0-9_]*$|^call_once$'

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# rows TABLE: its lines without comments
rows() {
	grep -v '^#' "$1" | grep -v '^$'
}

# compare TABLE LIBC OURS TREE: what is wrong, one line each. LIBC, OURS: sorted lists of symbols.
compare() {
	rows "$1" | awk -F '\t' 'NF != 4 { print "line not of four fields: " $0 }'
	rows "$1" | cut -f 1 | sort > "$tmp/named"
	uniq -d "$tmp/named" | sed 's/$/: twice in the table/'
	sort -u -o "$tmp/named" "$tmp/named"
	comm -23 "$2" "$tmp/named" | sed 's/$/: exported by libc, not in the table/'
	comm -13 "$2" "$tmp/named" | sed 's/$/: in the table, not exported by libc/'
	rows "$1" | awk -F '\t' -v ours="$3" '
		BEGIN { while ((getline s < ours) > 0) is[s] = 1 }
		$2 !~ /^(native|passed through)$/ { print $1 ": status is neither native nor passed through: " $2 }
		$2 == "native" && !($1 in is) { print $1 ": said to be native, not exported by weft" }
		$2 == "passed through" && $1 in is { print $1 ": said to be passed through, but exported by weft" }
		tolower($0) ~ /stub/ { print $1 ": a stub" }'
	rows "$1" | while IFS=$'\t' read -r symbol _ _ tests; do
		[ -n "$tests" ] || echo "$symbol: no test"
		for t in $tests; do
			ls "$4/tests/$t".* >/dev/null 2>&1 || { echo "$symbol: no test tests/$t"; continue; }
			# the test must at least speak of it
			grep -q "\b$symbol\b" "$4/tests/$t".* "$4/tests/posix/req.h" || echo "$symbol: tests/$t does not call it"
		done
	done
}

# page TABLE: docs/POSIX.md
page() {
	sed -n '/^#:/s/^#: \{0,1\}//p' "$1"
	echo '| function | status | differs from NPTL | test |'
	echo '|---|---|---|---|'
	rows "$1" | sort | awk -F '\t' '{
		n = split($4, t, " "); tests = ""
		for (i = 1; i <= n; i++)
			tests = tests (i > 1 ? ", " : "") "`" t[i] "`"
		print "| `" $1 "` | " $2 " | " ($3 == "-" ? "" : $3) " | " tests " |" }'
}

# --- proof that each kind of error is found
mkdir -p "$tmp/t/tests/posix"
echo 'sem_a sem_b sem_c' > "$tmp/t/tests/posix/x.c"
: > "$tmp/t/tests/posix/req.h"
printf 'sem_a\nsem_b\n' > "$tmp/libc"
printf 'sem_a\n' > "$tmp/ours"
printf 'sem_a\tnative\t-\tposix/x\nsem_b\tpassed through\t-\tposix/x\n' > "$tmp/good"
printf 'sem_a\tpassed through\t-\tposix/x\nsem_c\tnative\tstub\tposix/y\nsem_a\tnative\t-\n' > "$tmp/bad"
good=$(compare "$tmp/good" "$tmp/libc" "$tmp/ours" "$tmp/t")
bad=$(compare "$tmp/bad" "$tmp/libc" "$tmp/ours" "$tmp/t" | wc -l)
if [ -n "$good" ] || [ "$bad" -ne 9 ]; then
	echo "check-posix: self-test failed: $bad of 9 errors found; on good input: $good"
	compare "$tmp/bad" "$tmp/libc" "$tmp/ours" "$tmp/t"
	exit 1
fi

# --- the tree
if [ -n "$update" ]; then
	page "$tree/docs/posix.tab" > "$tree/docs/POSIX.md"
	echo "check-posix: wrote docs/POSIX.md"
	exit 0
fi
libc=$(ldd /bin/sh | awk '/libc\.so/ { print $3 }')
# default versions (@@) and those that only old programs use (@)
${NM:-nm} -D --defined-only "$libc" | awk '{ sub(/@.*/, "", $NF); print $NF }' | grep -E "$names" | sort -u > "$tmp/libc"
if [ "$(wc -l < "$tmp/libc")" -lt 100 ]; then
	echo "check-posix: $libc does not say what it exports"
	exit 77
fi
sort "$tree/pthread/weft-pthread.sym" > "$tmp/ours"
status=0
compare "$tree/docs/posix.tab" "$tmp/libc" "$tmp/ours" "$tree" > "$tmp/wrong"
if [ -s "$tmp/wrong" ]; then
	cat "$tmp/wrong"
	status=1
fi
if ! page "$tree/docs/posix.tab" | cmp -s - "$tree/docs/POSIX.md"; then
	echo "docs/POSIX.md is not what docs/posix.tab makes: tests/check-posix.sh --update"
	status=1
fi
[ $status -ne 0 ] || echo "check-posix: $(wc -l < "$tmp/libc") functions, each accounted for"
exit $status
