# SPDX-License-Identifier: MIT
"""Builds the benchmark programs that are missing or older than their sources.

`make` may have built some of them; the peers (Go, Boost.Fiber, State Threads) are always built
here, so that configure need not know them. What cannot be built is left out with a reason.
"""

import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
PTHREAD = ("switch", "yield", "spawn", "mutex", "pingpong", "contend", "blockmix", "handoff",
           "echoload", "million", "sleepers", "recycle")
HEADERS = ("bench.h", "histogram.h", "proc.h")
EXAMPLES = ("echo_threads", "echo_epoll")


class Programs:
    """Where the programs are; missing[program] = why it cannot run."""

    def __init__(self, bindir, shim, weft):
        self.bindir, self.shim, self.weft = os.path.abspath(bindir), shim, weft
        self.missing = {}
        os.makedirs(bindir, exist_ok=True)

    def path(self, program):
        return os.path.join(self.bindir, program)

    def build(self, program, sources, package, *command):
        """`command` with the program's file at "@", the first source's at "%", all at "%%"."""
        target = self.path(program)
        sources = [os.path.join(HERE, s) for s in sources]
        if os.path.exists(target):
            newest = max(os.path.getmtime(s) for s in sources)
            if os.path.getmtime(target) >= newest:
                return
        if not shutil.which(command[0]):
            self.missing[program] = "%s is not installed (Debian package: %s)" % (
                command[0], package)
            return
        words = {"@": [target], "%": sources[:1], "%%": sources}
        command = [w for c in command for w in words.get(c, [c])]
        env = dict(os.environ, GO111MODULE="off", GOFLAGS="", GOPROXY="off")
        if "HOME" not in env and "GOCACHE" not in env:
            env["GOCACHE"] = os.path.join(self.bindir, "gocache")
        try:
            done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=180)
        except subprocess.TimeoutExpired:
            self.missing[program] = "building it took too long"
            return
        if done.returncode:
            lines = [t for t in done.stderr.splitlines() if "error" in t or "cannot" in t]
            why = (lines or [done.stderr])[0].strip()[:200]
            self.missing[program] = "it does not build (Debian package: %s): %s" % (package, why)

    def prepare(self):
        """Build everything; the programs that cannot be had and why."""
        cc = (*os.environ.get("CC", "cc").split(), "-std=gnu11", "-O2", "-D_GNU_SOURCE",
              "-I" + os.path.join(HERE, "..", "include"), "-o", "@", "%")
        for p in PTHREAD:
            self.build(p, [p + ".c", *HEADERS], "gcc", *cc, "-pthread")
        for p in EXAMPLES:
            self.build(p, ["../examples/%s.c" % p, "../examples/echo.h"], "gcc", *cc, "-pthread")
        libdir = os.environ.get("WEFT_LIBDIR") or os.path.dirname(self.shim or "./")
        self.build("native", ["native.c", "bench.h"], "gcc", *cc,
                   "-L" + libdir, "-Wl,-rpath," + libdir, "-lweft")
        self.build("gobench", ["go/bench.go", "go/scale.go"], "golang-go", "go", "build",
                   "-o", "@", "%%")
        self.build("peer_boost", ["peer_boost.cpp"], "libboost-fiber-dev", "c++", "-O2",
                   "-o", "@", "%", "-lboost_fiber", "-lboost_context", "-pthread")
        self.build("peer_st", ["peer_st.c", "bench.h"], "libst-dev", *cc, "-lst")
        self.build("echo_st", ["echo_st.c", "../examples/echo.h"], "libst-dev", *cc, "-lst")
        return self.missing
