# SPDX-License-Identifier: MIT
"""How it is shown: a block per benchmark, a summary, the aims, JSON and a plot."""

import json
import statistics
import subprocess

import suite

COLUMNS = (suite.NPTL, suite.WEFT, suite.FULL, suite.SHARED, suite.GO, suite.BOOST, suite.ST,
           suite.EPOLL)
SHORT = {suite.FULL: "native", suite.SHARED: "shared", suite.BOOST: "Boost", suite.ST: "ST",
         suite.EPOLL: "epoll"}
COLOURS = {suite.WEFT: "#b2182b", suite.FULL: "#ef8a62", suite.SHARED: "#fddbc7",
           suite.GO: "#2166ac", suite.BOOST: "#878787", suite.ST: "#c8c8c8",
           suite.NPTL: "#4d9221", suite.EPOLL: "#444444"}


def number(v):
    """A figure in at most nine characters, three significant digits or more."""
    if v is None:
        return "-"
    if v >= 1e6:
        return "%.2f M" % (v / 1e6)
    if v >= 1000:
        return "{:,.0f}".format(v)
    return "%.1f" % v if v >= 10 else "%.2f" % v


def better(metric, base, value):
    """How many times better `value` is than `base`."""
    if not base or not value:
        return None
    return value / base if metric.more else base / value


class Results:
    """runs[benchmark][contestant][metric] = [values]; failures[benchmark][contestant] = why."""

    def __init__(self):
        self.runs, self.failures = {}, {}

    def add(self, bench, contestant, figures):
        mine = self.runs.setdefault(bench.key, {}).setdefault(contestant, {})
        for name, value in figures.items():
            mine.setdefault(name, []).append(value)

    def fail(self, bench, contestant, why):
        self.failures.setdefault(bench.key, {})[contestant] = why

    def why(self, key, contestant):
        return self.failures.get(key, {}).get(contestant)

    def values(self, key, contestant, metric):
        if self.why(key, contestant):
            return []
        return self.runs.get(key, {}).get(contestant, {}).get(metric, [])

    def median(self, key, contestant, metric="ns"):
        values = self.values(key, contestant, metric)
        return statistics.median(values) if values else None

    def overlap(self, key, a, b, metric="ns"):
        halves = []
        for contestant in (a, b):
            values = sorted(self.values(key, contestant, metric))
            if len(values) < 3:
                return False
            quarter = len(values) // 4
            halves.append((values[quarter], values[-1 - quarter]))
        return halves[0][0] <= halves[1][1] and halves[1][0] <= halves[0][1]


def block(results, bench):
    """The lines of one benchmark: median, spread and ratios of every contestant."""
    cpus = "one CPU" if bench.cpus == 1 else "%d CPUs" % bench.cpus
    cpus += ", the load on another" if bench.served else ""
    lines = ["", "%s: %s (%s)" % (bench.key, bench.title, cpus)]
    bases = [b for b in (suite.NPTL, suite.GO, suite.EPOLL) if b in bench.commands]
    for metric in bench.metrics:
        head = "  %-32s%10s%11s%11s" % (metric.what, "median", "min", "max")
        head += "".join("%9s" % ("x " + SHORT.get(b, b)) for b in bases)
        head += "".join("%12s" % e.replace("_us", ", us") for e in metric.extra)
        lines.append(head)
        for contestant in bench.commands:
            lines.append(line(results, bench.key, metric, contestant, bases))
    return lines


def line(results, key, metric, contestant, bases):
    values = results.values(key, contestant, metric.name)
    if not values:
        return "    %-30s%s" % (contestant, results.why(key, contestant) or "not measured")
    median = statistics.median(values)
    text = "    %-30s" % contestant
    text += "%10s%11s%11s" % tuple(map(number, (median, min(values), max(values))))
    for base in bases:
        text += "%9s" % number(better(metric, results.median(key, base, metric.name), median))
    for extra in metric.extra:
        text += "%12s" % number(results.median(key, contestant, extra))
    return text


def summary(results, benches):
    """Medians side by side."""
    columns = [c for c in COLUMNS if any(results.runs.get(b.key, {}).get(c) for b in benches)]
    lines = ["", "Medians side by side (ns where nothing else is said)",
             "  %-23s" % "" + "".join("%11s" % SHORT.get(c, c) for c in columns)]
    for bench in benches:
        if suite.WEFT not in bench.commands:
            continue
        for metric in bench.metrics:
            name = "%s, %s" % (bench.key, metric.short) if metric.short else bench.key
            cells = [results.median(bench.key, c, metric.name) for c in columns]
            lines.append("  %-23s" % name + "".join("%11s" % number(c) for c in cells))
    return lines if len(lines) > 3 else []


def aim_lines(aims):
    lines = ["", "Aims (each from the medians above)", "  %-60s%12s%12s" % ("", "measured", "aim")]
    for aim in aims:
        measured = "-" if aim.value is None else "%.2f %s" % (aim.value, aim.unit)
        limit = "-"
        if aim.limit is not None:
            limit = "%s %.4g %s" % (">=" if aim.more else "<=", aim.limit, aim.unit)
        lines.append("  %-60s%12s%12s  %s" % (aim.what, measured, limit, aim.verdict))
    verdicts = [a.verdict for a in aims]
    lines.append("  %d met, %d missed, %d even (within the spread), %d not measured" % tuple(
        verdicts.count(v) for v in ("met", "MISSED", "even", "not measured")))
    return lines


def save(path, machine, results, benches, aims):
    data = {"machine": machine, "benches": {}, "aims": []}
    for a in aims:
        data["aims"].append({"aim": a.what, "measured": a.value, "limit": a.limit,
                             "at_least": a.more, "unit": a.unit, "verdict": a.verdict})
    for bench in benches:
        contestants = {}
        for contestant in bench.commands:
            got = results.runs.get(bench.key, {}).get(contestant, {})
            metrics = {name: {"median": statistics.median(v), "min": min(v), "max": max(v),
                              "runs": v} for name, v in got.items()}
            contestants[contestant] = {"failure": results.why(bench.key, contestant),
                                       "metrics": metrics}
        data["benches"][bench.key] = {"title": bench.title, "cpus": bench.cpus,
                                      "load_on_another": bench.served,
                                      "contestants": contestants}
    with open(path, "w") as f:
        json.dump(data, f, indent=1)
        f.write("\n")


def rows(results, benches, metrics, base=suite.NPTL, served=False):
    """(label, benchmark, metric, base) of what one panel of the plot shows. `served`: only
    servers, or only others; None: both."""
    labels = {"pingpong2": "pingpong\\n2 CPUs", "spawn1000": "spawn by 1000"}
    for bench in benches:
        for metric in bench.metrics:
            if (metric.name in metrics and served in (None, bench.served)
                    and results.median(bench.key, base, metric.name)):
                label = labels.get(bench.key, bench.key)
                if len(bench.metrics) > 1:
                    label += "\\n" + metric.short
                yield label, bench, metric, base


def panel(results, listed, contestants):
    """A gnuplot data block: one line per benchmark, one column per contestant."""
    out = []
    for label, bench, metric, base in listed:
        base = results.median(bench.key, base, metric.name)
        cells = (better(metric, base, results.median(bench.key, c, metric.name))
                 for c in contestants)
        out.append('"%s" ' % label + " ".join("?" if c is None else "%.4g" % c for c in cells))
    return "\n".join(out)


SETUP = """set terminal pngcairo size 1200,%d font "sans,11"
set output "%s"
set datafile missing '?'
set style data histogram
set style histogram clustered gap 1.5
set style fill solid border -1
set boxwidth 0.95
set grid ytics lc rgb '#dddddd'
set key outside top center horizontal
set tics nomirror
set bmargin 3.5
set multiplot layout %d,1
"""
FAST = """set title "Times faster than NPTL on the same CPUs (1 = NPTL)"
set logscale y
set yrange [0.5:*]
set ylabel "times faster"
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lc rgb '#444444' front
"""
ECHO = """set title "Echo server on one CPU: times as good as the epoll loop (more is better)"
unset logscale y
set yrange [0:*]
set ylabel "times as good"
set arrow 1 from graph 0, first 0.95 to graph 1, first 0.95 nohead dt 2 lc rgb '#444444' front
"""
REAL = """set title "Real programs: times as good as NPTL (1 = NPTL; aim: 0.95, compute 0.98)"
unset logscale y
set yrange [0:*]
set ylabel "times as good"
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lc rgb '#444444' front
"""
RATE = """set title "Rate on two CPUs relative to NPTL (1 = NPTL; aim of the blocking mix: 0.9)"
unset logscale y
set yrange [0:*]
set ylabel "of the rate of NPTL"
set arrow 1 from graph 0, first 0.9 to graph 1, first 0.9 nohead dt 2 lc rgb '#444444' front
"""


def plot(path, results, benches):
    """Draw it: times faster than NPTL on a logarithmic scale, below it rates relative to NPTL.
    Returns why that was not possible, or None."""
    def present(*without):
        return [c for c in COLOURS if c not in without
                and any(c in runs for runs in results.runs.values())]

    real = [b for b in benches if b.server or b.program]
    benches = [b for b in benches if b not in real]
    panels = [(FAST, list(rows(results, benches, ("ns",))), present(suite.NPTL, suite.EPOLL)),
              (RATE, list(rows(results, benches, ("rate", "ops", "compute"))),
               present(suite.NPTL, suite.EPOLL, suite.BOOST, suite.ST)),
              (REAL, list(rows(results, real, ("rate", "cpu_us", "s"), served=None)), [suite.WEFT]),
              (ECHO, list(rows(results, benches, ("rate", "cpu_us", "p99_us"), suite.EPOLL, True)),
               present(suite.FULL, suite.SHARED, suite.BOOST))]
    panels = [p for p in panels if p[1] and p[2]]
    if not panels:
        return "there is nothing to compare"
    script = SETUP % (520 * len(panels), path, len(panels))
    for i, (style, listed, contestants) in enumerate(panels):
        script += "$p%d << EOD\n%s\nEOD\n%s" % (i, panel(results, listed, contestants), style)
        script += "plot " + ", ".join(
            "$p%d using %d%s title '%s' lc rgb '%s'"
            % (i, n + 2, "" if n else ":xtic(1)", c, COLOURS[c])
            for n, c in enumerate(contestants)) + "\n"
    script += "unset multiplot\n"
    try:
        done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        return "gnuplot is not installed (Debian package: gnuplot-nox)"
    except subprocess.TimeoutExpired:
        return "gnuplot took too long"
    return done.stderr.strip() if done.returncode else None
