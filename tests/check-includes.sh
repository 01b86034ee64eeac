#!/bin/sh
# SPDX-License-Identifier: MIT
# Structure check: includes run downwards only (docs/ARCHITECTURE.md, the folder table).
# usage: check-includes.sh [SOURCE-TREE]
#
# First proves on bad input that it can fail, then checks the tree.

set -u
tree=${1:-${srcdir:-.}}

# What a file in a folder may include with quotes or as <weft/…>, as prefixes.
# pthread/ is a client of the runtime: it gets the headers below, each a small contract, and no others; only the files that
# start it (with the first thread, in the child of a fork) or ask about its state see its inside.
allowed() {
	case $2 in
	*/pthread/create.c|*/pthread/exec.c|*/pthread/fork.c|*/pthread/init.c|*/pthread/schedule.c|*/pthread/tid.c) echo "runtime/runtime.h" ;;
	esac
	case $1 in
	include) echo "weft/" ;;
	sched)   echo "sched/ weft/" ;;
	runtime) echo "runtime/ sched/ weft/" ;;
	upcall)  echo "upcall/ runtime/ sched/ weft/" ;;
	pthread) echo "pthread/ weft/ runtime/fiber.h runtime/wait.h runtime/futex.h runtime/extras.h runtime/modules.h" \
		      "upcall/netpoll.h upcall/fds.h upcall/altstack.h upcall/bell.h upcall/block.h upcall/cancel.h upcall/fault.h upcall/signals.h upcall/sigtable.h upcall/sigtimer.h upcall/ids.h upcall/uring.h" ;;
	tools)   echo "tools/ weft/" ;;
	esac
}

# scan TREE: print every include that is not allowed
scan() {
	for folder in include sched runtime upcall pthread tools; do
		find "$1/$folder" -name '*.[chS]' 2>/dev/null | sort | while read -r file; do
			awk -v ok="$(allowed $folder "$file" | tr "\n" " ")" -v folder="$folder" -v root="$1/" '
			/^[ \t]*#[ \t]*include/ {
				what = $0
				sub(/^[ \t]*#[ \t]*include[ \t]*/, "", what)
				quoted = what ~ /^"/
				if (!quoted && what !~ /^</) {
					bad("names no file: " what)
					next
				}
				name = what
				sub(/^["<]/, "", name)
				sub(/[">].*$/, "", name)
				ours = name ~ /^(weft|sched|runtime|upcall|pthread|tools|tests|bench|examples|include)\//
				if (!quoted && !ours)
					next		# a system header
				if (quoted && !ours) {
					bad("\"" name "\" is not written from the top of the tree")
					next
				}
				n = split(ok, prefix, " ")
				for (i = 1; i <= n; i++)
					if (index(name, prefix[i]) == 1)
						next
				bad(folder "/ must not include " name)
			}
			function bad(why) {
				file = FILENAME
				sub("^" root, "", file)
				print file ":" FNR ": " why
			}' "$file"
		done
	done
}

# --- proof that a bad tree is noticed, line by line, and a good one is not
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/include/weft" "$tmp/sched" "$tmp/runtime" "$tmp/upcall" "$tmp/pthread" "$tmp/tools"
echo '#include "weft/config.h"' > "$tmp/include/weft/weft.h"
printf '#include <stdio.h>\n#include <sched.h>\n#include "sched/deque.h"\n' > "$tmp/sched/good.c"
printf '#include "runtime/arch/arch.h"\n#include "sched/deque.h"\n' > "$tmp/runtime/good.c"
printf '#include "runtime/fiber.h"\n#include "upcall/netpoll.h"\n' > "$tmp/pthread/good.c"
echo '#include "runtime/runtime.h"' > "$tmp/pthread/fork.c"
good=$(scan "$tmp")
echo '#include "runtime/fiber.h"' > "$tmp/include/weft/bad.h"
echo '#include "runtime/fiber.h"' > "$tmp/sched/bad.c"
echo '  #  include <upcall/block.h>' > "$tmp/runtime/bad.c"
echo '#include "pthread/shim.h"' > "$tmp/upcall/bad.c"
echo '#include "runtime/lock.h"' > "$tmp/pthread/bad.c"
echo '#include "runtime/runtime.h"' > "$tmp/pthread/mutex.c"
echo '#include "deque.h"' > "$tmp/sched/bad2.c"
echo '#include HEADER' > "$tmp/runtime/bad2.c"
echo '#include "runtime/fiber.h"' > "$tmp/tools/bad.c"
bad=$(scan "$tmp" | wc -l)
if [ -n "$good" ] || [ "$bad" -ne 9 ]; then
	echo "check-includes: self-test failed: $bad of 9 bad includes found; on good input: $good"
	exit 1
fi

# --- the tree
if [ ! -f "$tree/runtime/fiber.h" ]; then
	echo "check-includes: $tree is not the source tree"
	exit 1
fi
found=$(scan "$tree")
if [ -n "$found" ]; then
	echo "$found"
	echo "check-includes: $(echo "$found" | wc -l) includes run the wrong way"
	exit 1
fi
echo "check-includes: all includes run downwards"
