#!/bin/sh
# SPDX-License-Identifier: MIT
# Structure check: each library exports exactly the symbols of its committed list, and everything that the code marks
# for export is in the list and in the linker's map.
# usage: check-symbols.sh [SOURCE-TREE [BUILD-TREE]]
#        check-symbols.sh --update SOURCE-TREE BUILD-TREE    write lists and maps anew, from what the code marks
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
	${NM:-nm} -D --defined-only "$1" | awk '{ print $NF }' | sort -u
}

# marked OBJECT…: what has default visibility there
marked() {
	${READELF:-readelf} -Ws "$@" |
	awk '($5 == "GLOBAL" || $5 == "WEAK") && $6 == "DEFAULT" && $7 != "UND" { print $8 }' | sort -u
}

# The anonymous version script of a list; $1 names the library.
map() {
	cat <<END
/* SPDX-License-Identifier: MIT
 * What $1 exports; made by \`make update-symbols\`. Anonymous: a preload library with version
 * definitions of its own would not satisfy a reference to pthread_cond_wait@GLIBC_2.3.2. */
{
	global:
END
	sed 's/.*/		&;/' "$2"
	printf '	local:\n		*;\n};\n'
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
for pair in libweft.so:runtime/weft libweft-pthread.so:pthread/weft-pthread; do
	name=${pair%%:*}
	lib=$build/.libs/$name
	list=$tree/${pair#*:}.sym
	case $name in
	libweft.so) objects="$build/.libs/libcore.a" ;;
	*) objects="$build/.libs/libcore.a $build/pthread/.libs/*.o" ;;
	esac
	if [ ! -f "$lib" ] || [ ! -f "$build/.libs/libcore.a" ]; then
		echo "check-symbols: $lib is not built"
		exit 1
	fi
	marked $objects > "$tmp/marked"
	symbols "$lib" > "$tmp/now"
	if [ ! -s "$tmp/now" ] || [ ! -s "$tmp/marked" ]; then
		echo "check-symbols: $lib exports nothing"
		exit 1
	fi
	if [ -n "$update" ]; then
		cp "$tmp/marked" "$list"
		map "$name" "$list" > "${list%.sym}.map"
		echo "check-symbols: wrote $list and ${list%.sym}.map"
		continue
	fi
	if grep -q '@' "$tmp/now"; then
		echo "check-symbols: $lib has symbol versions; a preload library must not"
		status=1
	fi
	compare "$list" "$tmp/now" > "$tmp/diff" 2>&1
	if [ -s "$tmp/diff" ]; then
		echo "$name exports (+) or lacks (-) against ${pair#*:}.sym:"
		cat "$tmp/diff"
		status=1
	fi
	compare "$list" "$tmp/marked" > "$tmp/diff" 2>&1
	if [ -s "$tmp/diff" ]; then
		echo "the code of $name marks for export (+) or does not (-) against ${pair#*:}.sym:"
		cat "$tmp/diff"
		status=1
	fi
	map "$name" "$list" | cmp -s - "${list%.sym}.map" || {
		echo "${pair#*:}.map does not match ${pair#*:}.sym"
		status=1
	}
	[ $status -ne 0 ] || echo "check-symbols: $name: $(wc -l < "$tmp/now") symbols, as listed"
done
[ $status -eq 0 ] || echo "check-symbols: if the change is meant: make update-symbols, and say so in CHANGELOG.md"
exit $status
