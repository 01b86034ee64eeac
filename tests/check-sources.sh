#!/bin/sh
# SPDX-License-Identifier: MIT
# Structure check: every source file is named in a fragment.am, so that a release contains it.
# usage: check-sources.sh [SOURCE-TREE]
#
# First proves on bad input that it can fail, then checks the tree.

set -u
tree=${1:-${srcdir:-.}}

scan() {
	(cd "$1" || exit
	cat Makefile.am ./*/fragment.am | tr ' \t\\' '\n\n\n' | sort -u > "$tmp/named"
	find include sched runtime upcall pthread tools tests bench examples docs -type f 2>/dev/null |
	grep -v '/__pycache__/\|~$\|/\.' | grep '\.\([chS]\|cc\|cpp\|rs\|go\|sh\|py\|gp\|[1-9]\|md\|map\|sym\)$' | sort |
	while read -r f; do
		# a Criterion test is named by its program
		grep -Fxq -e "$f" -e "${f%.c}" "$tmp/named" ||
			echo "$f: named in no fragment.am"
	done)
}

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# --- proof that a forgotten file is noticed and a named one is not
mkdir -p "$tmp/tree/sched" "$tmp/tree/tests/unit"
printf 'EXTRA_DIST =\n' > "$tmp/tree/Makefile.am"
printf 'x_SOURCES = \\\n\tsched/fifo.c\ncheck_PROGRAMS += tests/unit/test_x\n' > "$tmp/tree/sched/fragment.am"
: > "$tmp/tree/sched/fifo.c"
: > "$tmp/tree/tests/unit/test_x.c"
good=$(scan "$tmp/tree")
: > "$tmp/tree/sched/rr.c"
bad=$(scan "$tmp/tree")
if [ -n "$good" ] || [ "$bad" != "sched/rr.c: named in no fragment.am" ]; then
	echo "check-sources: self-test failed: $good $bad"
	exit 1
fi

# --- the tree
if [ ! -f "$tree/Makefile.am" ]; then
	echo "check-sources: $tree is not the source tree"
	exit 1
fi
found=$(scan "$tree")
if [ -n "$found" ]; then
	echo "$found"
	exit 1
fi
echo "check-sources: every source file is named"
