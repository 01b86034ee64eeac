#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Run a program and watch from outside how many kernel threads it has.

usage: kthreads.py FILE COMMAND [ARGUMENT…]

Writes the largest number of threads that /proc showed to FILE; exits with the program's status.
"""
import subprocess
import sys
import time

p = subprocess.Popen(sys.argv[2:])
most = 0
while p.poll() is None:
    try:
        with open("/proc/%d/status" % p.pid) as f:
            for line in f:
                if line.startswith("Threads:"):
                    most = max(most, int(line.split()[1]))
    except OSError:
        pass
    time.sleep(0.002)
with open(sys.argv[1], "w") as f:
    print(most, file=f)
sys.exit(p.returncode if p.returncode >= 0 else 128 - p.returncode)
