#!/bin/sh
# SPDX-License-Identifier: MIT
# Structure check: each library exports exactly the symbols of its committed list.
# usage: check-symbols.sh [SOURCE-TREE [BUILD-TREE]]
#        check-symbols.sh --update SOURCE-TREE BUILD-TREE    write the lists anew
#
# First proves on bad input that it can fail, then checks the libraries.

set -u
LC_ALL=C
export LC_ALL
update=
if [ "${1:-}" = --update ]; then
	update=yes
	shift
fi
tree=${1:-${srcdir:-.}}
build=${2:-.}

# compare LIST SYMBOLS: what differs, with + for new and - for lost ones
compare() {
	sort -c "$1" || return
	comm -13 "$1" "$2" | sed 's/^/+ /'
	comm -23 "$1" "$2" | sed 's/^/- /'
}

symbols() {
	"${NM:-nm}" -D --defined-only "$1" | awk '{ print $NF }' | sort -u
}

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# --- proof that a new, a lost and a changed symbol are noticed, and equality is not
printf 'a\nb\nc\n' > "$tmp/list"
printf 'a\nb\nc\n' > "$tmp/same"
printf 'a\nb\nc\nd\n' > "$tmp/more"
printf 'a\nc\n' > "$tmp/less"
printf 'c\na\n' > "$tmp/unsorted"
if [ -n "$(compare "$tmp/list" "$tmp/same")" ] ||
   [ "$(compare "$tmp/list" "$tmp/more")" != "+ d" ] ||
   [ "$(compare "$tmp/list" "$tmp/less")" != "- b" ] ||
   [ -z "$(compare "$tmp/unsorted" "$tmp/same" 2>&1)" ]; then
	echo "check-symbols: self-test failed"
	exit 1
fi

# --- the libraries
status=0
for pair in libweft.so:runtime/weft.sym libweft-pthread.so:pthread/weft-pthread.sym; do
	lib=$build/.libs/${pair%%:*}
	list=$tree/${pair#*:}
	if [ ! -f "$lib" ]; then
		echo "check-symbols: $lib is not built"
		exit 1
	fi
	symbols "$lib" > "$tmp/now"
	if [ ! -s "$tmp/now" ]; then
		echo "check-symbols: $lib exports nothing"
		exit 1
	fi
	if grep -q '@' "$tmp/now"; then
		echo "check-symbols: $lib has symbol versions; a preload library must not"
		status=1
	fi
	if [ -n "$update" ]; then
		cp "$tmp/now" "$list"
		echo "check-symbols: wrote $list"
		continue
	fi
	compare "$list" "$tmp/now" > "$tmp/diff" 2>&1
	if [ -s "$tmp/diff" ]; then
		echo "${pair%%:*} against ${pair#*:}:"
		cat "$tmp/diff"
		status=1
	else
		echo "check-symbols: ${pair%%:*}: $(wc -l < "$tmp/now") symbols, as listed"
	fi
done
[ $status -eq 0 ] || echo "check-symbols: if the change is meant: make update-symbols, and say so in CHANGELOG.md"
exit $status
