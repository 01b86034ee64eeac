# SPDX-License-Identifier: MIT
"""Real programs that compute, as Debian ships them: each does a fixed piece of work."""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MIXED = os.path.join(HERE, "..", "tests", "real", "mixed_data.py")
MEGABYTES = 40


class Program:
    """`words`: the command; "@" is the file to work on, made by `make` if it is missing."""

    def __init__(self, make, *words):
        self.make, self.words = make, words

    def lacking(self):
        return None if shutil.which(self.words[0]) else "%s is not installed" % self.words[0]


def mixed(path):
    subprocess.run([sys.executable, MIXED, path, str(MEGABYTES)], check=True)


def film(path):
    """60 frames of 640x360 in which something moves."""
    import random
    rng = random.Random(1)
    noise = bytearray(rng.randbytes(640 * 800))
    for i in range(0, len(noise), 16):      # blocks, so that there is something to find
        noise[i:i + 16] = bytes([noise[i] // 2 + i // 640 % 120]) * 16
    with open(path, "wb") as f:
        f.write(b"YUV4MPEG2 W640 H360 F25:1 Ip A1:1 C420\n")
        for frame in range(60):
            at = frame * 640 * 7 + frame * 3
            f.write(b"FRAME\n" + noise[at:at + 640 * 360] + bytes([128]) * (320 * 180 * 2))


def measure(runner, bench, contestant):
    """One run: seconds and CPU seconds, or a text that says why there are none."""
    program, path = bench.program, None
    why = program.lacking()
    if why:
        return "left out: " + why
    os.makedirs(bench.scratch, exist_ok=True)
    if program.make:
        path = os.path.join(bench.scratch, program.make.__name__)
        if not os.path.exists(path):
            program.make(path)
    words = [path if w == "@" else w for w in program.words]
    ready = runner.dress(bench, contestant, [shutil.which(words[0]), *words[1:]])
    if isinstance(ready, str):
        return ready
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    child = runner.start(bench, *ready, runner.cpus[:bench.cpus], output=os.devnull)
    timer = threading.Timer(60, child.kill)
    timer.start()
    child.wait()            # without a limit: with one it looks every 50 ms only
    took, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    timer.cancel()
    if took >= 60:
        return "failed: not finished after 60 s"
    if child.returncode:
        return "failed: status %d" % child.returncode
    return {"s": took, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def cases():
    """(name, what it is, program)"""
    return [
        ("pigz", "pigz, 4 threads", Program(mixed, "pigz", "-9", "-p", "4", "-c", "@")),
        ("xz", "xz, 4 threads", Program(mixed, "xz", "-0", "-T4", "--block-size=2MiB", "-c", "@")),
        ("zstd", "zstd, 4 threads", Program(mixed, "zstd", "-q", "-9", "-T4", "-c", "@")),
        ("x264", "x264, 4 threads", Program(film, "x264", "--quiet", "--no-progress", "--threads",
                                            "4", "--demuxer", "y4m", "-o", os.devnull, "@"))]
