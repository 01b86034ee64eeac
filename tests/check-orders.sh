#!/bin/sh
# SPDX-License-Identifier: MIT
# Structure check: memory orders. A side of a pairing is a comment of the form
#     [WAKE-1] release; pairs with acquire in vp.c:idle
# usage: check-orders.sh [SOURCE-TREE]
#
# Rules:  - a tag has at least two sides, one that publishes (release) and one that
#           observes (acquire); acq_rel, seq_cst, fence, barrier, membarrier count as either, and so
#           does "pairs with the kernel" or "with glibc", in memory that is shared with it;
#         - a tag that is named anywhere has sides;
#         - an order stronger than relaxed in the code has a tag at most REACH lines above it;
#           atomic_signal_fence orders against a handler on the same thread and needs none.
# First proves on bad input that it can fail, then checks the tree.

set -u
tree=${1:-${srcdir:-.}}
folders="include sched runtime upcall pthread tools"

scan() {
	(cd "$1" && find $folders -name '*.[chS]' 2>/dev/null | sort | xargs awk '
	BEGIN { REACH = 8 }
	FNR == 1 { last = -REACH - 1 }
	{
		rest = $0
		while (match(rest, /\[[A-Z][A-Z0-9]*-[0-9]+\]/)) {
			tag = substr(rest, RSTART + 1, RLENGTH - 2)
			rest = substr(rest, RSTART + RLENGTH)
			if (!(tag in named)) {
				named[tag] = FILENAME ":" FNR
				order[++tags] = tag
			}
			last = FNR
			side = rest
			sub(/^[ \t]*/, "", side)
			if (match(side, /^(release|acquire|acq_rel|seq_cst|fence|barrier|compiler barrier|membarrier)/)) {
				word = substr(side, 1, RLENGTH)
				if (side ~ /pairs with/) {
					sides[tag]++
					if (side ~ /pairs with (the kernel|glibc)/) {	# whose half is not in this tree
						sides[tag]++
						gives[tag] = takes[tag] = 1
					}
					if (word != "acquire") gives[tag] = 1
					if (word != "release") takes[tag] = 1
				}
			}
		}
	}
	/memory_order_(acquire|release|acq_rel|seq_cst|consume)/ && !/^[ \t]*(\*|\/\*)/ && !/atomic_signal_fence/ {
		if (FNR - last > REACH)
			print FILENAME ":" FNR ": an order stronger than relaxed without a tag above it"
		else
			last = FNR	# the arguments of one operation, or a short run of them
	}
	END {
		for (i = 1; i <= tags; i++) {
			t = order[i]
			if (sides[t] < 2 || !gives[t] || !takes[t])
				print named[t] ": [" t "] is one-sided: " sides[t] + 0 " side(s)" \
				      (gives[t] ? "" : ", none releases") (takes[t] ? "" : ", none acquires")
		}
	}')
}

# --- proof that bad input is noticed and good input is not
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/runtime" "$tmp/sched"
cat > "$tmp/runtime/good.c" <<'END'
/* Ordering: [GOOD-1] handover. */
	/* [GOOD-1] release; pairs with acquire in sched/good.c */
	atomic_store_explicit(&x, 1, memory_order_release);
END
cat > "$tmp/sched/good.c" <<'END'
	/* [GOOD-1] acquire; pairs with release in runtime/good.c */
	if (atomic_load_explicit(&x, memory_order_acquire))
END
cat > "$tmp/sched/ring.c" <<'END'
	/* [RING-1] acquire; pairs with the kernel's release */
	if (atomic_load_explicit(&x, memory_order_acquire))
END
good=$(scan "$tmp")
cat > "$tmp/runtime/bad.c" <<'END'
	/* [LONE-1] release; pairs with acquire nowhere */
	atomic_store_explicit(&x, 1, memory_order_release);
	/* [SAME-1] release; pairs with the other one */
	/* [SAME-1] release; pairs with the other one */
	/* see [GHOST-1] */
END
echo '	atomic_store_explicit(&x, 1, memory_order_seq_cst);' > "$tmp/sched/bad.c"
bad=$(scan "$tmp" | wc -l)
if [ -n "$good" ] || [ "$bad" -ne 4 ]; then
	echo "check-orders: self-test failed: $bad of 4 errors found; on good input: $good"
	scan "$tmp"
	exit 1
fi

# --- the tree
if [ ! -f "$tree/runtime/fiber.h" ]; then
	echo "check-orders: $tree is not the source tree"
	exit 1
fi
found=$(scan "$tree")
if [ -n "$found" ]; then
	echo "$found"
	echo "check-orders: $(echo "$found" | wc -l) memory orders without both sides"
	exit 1
fi
echo "check-orders: every memory order has both sides"
