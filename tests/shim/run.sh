#!/bin/sh
# SPDX-License-Identifier: MIT
# Run shim test programs: each as it is on the system's threads, then under the preload with 1, 2 and 8
# virtual processors, the last time with preemption at random intervals.
#
#     WEFT_SHIM=path/to/libweft-pthread.so run.sh PROGRAM...
#
# SHIM_TIMEOUT: seconds for one run (default 60). SHIM_LOOPS: how often each (default 1).
# SHIM_NATIVE=0: not on the system's threads. Exit status: 0 all passed, 1 some failed, 2 usage.

if [ -z "$WEFT_SHIM" ] || [ ! -e "$WEFT_SHIM" ]; then
	echo "run.sh: set WEFT_SHIM to the preload library" >&2
	exit 2
fi
if [ $# -eq 0 ]; then
	echo "run.sh: name the programs to run" >&2
	exit 2
fi
case $WEFT_SHIM in
/*) ;;
*) WEFT_SHIM=$PWD/$WEFT_SHIM ;;
esac
shim=$WEFT_SHIM
unset WEFT_SHIM			# weft refuses variables that it does not know
limit=${SHIM_TIMEOUT:-60}
loops=${SHIM_LOOPS:-1}
failed=0

# one LABEL COMMAND...
one()
{
	label=$1
	shift
	i=0
	while [ "$i" -lt "$loops" ]; do
		i=$((i + 1))
		timeout -k 2 "$limit" "$@"
		status=$?
		[ $status -eq 0 ] && continue
		if [ $status -eq 124 ] || [ $status -eq 137 ]; then
			echo "FAIL $label: no end after $limit s (run $i)"
		else
			echo "FAIL $label: exit status $status (run $i)"
		fi
		failed=1
		return
	done
	echo "ok   $label"
}

for program in "$@"; do
	name=$(basename "$program")
	[ "${SHIM_NATIVE:-1}" = 0 ] || one "$name native" "$program"
	for vps in 1 2; do
		one "$name vps=$vps" env "WEFT_VPS=$vps" "LD_PRELOAD=$shim" "$program"
	done
	one "$name vps=8" env WEFT_VPS=8 "LD_PRELOAD=$shim" "$program"
	one "$name vps=2 fuzz" env WEFT_VPS=2 WEFT_FUZZ=20us "LD_PRELOAD=$shim" "$program"
	[ "$name" = scope ] && one "$name posix" env WEFT_SCOPE=posix "LD_PRELOAD=$shim" "$program"
done
exit $failed
