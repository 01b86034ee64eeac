#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The driver of the benchmarks: lets the contestants take turns and shows the result.

Contestants of one benchmark are interleaved (A B C, C A B, ...), so that what else happens on the
machine hits all of them alike. Every run has a deadline; one that fails or hangs is reported and
its contestant sits out the rest of that benchmark.
"""

import argparse
import os
import platform
import random
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time

import build
import compute
import report
import servers
import suite

DATA_SIZE = 256 << 20
DEADLINE = 2400         # seconds for everything; what has not started by then is left out
OURS = ("WEFT", "WEFT_SHIM", "WEFT_LIBDIR", "BENCHDIR")   # for this driver, not for the runtime


def say(text=""):
    print(text, flush=True)


class Runner:
    def __init__(self, programs, cpus, scale):
        self.programs, self.cpus, self.scale = programs, cpus, scale

    def command(self, bench, contestant, ms):
        """(argument vector, environment), or a text that says why there is none."""
        program, *args = bench.commands[contestant]
        if program in self.programs.missing:
            return "left out (see above)"
        command = [self.programs.path(program), *args]
        if not bench.load and bench.ms:
            command += ["-t", str(ms)]
        return self.dress(bench, contestant, command)

    def dress(self, bench, contestant, command):
        """(argument vector, environment) of this command, or a text that says why there is none."""
        env = {k: v for k, v in os.environ.items() if k not in OURS and k != "LD_PRELOAD"}
        env["GOMAXPROCS"] = str(bench.cpus)
        if contestant.startswith(suite.WEFT):
            env["WEFT_VPS"] = str(bench.cpus)
            env.update(bench.env)
            if "," in contestant:
                env["WEFT_BLOCKED"] = contestant.split(", ")[1]
            if os.path.basename(command[0]) == "native":
                pass
            elif self.programs.shim:
                env["LD_PRELOAD"] = self.programs.shim
            elif self.programs.weft:
                command = [self.programs.weft, "run", "--", *command]
            else:
                return "left out: no weft here; set WEFT_SHIM or WEFT"
        return command, env

    def start(self, bench, command, env, cpus, output=None):
        """The process, in a group of its own; what it prints into a pipe, or the file `output`."""
        def prepare():
            os.sched_setaffinity(0, cpus)
            if bench.files:
                hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        to, err = subprocess.PIPE, subprocess.PIPE
        with open(output or os.devnull, "w") as f:
            if output:
                to, err = f, subprocess.STDOUT
            return subprocess.Popen(command, env=env, text=True, errors="replace",
                                    stdin=subprocess.DEVNULL, stdout=to, stderr=err,
                                    start_new_session=True, preexec_fn=prepare)

    def run(self, bench, contestant):
        """One run: its figures, or a text that says why there are none."""
        ms = max(20, int(bench.ms * self.scale))
        if bench.server:
            return servers.measure(self, bench, contestant, ms)
        if bench.program:
            return compute.measure(self, bench, contestant)
        ready = self.command(bench, contestant, ms)
        if isinstance(ready, str):
            return ready
        limit = max(5.0, 8 * ms / 1000) + bench.wait
        child = self.start(bench, *ready, self.cpus[:bench.cpus])
        if bench.load:
            return self.serve(bench, child, ms, limit)
        out, err, why = finish(child, limit)
        return why or figures(out, err) or "failed: it printed no figures"

    def serve(self, bench, server, ms, limit):
        """`server` is the contestant: put the load on it; what that prints are the figures."""
        try:
            if not select.select([server.stdout], [], [], 10)[0]:
                return "failed: the server did not start"
            port = server.stdout.readline().strip().rpartition(":")[2]
            if not port.isdigit():
                return finish(server, 5)[2] or "failed: the server did not say where it listens"
            program, *args = bench.load
            if program in self.programs.missing:
                return "left out (see above)"
            command = [self.programs.path(program), *args, "-p", port, "-P", str(server.pid),
                       "-t", str(ms)]
            load = self.start(bench, command, None, self.cpus[bench.cpus:bench.cpus + 1])
            out, err, why = finish(load, limit)
            if why:
                last = "" if server.poll() is None else finish(server, 5)[2] or ""
                return why + (last and "; the server: " + last)
            return finish(server, 10 + bench.wait)[2] or figures(out, err)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.communicate()


def finish(child, limit):
    """Wait for a process: its output, its messages, and what went wrong or None."""
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        return out, err, "failed: not finished after %.0f s" % limit
    if not child.returncode:
        return out, err, None
    how = "status %d" % child.returncode
    if child.returncode < 0:
        how = "killed by %s" % signal.Signals(-child.returncode).name
    last = err.strip().splitlines()[-1:] or [""]
    return out, err, "failed: %s %s" % (how, last[0][:120])


def lacking(bench, cpus):
    """Why this machine cannot run it, or None."""
    if bench.needs_cpus > cpus:
        return "it needs %d CPUs" % bench.needs_cpus
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < bench.files:
        return "it needs %d descriptors and the hard limit (ulimit -Hn) is %d" % (bench.files, hard)
    with open("/proc/meminfo") as f:
        free = int(re.search(r"MemAvailable: *(\d+)", f.read()).group(1)) << 10
    if free < bench.memory:
        return "it needs %.1f GB of memory and %.1f are available" % (
            bench.memory / 1e9, free / 1e9)
    return None


def figures(out, err):
    """The `name value unit` lines, and the percentiles of the hand-off from WEFT_STATS=1."""
    got = {}
    for text in out.splitlines():
        part = text.split()
        if len(part) == 3:
            got[part[0]] = float(part[1])
    for which in ("p50", "p99"):
        found = re.search(r"handoff_%s_ns (\d+)" % which, err)
        if found and int(found.group(1)):
            got[which + "_us"] = int(found.group(1)) / 1000
    return got


def make_data(directory):
    """A file of 256 MB for O_DIRECT, on a disk. Returns (path, None) or (None, why not)."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], text=True,
                          capture_output=True).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        return None, "%s is a %s, not a disk; choose another with --dir" % (directory, kind)
    path = os.path.join(directory, "bench.data")
    try:
        if not (os.path.exists(path) and os.path.getsize(path) == DATA_SIZE):
            chunk = os.urandom(1 << 20)
            with open(path, "wb") as f:
                for _ in range(DATA_SIZE >> 20):
                    f.write(chunk)
                f.flush()
                os.fsync(f.fileno())
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError as e:
        if os.path.exists(path):
            os.unlink(path)
        return None, "%s: %s" % (path, e.strerror)
    return path, None


def busy_seconds():
    """CPU seconds that the whole machine was busy, and that we and our children were."""
    with open("/proc/stat") as f:
        field = [int(v) for v in f.readline().split()[1:9]]
    ticks = sum(field) - field[3] - field[4]
    ours = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return ticks / os.sysconf("SC_CLK_TCK"), sum(u.ru_utime + u.ru_stime for u in ours)


def machine(cpus):
    model = "unknown processor"
    with open("/proc/cpuinfo") as f:
        for text in f:
            if text.startswith("model name"):
                model = text.split(":", 1)[1].strip()
                break
    return {"date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "processor": model, "cpus": cpus, "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver())}


def arguments():
    all_of_them = suite.benches("file", "")
    groups = list(dict.fromkeys(b.group for b in all_of_them))
    p = argparse.ArgumentParser(
        prog="run.sh", description="Run weft's benchmarks against NPTL, Go and others.",
        epilog="names: %s; or one benchmark of a group, as printed" % ", ".join(groups))
    p.add_argument("--quick", action="store_true",
                   help="about eight minutes: median of 3, shorter runs, no million of threads")
    p.add_argument("--runs", type=int, help="runs per contestant (7; quick: 3)")
    p.add_argument("--only", metavar="CONTESTANT", action="append",
                   help="only this contestant, by its name in the tables (may be repeated)")
    p.add_argument("--dir", default=".",
                   help="directory on a disk for the file to read (default: here)")
    p.add_argument("--json", default="bench-results.json",
                   help="file for all figures (%(default)s)")
    p.add_argument("--plot", default="bench-ratios.png", help="file for the plot (%(default)s)")
    p.add_argument("names", nargs="*", help="only these benchmarks")
    args = p.parse_args()
    known = groups + [b.key for b in all_of_them if b.key not in groups]
    for name in args.names:
        if name not in known:
            p.error("no benchmark is called '%s' (there are: %s)" % (name, ", ".join(known)))
    return args


def measure(runner, results, bench, count):
    """In another order each round, the same ones each time: what a contestant leaves behind (ten
    thousand stacks given back, a hot processor) is not always the same one's to bear."""
    order = list(bench.commands)
    draw = random.Random(bench.key)
    for _ in range(count):
        draw.shuffle(order)
        for contestant in order:
            if results.why(bench.key, contestant):
                continue
            got = runner.run(bench, contestant)
            if isinstance(got, str):
                results.fail(bench, contestant, got)
            else:
                results.add(bench, contestant, got)


def run_all(args, runner, results, count):
    """Run and print the benchmarks that were asked for; returns them."""
    begin, shown, data = time.monotonic(), [], None
    with tempfile.TemporaryDirectory(prefix="weft-bench.") as scratch:
        if not args.names or {"blockmix", "pread", "coldread"} & set(args.names):
            data, why = make_data(args.dir)
            if why:
                say("left out: pread, coldread: " + why)
        try:
            for bench in suite.benches(data, scratch, args.quick):
                if args.names and not {bench.group, bench.key} & set(args.names):
                    continue
                if args.only:
                    bench.commands = {c: v for c, v in bench.commands.items() if c in args.only}
                lack = lacking(bench, len(runner.cpus))
                if lack:
                    say("\n%s: left out: %s" % (bench.key, lack))
                elif time.monotonic() - begin > DEADLINE:
                    say("\n%s: left out: %d s are used up" % (bench.key, DEADLINE))
                elif bench.commands:
                    often = count if args.runs else count * bench.times
                    measure(runner, results, bench,
                            often if args.runs else min(often, bench.runs or often))
                    shown.append(bench)
                    say("\n".join(report.block(results, bench)))
        finally:
            if data:
                os.unlink(data)
    return shown


def first_existing(*paths):
    return next((os.path.abspath(p) for p in paths if p and os.path.exists(p)), None)


def main():
    args = arguments()
    count = args.runs or (3 if args.quick else 7)
    cpus = sorted(os.sched_getaffinity(0))
    shim = first_existing(os.environ.get("WEFT_SHIM"), ".libs/libweft-pthread.so")
    weft = first_existing(os.environ.get("WEFT"), "weft")
    programs = build.Programs(os.environ.get("BENCHDIR", "bench"), shim, weft)
    about = machine(cpus[:2])
    say("weft benchmarks: median of %d runs, contestants take turns" % count)
    say("%(processor)s, kernel %(kernel)s, %(libc)s" % about
        + "; one-CPU benchmarks on CPU %d" % cpus[0])
    say("weft: " + (shim or weft or "not found (set WEFT_SHIM or WEFT); only the others will run"))
    for program, why in programs.prepare().items():
        say("left out: %s: %s" % (program, why))

    begin, busy = time.monotonic(), busy_seconds()
    results = report.Results()
    shown = run_all(args, Runner(programs, cpus, 0.5 if args.quick else 1), results, count)
    took, after = time.monotonic() - begin, busy_seconds()
    aims = suite.aims(results.median, results.overlap)
    if args.names:
        aims = [a for a in aims if a.verdict != "not measured"]
    say("\n".join(report.summary(results, shown) + (report.aim_lines(aims) if aims else [])))

    others = max(0, (after[0] - busy[0]) - (after[1] - busy[1])) / (took * os.cpu_count())
    about.update(seconds=round(took, 1), others_share=round(others, 3), runs=count,
                 quick=args.quick)
    say("\n%.0f s; meanwhile other work kept the machine's CPUs %.0f %% busy%s" % (
        took, 100 * others, ": do not trust these figures" if others > 0.1 else ""))
    report.save(args.json, about, results, shown, aims)
    why = report.plot(args.plot, results, shown)
    say("figures: %s; plot: %s" % (args.json, "none: " + why if why else args.plot))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
