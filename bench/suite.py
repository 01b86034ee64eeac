# SPDX-License-Identifier: MIT
"""What is measured: the benchmarks, the contestants of each, and the aims.

A benchmark is one command per contestant; a run of it prints `name value unit` lines (bench.h).
An aim is a sentence with a limit, computed from the medians of one run of the suite.
"""

import math
import os

import compute
import servers

NPTL, WEFT, FULL, SHARED = "NPTL", "weft", "weft native", "weft shared"
GO, GOCHAN, BOOST, ST = "Go", "Go channels", "Boost.Fiber", "State Threads"
EPOLL = "epoll loop"
BARE, FSBASE = "bare switch", "bare + wrfsbase"
SOURCES = ("records", "marks", "state")
ECHO_SIZES = (100, 1000, 10000)
NPTL_MAX = 40000		# threads that NPTL is asked for to see where it stops


class Metric:
    """One printed figure of a benchmark. `more` tells whether more of it is better; `short` is
    what the summary calls it, None where the name of the benchmark says it all; `extra` are
    figures that are shown beside it."""

    def __init__(self, name, what, more=False, short=None, extra=()):
        self.name, self.what, self.more, self.short, self.extra = name, what, more, short, extra


class Bench:
    """One benchmark: contestants in the order in which they take turns, each with its command.

    `runs`: at most so many of each, `times`: so many times as often as others, in shorter runs
    against changes of the machine's speed, both unless the user said how many; `wait`: seconds
    that a run may take beyond its time; `files`, `memory`: descriptors and bytes that it needs;
    `load`: the command that is started, on the next CPU, beside a contestant that is a server;
    `server`, `program`: a real one, which the contestants run in the directory `scratch`."""

    def __init__(self, group, key, title, cpus, metrics, commands, ms, env=None, *, runs=None,
                 times=1, wait=0, files=0, memory=0, load=None, server=None, program=None, scratch=None):
        self.group, self.key, self.title, self.cpus = group, key, title, cpus
        self.metrics, self.commands, self.ms, self.env = metrics, commands, ms, env or {}
        self.runs, self.times, self.wait = runs, times, wait
        self.files, self.memory = files, memory
        self.load, self.server, self.program, self.scratch = load, server, program, scratch

    @property
    def needs_cpus(self):
        return self.cpus + (1 if self.served else 0)

    @property
    def served(self):
        """Is it a server with its load on another CPU?"""
        return bool(self.load or self.server)


def by_source(source):
    """The contestant that is weft with this detection of stalled workers."""
    return "%s, %s" % (WEFT, source)


def threads(program, *args, peers=True, native=True):
    """The usual contestants: the same pthread program twice, native twice, Go, two peers."""
    commands = {NPTL: [program, *args], WEFT: [program, *args]}
    if native:
        commands[FULL] = ["native", program, "-k", "full", *args]
        commands[SHARED] = ["native", program, "-k", "shared", *args]
    commands[GO] = ["gobench", program, *args]
    if program == "pingpong":
        commands[GOCHAN] = ["gobench", "pingpong-chan", *args]
    if peers:
        commands[BOOST] = ["peer_boost", program, *args]
        commands[ST] = ["peer_st", program, *args]
    return commands


def cheap():
    """What the aims call 'on one VP'."""
    yields = [Metric("ns", "ns per yield", extra=("alternating",))]
    each, pair, trip = ([Metric("ns", "ns per " + w)] for w in ("thread", "pair", "round trip"))
    return [
        Bench("switch", "switch", "The yardstick: from one stack to another, nothing else", 1,
              [Metric("ns", "ns per switch")],
              {BARE: ["switch"], FSBASE: ["switch", "-o", "wrfsbase"]}, 60),
        Bench("yield", "yield", "Two threads yield in turn", 1, yields, threads("yield"), 100),
        Bench("spawn", "spawn", "Create and join a thread, one at a time", 1,
              each, threads("spawn"), 100),
        Bench("spawn", "spawn1000", "Create 1000 threads, then join them", 1,
              each, threads("spawn", "-n", "1000"), 120),
        Bench("mutex", "mutex", "Lock and unlock a mutex that nobody else wants", 1,
              pair, threads("mutex"), 60),
        Bench("pingpong", "pingpong", "Condition-variable ping-pong", 1,
              trip, threads("pingpong"), 100),
        Bench("pingpong", "pingpong2", "Condition-variable ping-pong", 2,
              trip, threads("pingpong", peers=False), 100),
    ]


def contended():
    rate = [Metric("rate", "locks per second", True, "locks/s", ("least", "most"))]
    return [
        Bench("contend", "contend", "64 threads on one mutex, nothing but lock and unlock", 2,
              rate, threads("contend", "-w", "0", peers=False), 500),
        Bench("contend", "contend-work", "64 threads on one mutex, 100 ns of other work between", 2,
              rate, threads("contend", "-w", "50", peers=False), 500),
    ]


def mixes(data):
    both = [Metric("ops", "blocking operations per second", True, "ops/s"),
            Metric("compute", "compute units per second", True, "compute/s")]
    kinds = [("blockmix", "sleep", "sleep 1 ms", ["-o", "sleep"])]
    if data:
        kinds += [("blockmix", "pread", "read 4 KB with O_DIRECT", ["-o", "pread", "-p", data]),
                  ("coldread", "coldread", "read 4 KB that are not in the page cache",
                   ["-o", "cold", "-p", data])]
    return [Bench(group, key, "64 threads %s in a loop beside 2 compute threads" % what, 2,
                  both, threads("blockmix", *args, peers=False, native=False), 1000)
            for group, key, what, args in kinds]


def handoffs(scratch):
    out = []
    for op, where in (("flock", "in flock"), ("fifo", "opening a FIFO"),
                      ("fgets", "in fgets on an empty pipe"),
                      ("churn", "in fgets, woken every 10 ms to work for 1 ms")):
        command = ["handoff", "-o", op, "-p", scratch]
        kept = Metric("kept", "compute kept, of alone", True, "kept", ("p50_us", "p99_us"))
        out.append(Bench("handoff", op, "Hand-off: 2 threads stall " + where, 2, [kept],
                         {c: command for c in (NPTL, *map(by_source, SOURCES))}, 600,
                         {"WEFT_STATS": "1"}))
    return out


def echo():
    """One server per contestant, the same load on all."""
    metrics = [Metric("rate", "requests per second", True, "rate", ("rss_mb", "kthreads", "load")),
               Metric("cpu_us", "server's CPU us per request", short="CPU us"),
               Metric("p50_us", "latency, median, us", short="p50 us"),
               Metric("p99_us", "latency, 99th percentile, us", short="p99 us")]
    out = []
    for n in ECHO_SIZES:
        text = str(n)
        ms, times = (1500, 2) if n > 1000 else (700, 3)  # each is answered 10 times, or more
        commands = {NPTL: ["echo_threads", text], WEFT: ["echo_threads", text],
                    GO: ["gobench", "echo", "-n", text], ST: ["echo_st", text],
                    EPOLL: ["echo_epoll", text]}
        out.append(Bench("echo", "echo%d" % n, "A thread per connection, {:,} connections, 64 "
                         "bytes".format(n), 1, metrics, commands, ms, times=times,
                         wait=30 + n / 200, files=n + 100, load=["echoload", "-n", text]))
    return out


def many(quick):
    """As many threads as there is memory for."""
    parked = [Metric("ns", "ns per thread, all phases", short="ns",
                     extra=("create_s", "wake_s", "join_s")),
              Metric("cpu_ns", "CPU ns, less first touches", short="CPU ns"),
              Metric("bytes", "bytes per parked thread", short="bytes",
                     extra=("tables", "kept", "threads"))]
    out = []
    # a thousand take 10 ms: by single runs their cost varies threefold
    for n, nptl, runs, times in ((1000, 1000, None, 3), (100000, NPTL_MAX, 3, 1),
                                 (1000000, None, 3, 1)):
        if quick and n > 100000:
            continue
        commands = {NPTL: ["million", "-n", str(nptl)], WEFT: ["million", "-n", str(n)],
                    GO: ["gobench", "million", "-n", str(n)]}
        if nptl is None:
            del commands[NPTL]
        out.append(Bench("million", "million" if n == 1000000 else "park%d" % n,
                         "{:,} threads created, parked, woken, joined".format(n), 2, parked,
                         commands, 0, runs=runs, times=times, wait=30 + n / 4000, memory=n * 18000))
    late = [Metric("p50_us", "late by, median, us", short="p50 us"),
            Metric("p99_us", "late by, 99th percentile, us", short="p99 us"),
            Metric("cpu", "% of a CPU", short="% CPU", extra=("wakes", "rss_mb", "kthreads"))]
    out.append(Bench("sleepers", "sleepers", "100,000 threads sleep 1 to 1000 ms over and over", 2,
                     late, {WEFT: ["sleepers"], GO: ["gobench", "sleepers"]},
                     10000 if quick else 30000, runs=1, wait=60, memory=2 << 30))
    count = "200000" if quick else "10000000"
    each = [Metric("ns", "ns per thread", extra=("first_mb", "last_mb", "growth"))]
    commands = {NPTL: ["recycle", "-n", "100000"], WEFT: ["recycle", "-n", count],
                GO: ["gobench", "recycle", "-n", count]}
    out.append(Bench("recycle", "recycle", "%s threads created and joined, 1,000 alive at a time "
                     "(NPTL: 100,000)" % "{:,}".format(int(count)), 2, each, commands, 0,
                     runs=1, wait=240))
    return out


def real(scratch):
    """Programs as Debian ships them, plain and preloaded."""
    both = {NPTL: [], WEFT: []}
    asked = [Metric("rate", "requests per second", True, "rate", ("rss_mb", "kthreads", "load")),
             Metric("cpu_us", "server's CPU us per request", short="CPU us"),
             Metric("p99_us", "latency, 99th percentile, us", short="p99 us")]
    took = [Metric("s", "seconds", short="s"), Metric("cpu_s", "CPU seconds", short="CPU s")]
    out = [Bench("servers", key, title, 1, asked, dict(both), 4000, runs=5, files=5000,
                 server=server, scratch=os.path.join(scratch, key.rstrip("0123456789")))
           for key, title, server in servers.cases()]
    return out + [Bench("compute", key, title, 2, took, dict(both), 0, times=3, program=program,
                        scratch=os.path.join(scratch, "compute"))
                  for key, title, program in compute.cases()]


def benches(data, scratch, quick=False):
    """All benchmarks. `data`: file to read, or None; `scratch`: a directory."""
    return (cheap() + contended() + mixes(data) + handoffs(scratch) + echo() + real(scratch)
            + many(quick))


class Aim:
    """`value` against `limit`: at most it, or at least it where `more`; None where a figure is
    missing. `even`: a miss would be within the spread."""

    def __init__(self, what, value, limit, more, unit="x", even=False):
        self.what, self.value, self.limit = what, value, limit
        self.more, self.unit, self.even = more, unit, even

    @property
    def verdict(self):
        if self.value is None or self.limit is None:
            return "not measured"
        if self.value >= self.limit if self.more else self.value <= self.limit:
            return "met"
        return "even" if self.even else "MISSED"


def ratio(a, b):
    return a / b if a is not None and b else None


def aims(get, overlap):
    """The aims of the suite. get(bench, contestant, metric="ns") is a median or None;
    overlap(bench, a, b): do the middle halves of the runs of two contestants overlap?"""

    def times(key, a, b, metric="ns"):
        return ratio(get(key, a, metric), get(key, b, metric))

    bare = get("switch", BARE)
    out = [
        Aim("switch, own TLS (native yield): of bare + wrfsbase",
            ratio(get("yield", FULL), get("switch", FSBASE)), 1.5, False),
        Aim("switch, shared TLS (native yield): 2 x bare + 10 ns", get("yield", SHARED),
            None if bare is None else 2 * bare + 10, False, "ns"),
        Aim("sched_yield, faster than NPTL", times("yield", NPTL, WEFT), 15, True),
    ]
    for key, what in (("spawn", "create + join one by one"),
                      ("spawn1000", "create + join by 1000")):
        out += [Aim(what + ", faster than NPTL", times(key, NPTL, WEFT), 50, True),
                Aim(what + ", faster than Go", times(key, GO, WEFT), 1, True),
                Aim(what + ", native shared, faster than NPTL", times(key, NPTL, SHARED), 80, True)]
    go = [v for v in (get("pingpong", GO), get("pingpong", GOCHAN)) if v is not None]
    out += [
        Aim("uncontended mutex, time of NPTL's", times("mutex", WEFT, NPTL), 1, False,
            even=overlap("mutex", WEFT, NPTL)),
        Aim("ping-pong on one VP, faster than NPTL", times("pingpong", NPTL, WEFT), 15, True),
        Aim("ping-pong on one VP, faster than Go's better way",
            ratio(min(go) if go else None, get("pingpong", WEFT)), 1, True),
        Aim("64 threads on one mutex, rate of NPTL's",
            times("contend", WEFT, NPTL, "rate"), 1, True),
        Aim("64 threads on one mutex and other work, rate of NPTL's",
            times("contend-work", WEFT, NPTL, "rate"), 1, True),
    ]
    for key in ("sleep", "pread"):
        for metric, what in (("ops", "operations"), ("compute", "compute")):
            out.append(Aim("blocking mix, %s: %s, of NPTL's" % (key, what),
                           times(key, WEFT, NPTL, metric), 0.9, True))
    for metric, what in (("ops", "reads"), ("compute", "compute")):
        for other in (NPTL, GO):
            out.append(Aim("cold reads: %s, of %s's" % (what, other),
                           times("coldread", WEFT, other, metric), 0.9, True))
    for n in ECHO_SIZES:
        key = "echo%d" % n
        name = "echo, %d: " % n
        out.append(Aim(name + "rate, of the epoll loop's", times(key, WEFT, EPOLL, "rate"), 0.95,
                       True, even=overlap(key, WEFT, EPOLL, "rate")))
        for other in (NPTL, GO):
            out += [Aim(name + "rate, of %s's" % other, times(key, WEFT, other, "rate"), 1, True,
                        even=overlap(key, WEFT, other, "rate")),
                    Aim(name + "p99, of %s's" % other, times(key, WEFT, other, "p99_us"), 1,
                        False, even=overlap(key, WEFT, other, "p99_us"))]
        out.append(Aim(name + "kernel threads", get(key, WEFT, "kthreads"), 8, False, ""))
    rates = []
    for key, *_ in servers.cases():
        rates.append(times(key, WEFT, NPTL, "rate"))
        out.append(Aim(key + ": rate, of NPTL's", rates[-1], 0.95, True,
                       even=overlap(key, WEFT, NPTL, "rate")))
    rates = [r for r in rates if r]
    out.append(Aim("servers, geometric mean of the rates, of NPTL's", math.exp(
        sum(map(math.log, rates)) / len(rates)) if rates else None, 1, True))
    for key, *_ in compute.cases():
        out.append(Aim(key + ": speed, of NPTL's", times(key, NPTL, WEFT, "s"), 0.98, True,
                       even=overlap(key, WEFT, NPTL, "s")))
    costs = [get(key, WEFT, "cpu_ns") for key in ("park1000", "park100000", "million")]
    costs = [c for c in costs if c]
    out += [
        Aim("bytes per parked thread", get("park100000", WEFT, "bytes"), 9 * 1024, False, "B"),
        Aim("bytes per parked thread, of a million", get("million", WEFT, "bytes"), 9 * 1024,
            False, "B"),
        Aim("cost per thread, most of least of the sizes",
            ratio(max(costs), min(costs)) if len(costs) > 1 else None, 1.5, False),
        Aim("sleepers: lateness p50, of Go's", times("sleepers", WEFT, GO, "p50_us"), 1, False),
        Aim("sleepers: lateness p99, of Go's", times("sleepers", WEFT, GO, "p99_us"), 1, False),
        Aim("sleepers: CPU used, of Go's", times("sleepers", WEFT, GO, "cpu"), 1, False),
        Aim("recycle: memory at the end, of that after the first 10,000",
            get("recycle", WEFT, "growth"), 1.05, False),
    ]
    for key in ("flock", "fifo", "fgets"):
        for source in SOURCES:
            out.append(Aim("hand-off, %s by %s: compute kept" % (key, source),
                           get(key, by_source(source), "kept"), 0.95, True))
    return out
