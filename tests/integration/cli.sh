#!/bin/bash
# SPDX-License-Identifier: MIT
# The command line: every bad input gets a message that names the problem, and the right exit status; a good one
# becomes the program.
#
# WEFT       the weft command; default: in the build tree
# WEFT_SHIM  libweft-pthread.so; default: what the command finds by itself

. "$(dirname "$0")/../common.sh"
WEFT=${WEFT:-$top/weft}
[ -n "${WEFT_SHIM:-}" ] || unset WEFT_SHIM
if [ ! -x "$WEFT" ]; then
	echo "$0: set WEFT to the weft command; there is none at $WEFT" >&2
	exit 2
fi
chmod 755 "$work"
failed=0
checks=0

fail() {
	echo "FAILED: $1"
	head -5 "$work/out" | sed 's/^/	out: /'
	head -5 "$work/err" | sed 's/^/	err: /'
	failed=$((failed + 1))
}

# expect STATUS TEXT COMMAND…: the exit status, and a text in standard error ('' = nothing at all there).
expect() {
	local status=$1 text=$2 got
	shift 2
	checks=$((checks + 1))
	timeout 20 "$@" >"$work/out" 2>"$work/err" </dev/null
	got=$?
	if [ $got -ne "$status" ]; then
		fail "$* (status $got, not $status)"
	elif [ -z "$text" ] && [ -s "$work/err" ]; then
		fail "$* (standard error is not empty)"
	elif ! grep -Fq -e "$text" "$work/err" && [ -n "$text" ]; then
		fail "$* (no '$text' in its message)"
	fi
}

# refused STATUS TEXT COMMAND…: so, and the program did not run.
refused() {
	expect "$@"
	[ ! -s "$work/out" ] || fail "${*:3} (ran)"
}

# prints TEXT: the last command did, on standard output.
prints() {
	checks=$((checks + 1))
	grep -Fq -e "$1" "$work/out" || fail "no '$1' in the output"
}

skip() {
	echo "skipped: $1"
}

run=("$WEFT" run)

# --- help and usage
expect 0 '' "$WEFT" --help
prints 'weft run'
expect 0 '' "$WEFT" --version
prints 'weft 0.'
expect 0 '' "${run[@]}" --help
prints 'Examples:'
expect 0 '' "$WEFT" info --help
refused 125 'no command given' "$WEFT"
refused 125 "unknown command 'ls'; to run a program: weft run -- ls" "$WEFT" ls
refused 125 "unknown option '--vps=2'" "$WEFT" --vps=2 run true
refused 125 "'--vpx=1'" "${run[@]}" --vpx=1 -- echo ran
refused 125 "unknown option '-q'" "${run[@]}" -q -- echo ran
refused 125 'no program given' "${run[@]}"
refused 125 'no program given' "${run[@]}" --stats --
refused 125 "option '--vps' needs a value: --vps=N|auto" "${run[@]}" --vps
refused 125 "'--no-stats=1' takes no value" "${run[@]}" --no-stats=1 echo ran
refused 125 "info: unknown option '--xml'" "$WEFT" info --xml
refused 125 "info: unexpected argument 'x'" "$WEFT" info x
refused 125 'cannot write to standard output' sh -c '"$1" info >/dev/full' sh "$WEFT"

# --- values, of options and of variables
refused 125 "--vps=abc: not a number between 1 and 1024 or 'auto'" "${run[@]}" --vps=abc echo ran
refused 125 '--vps=1025: not a number' "${run[@]}" --vps 1025 echo ran
refused 125 '--quantum=1us: not a time between 20us and 10s' "${run[@]}" --quantum=1us echo ran
refused 125 '--stack=1k: not a size between 16k and 64g' "${run[@]}" --stack=1k echo ran
refused 125 '--blocked=magic: not auto, records, marks or state' "${run[@]}" --blocked=magic echo ran
refused 125 '--policy=lottery: not fifo' "${run[@]}" --policy=lottery echo ran
refused 125 '--stats=2: not 0 or 1' "${run[@]}" --stats=2 echo ran
refused 125 '--signal=SIGKILL: not a signal' "${run[@]}" --signal=SIGKILL echo ran
refused 125 '--tls=half: not full or shared' "${run[@]}" --tls=half echo ran
refused 125 'WEFT_VPS=abc: not a number' env WEFT_VPS=abc "${run[@]}" echo ran
refused 125 'WEFT_QUANTUM=-4ms: not a time' env WEFT_QUANTUM=-4ms "${run[@]}" echo ran
refused 125 'WEFT_VSP: weft has no such setting' env WEFT_VSP=2 "${run[@]}" echo ran
refused 125 'WEFT_STACK=1: not a size' env WEFT_STACK=1 "$WEFT" info
expect 0 '' env WEFT_VPS= "${run[@]}" true

# --- finding the program
refused 127 "'no-such-program' not found in PATH" "${run[@]}" -- no-such-program
refused 127 'No such file or directory' "${run[@]}" -- "$work/none"
refused 127 "'' not found in PATH" "${run[@]}" -- ''
refused 126 'is a directory' "${run[@]}" -- "$work"
echo 'echo ran' >"$work/plain"
refused 126 'not executable' "${run[@]}" -- "$work/plain"
refused 126 "'plain' is in PATH, but not executable" env PATH="$work:$PATH" "${run[@]}" -- plain
refused 127 "prefix it with './'" sh -c 'cd "$1" && exec "$2" run -- plain' sh "$work" "$(realpath "$WEFT")"

# --- scripts
script() {
	printf "$2" >"$work/$1"
	chmod 755 "$work/$1"
}
script sh5 '#!/bin/sh\nexit 5\n'
expect 5 '' "${run[@]}" -- "$work/sh5"
script nested "#! $work/sh5 -x\n"
expect 5 '' "${run[@]}" -- "$work/nested"
script bare 'exit $#\n'
expect 2 '' "${run[@]}" -- "$work/bare" a b
script lost '#!/no/such/interpreter\n'
refused 126 "/no/such/interpreter (the interpreter of $work/lost): No such file" "${run[@]}" -- "$work/lost"
script dos '#!/bin/sh\r\n'
refused 126 'carriage return' "${run[@]}" -- "$work/dos"
script loop "#!$work/loop\n"
refused 126 'too many interpreters' "${run[@]}" -- "$work/loop"
script noise '\177nothing\0known'
refused 126 'cannot run' "${run[@]}" -- "$work/noise"

# --- kinds of executables
cat >"$work/hello.c" <<-'END'
	#include <stdio.h>
	int main(int argc, char **argv)
	{
		puts("ran");
		return argc > 1 ? 7 : 0;
	}
END
cc=${CC:-cc}
$cc -o "$work/hello" "$work/hello.c" || exit 2
expect 7 '' "${run[@]}" -- "$work/hello" x
prints ran
if $cc -static -o "$work/static" "$work/hello.c" 2>/dev/null; then
	refused 125 'statically linked' "${run[@]}" -- "$work/static"
	script of_static "#!$work/static\n"
	refused 125 "$work/static: statically linked" "${run[@]}" -- "$work/of_static"
else
	skip 'static program (no static libc)'
fi
$cc -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1 -o "$work/musl" "$work/hello.c"
refused 125 'linked with musl' "${run[@]}" -- "$work/musl"
$cc -Wl,--dynamic-linker=/lib64/ld-linux-none.so.9 -o "$work/no_ld" "$work/hello.c"
refused 126 'its dynamic linker /lib64/ld-linux-none.so.9: No such file' "${run[@]}" -- "$work/no_ld"
$cc -c -o "$work/object" "$work/hello.c"
chmod 755 "$work/object"
refused 126 'not a program' "${run[@]}" -- "$work/object"
head -c 70 "$work/hello" >"$work/cut"
chmod 755 "$work/cut"
refused 126 'not a complete ELF program' "${run[@]}" -- "$work/cut"
# e_machine 0x2a: SuperH; then ELFCLASS32 and i386
patch() {
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
cp "$work/hello" "$work/foreign"
patch "$work/foreign" 18 '\x2a'
refused 126 'another kind of machine' "${run[@]}" -- "$work/foreign"
cp "$work/hello" "$work/small"
patch "$work/small" 4 '\x01'
patch "$work/small" 18 '\x03'
refused 125 'a 32-bit program' "${run[@]}" -- "$work/small"

# --- where LD_PRELOAD is ignored
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
cp "$work/hello" "$work/suid"
chmod 4755 "$work/suid"
cp "$work/hello" "$work/caps"
if [ "$(id -u)" -eq 0 ]; then
	# it changes nothing for its owner
	expect 0 '' "${run[@]}" -- "$work/suid"
	if findmnt -no OPTIONS -T "$work" | grep -qw nosuid || ! "${nobody[@]}" "$WEFT" --version >/dev/null 2>&1; then
		skip 'set-user-ID (nosuid here, or no access as another user)'
	else
		refused 125 'runs as another user (set-user-ID)' "${nobody[@]}" "${run[@]}" -- "$work/suid"
		expect 0 '' "${nobody[@]}" --no-new-privs "${run[@]}" -- "$work/suid"
		if setcap cap_net_raw+ep "$work/caps" 2>/dev/null; then
			refused 125 'has file capabilities' "${nobody[@]}" "${run[@]}" -- "$work/caps"
		else
			skip 'file capabilities (setcap does not work here)'
		fi
	fi
else
	expect 0 '' "${run[@]}" -- "$work/suid"
	system_suid=$(find /bin /usr/bin -maxdepth 1 -perm -4005 -user root -type f 2>/dev/null | head -1)
	if [ -n "$system_suid" ] && ! findmnt -no OPTIONS -T "$system_suid" | grep -qw nosuid; then
		refused 125 'runs as another user (set-user-ID)' "${run[@]}" -- "$system_suid"
	else
		skip 'set-user-ID (none installed)'
	fi
fi

# --- limits and permissions
refused 125 'the stack limit is 32 KiB, too low' bash -c 'ulimit -S -s 32; exec "$@"' sh "${run[@]}" echo ran
prints_hint=$(grep -c 'ulimit -s' "$work/err")
[ "$prints_hint" -eq 1 ] || fail 'the message about the stack limit does not say what to do'

cat >"$work/deny.c" <<-'END'
	/* Run a program without the system call perf_event_open: deny ERRNO PROGRAM… */
	#include <linux/filter.h>
	#include <linux/seccomp.h>
	#include <stddef.h>
	#include <stdlib.h>
	#include <sys/prctl.h>
	#include <sys/syscall.h>
	#include <unistd.h>
	int main(int argc, char **argv)
	{
		struct sock_filter f[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (argc > 2 ? atoi(argv[1]) : 0)),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };
		if (argc < 3 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			return 99;
		execvp(argv[2], argv + 2);
		return 98;
	}
END
if $cc -D_GNU_SOURCE -o "$work/deny" "$work/deny.c" && "$work/deny" 1 true; then
	refused 125 '--blocked=records: switch records do not work here: perf_event_open: Operation not permitted' \
		"$work/deny" 1 "${run[@]}" --blocked=records echo ran
	refused 125 'use --blocked=auto, marks or state' "$work/deny" 38 env WEFT_BLOCKED=records "${run[@]}" echo ran
	expect 0 '' "$work/deny" 1 "${run[@]}" echo ran
	expect 0 '' "$work/deny" 1 "${run[@]}" --blocked=marks echo ran
	expect 0 '' "$work/deny" 1 "$WEFT" info
	prints 'marks and task state'
	expect 0 '' "$work/deny" 1 env WEFT_BLOCKED=records "$WEFT" info
	prints 'makes weft refuse to start'
else
	skip 'no permission for switch records (no seccomp)'
fi

# --- the shim
refused 125 'WEFT_SHIM=/no/shim.so: No such file or directory' env WEFT_SHIM=/no/shim.so "${run[@]}" echo ran
refused 125 "WEFT_SHIM=$work: Permission denied" env WEFT_SHIM="$work" "${run[@]}" echo ran
mkdir "$work/a b"
cp "$work/hello" "$work/a b/shim.so"
refused 125 'LD_PRELOAD cannot hold a path with a space' env WEFT_SHIM="$work/a b/shim.so" "${run[@]}" echo ran

# --- a good command line becomes the program
expect 3 '' "${run[@]}" sh -c 'exit 3'
expect 143 '' "${run[@]}" -- sh -c 'kill -TERM $$'
expect 0 '' "${run[@]}" --vps 2 --quantum=1ms --stack 256k --stats=0 --no-inherit --tls full -- sh -c \
	'echo "$0 $1 $WEFT_VPS $WEFT_QUANTUM $WEFT_STACK $WEFT_STATS $WEFT_INHERIT $WEFT_TLS"' a --vps=9
prints 'a --vps=9 2 1ms 256k 0 0 full'
expect 0 '' env WEFT_VPS=1 "${run[@]}" --vps=2 printenv WEFT_VPS
prints 2
expect 0 '' "${run[@]}" printenv LD_PRELOAD
prints .so
$cc -shared -fPIC -o "$work/other.so" "$work/hello.c"
expect 0 '' env LD_PRELOAD="$work/other.so" "${run[@]}" printenv LD_PRELOAD
prints ":$work/other.so"
expect 0 '' "${run[@]}" -- "$WEFT" run -- printenv LD_PRELOAD
[ "$(grep -o 'libweft\|shim' "$work/out" | wc -l)" -le 1 ] || fail 'the shim is in LD_PRELOAD twice'

# --- weft info
expect 0 '' "$WEFT" info
for word in 'CPUs by affinity' FSGSBASE 'Switch records' 'Guard regions' io_uring membarrier glibc 'Stack limit' Policies; do
	prints "$word"
done
expect 0 '' env WEFT_VPS=3 "$WEFT" info
prints '3 VPs (WEFT_VPS)'
expect 0 '' "$WEFT" info --json
if command -v python3 >/dev/null; then
	checks=$((checks + 1))
	python3 -c 'import json, sys; d = json.load(sys.stdin); assert d["cpus"]["value"] >= 1 and "use" in d["io_uring"]' \
		<"$work/out" || fail 'weft info --json is not the JSON it should be'
fi

# --- the manual knows every option and variable
"${run[@]}" --help >"$work/out"
for word in $(grep -o 'WEFT_[A-Z]*' "$work/out" | sort -u) WEFT_SHIM; do
	checks=$((checks + 1))
	grep -q "$word" "$top/docs/weft.1" || fail "$word is not in weft(1)"
done
if command -v mandoc >/dev/null; then
	for page in weft.1 weft.7; do
		checks=$((checks + 1))
		mandoc -T lint -W warning "$top/docs/$page" >"$work/out" 2>"$work/err" || fail "mandoc -T lint $page"
	done
fi

echo "$checks checks, $failed failed"
[ $failed -eq 0 ]
