#!/bin/sh
# SPDX-License-Identifier: MIT
# bench/run.sh [--quick] [--help] [NAME...]: the benchmarks, from the build directory.
#   WEFT       the weft command (./weft)
#   WEFT_SHIM  libweft-pthread.so (./.libs/libweft-pthread.so)
#   BENCHDIR   where the benchmark programs are, or are built (./bench)
here=$(dirname "$0")
if ! command -v python3 >/dev/null 2>&1; then
	echo "bench: python3 is needed to run the benchmarks (Debian package: python3)" >&2
	exit 77
fi
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$here/run.py" "$@"
