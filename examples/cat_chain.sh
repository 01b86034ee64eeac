#!/bin/sh
# SPDX-License-Identifier: MIT
# cat_chain.sh: cat_chain against cat(1), to a file, a pipe and the end of a file, with io_uring and without.
#
# Looks for the program in $EXAMPLES (this script's folder unless set). Exit status 0 if every byte is the same, and
# the caller was never woken more than once.

set -u
here=$(cd "$(dirname "$0")" && pwd)
cat_chain=${EXAMPLES:-$here}/cat_chain
if [ ! -x "$cat_chain" ]; then
	echo "cat_chain.sh: no $cat_chain: build it, or set EXAMPLES to its folder" >&2
	exit 2
fi
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM
failed=0
fail() {
	echo "cat_chain.sh: $*"
	sed 's/^/    /' "$tmp/err"
	failed=1
}

head -c 300000 /dev/urandom > "$tmp/big"
head -c 4097 /dev/urandom > "$tmp/small"
: > "$tmp/empty"
ln -s small "$tmp/link"

# same OPERATIONS FILE1 FILE2: they went by the kernel, or none did
same() {
	cat "$2" "$3" > "$tmp/expected"
	for to in file pipe append; do
		printf 'before' > "$tmp/out"
		case $to in
		file) "$cat_chain" "$2" "$3" "$tmp/out" 2> "$tmp/err" ;;
		pipe) { "$cat_chain" "$2" "$3" 2> "$tmp/err" || echo failed; } | cat > "$tmp/out" ;;
		append) "$cat_chain" "$2" "$3" >> "$tmp/out" 2> "$tmp/err" ;;
		esac || fail "$WEFT_URING, $to: $2 $3: exit status $?"
		if [ $to = append ]; then
			printf 'before' | cat - "$2" "$3" > "$tmp/expected"
		fi
		cmp "$tmp/expected" "$tmp/out" || fail "$WEFT_URING, $to: $2 $3: not what cat prints"
		grep -q ', '"$1"' left to the kernel; woken [01] times$' "$tmp/err" || fail "$WEFT_URING, $to: $2 $3: not as it should be"
	done
}

for WEFT_URING in auto off; do
	export WEFT_URING
	"$cat_chain" "$tmp/small" "$tmp/empty" "$tmp/out" 2> "$tmp/err" || fail "$WEFT_URING: exit status $?"
	# the last may be cut short by a pipe that is full, then it is gone on with
	case $WEFT_URING-$(cat "$tmp/err") in
	auto-*", 3 left"*) n='[23]' ;;
	auto-*) n=0; echo "no io_uring here" ;;
	*) n=0 ;;
	esac
	same "$n" "$tmp/small" "$tmp/small"
	same "$n" "$tmp/big" "$tmp/link"
	same "$n" "$tmp/empty" "$tmp/big"
	same "$n" "$tmp/empty" "$tmp/empty"
	for bad in "$tmp/none $tmp/small" "$tmp/small $tmp" "$tmp/small /proc/version" "$tmp/small $tmp/big $tmp/big" \
		   "$tmp/small $tmp/big /dev/full"; do
		"$cat_chain" $bad > "$tmp/out" 2> "$tmp/err" && fail "$WEFT_URING: not refused: $bad"
		[ "$(wc -l < "$tmp/err")" -eq 1 ] || fail "$WEFT_URING: not one message: $bad"
	done
done
[ $failed = 0 ] && cat "$tmp/err" && echo "cat_chain.sh: as cat"
exit $failed
