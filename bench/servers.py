# SPDX-License-Identifier: MIT
"""Real servers as Debian ships them: how each is started for itself alone, loaded, and ended.

A server has its own directory and a free port of 127.0.0.1, lives for one measurement, and is ended
by its process id. What each answers is checked by its load. CPU time is that of the server and of
the processes that it started, read when the load begins in earnest and when it has ended.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
VALUE = b"." * 100                  # what is stored in memcached and redis
SBIN = ":/usr/sbin:/sbin"           # Debian's servers; a user's PATH may lack them


def which(program):
    return shutil.which(program, path=os.environ.get("PATH", "/usr/bin:/bin") + SBIN)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, request, answer):
    """Send and compare."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        s.sendall(request)
        got = b""
        while len(got) < len(answer):
            more = s.recv(len(answer) - len(got))
            if not more:
                break
            got += more
    if got != answer:
        raise ValueError("it answered %r to %r" % (got[:60], request[:60]))


class Server:
    """needs: programs; stop: the signal that ends it."""
    needs, stop = (), signal.SIGTERM
    started = None      # what the load prints when it begins in earnest, if it does

    def __init__(self, connections):
        self.n = connections

    def lacking(self):
        """Why it cannot run here, or None."""
        for program in self.needs:
            if not which(program):
                return "%s is not installed" % program
        return None

    def prepare(self, directory):
        """What all measurements share."""

    def command(self, directory, port):
        raise NotImplementedError

    def fill(self, port):
        """What is asked for."""

    def warm(self, port):
        """A load that is not measured, before the one that is; None: it needs none."""

    def load(self, port, pid, ms, programs):
        raise NotImplementedError

    def figures(self, text):
        """From what the load printed: {} if that was no success."""
        raise NotImplementedError


class Asked(Server):
    """A cache: one key is asked for by echoload, which prints the figures as they are wanted."""
    request = answer = ""

    def load(self, port, pid, ms, programs):
        return [programs.path("echoload"), "-n", str(self.n), "-p", str(port), "-P", str(pid),
                "-t", str(ms), "-q", self.request, "-a", self.answer]

    def figures(self, text):
        return {p[0]: float(p[1]) for p in map(str.split, text.splitlines()) if len(p) == 3}


class Memcached(Asked):
    needs = ("memcached",)
    request = "get key\r\n"
    answer = "VALUE key 0 %d\r\n%s\r\nEND\r\n" % (len(VALUE), VALUE.decode())

    def command(self, directory, port):
        user = subprocess.run(["id", "-un"], text=True, capture_output=True).stdout.strip()
        return [which("memcached"), "-u", user, "-l", "127.0.0.1", "-p", str(port), "-U", "0",
                "-t", str(self.n), "-m", "64", "-c", "4096"]

    def fill(self, port):
        ask(port, b"set key 0 0 %d\r\n%s\r\n" % (len(VALUE), VALUE), b"STORED\r\n")


class Redis(Asked):
    needs = ("redis-server",)
    request = "GET key\r\n"
    answer = "$%d\r\n%s\r\n" % (len(VALUE), VALUE.decode())

    def command(self, directory, port):
        return [which("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", directory, "--io-threads", "4",
                "--io-threads-do-reads", "yes", "--protected-mode", "no"]

    def fill(self, port):
        ask(port, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%s\r\n" % (len(VALUE), VALUE), b"+OK\r\n")


class Http(Server):
    path = ""

    def load(self, port, pid, ms, programs):
        return [which("wrk"), "-t", "1", "-c", str(self.n), "-d", "%ds" % max(1, ms // 1000),
                "--timeout", "20s", "--latency", "http://127.0.0.1:%d/%s" % (port, self.path)]

    def figures(self, text):
        if re.search("Non-2xx|Socket errors", text):
            return {}
        out = {}
        for name, pattern in (("rate", r"Requests/sec: *([\d.]+)()"),
                              ("requests", r"(\d+)() requests in"),
                              ("p50_us", r"50% +([\d.]+)(us|ms|s)"),
                              ("p99_us", r"99% +([\d.]+)(us|ms|s)")):
            found = re.search(pattern, text)
            if found:
                out[name] = float(found[1]) * {"ms": 1e3, "s": 1e6}.get(found[2], 1)
        return out


class Nginx(Http):
    needs, stop = ("nginx", "wrk"), signal.SIGQUIT
    path = "file"

    def lacking(self):
        why = super().lacking()
        if not why and b"--with-threads" not in subprocess.run(
                [which("nginx"), "-V"], stderr=subprocess.PIPE, check=False).stderr:
            why = "this nginx has no threads"
        return why

    def prepare(self, directory):
        with open(os.path.join(directory, "file"), "wb") as f:
            f.write(bytes(4096))

    def command(self, directory, port):
        conf = os.path.join(directory, "nginx.conf")
        words = {"dir": directory, "port": port, "n": self.n, "user": "" if os.getuid() else
                 "user root;"}
        with open(conf, "w") as f:
            f.write("daemon off; worker_processes 1; pid %(dir)s/pid; %(user)s\n"
                    "error_log %(dir)s/error warn;\n"
                    "thread_pool default threads=%(n)d;\n"
                    "events { worker_connections 1024; }\n"
                    "http { access_log off; aio threads; sendfile off;\n" % words)
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
                f.write("%s_temp_path %s/%s;\n" % (kind, directory, kind))
            f.write("keepalive_requests 1000000000;\n"
                    "server { listen 127.0.0.1:%(port)d; root %(dir)s; } }\n" % words)
        return [which("nginx"), "-e", os.path.join(directory, "error"), "-c", conf]


class Python(Http):
    needs = (PYTHON, "wrk")

    def command(self, directory, port):
        return [PYTHON, os.path.join(HERE, "httpd.py"), str(port)]


class Mariadb(Server):
    needs = ("mariadbd", "mariadb-install-db", "mariadb", "sysbench")
    started = "Threads started!"
    rows = 10000

    def sysbench(self, port, *words):
        return [which("sysbench"), "oltp_point_select", "--db-driver=mysql",
                "--mysql-host=127.0.0.1", "--mysql-port=%d" % port, "--mysql-user=root",
                "--tables=1", "--table-size=%d" % self.rows, "--db-ps-mode=auto", *words]

    def prepare(self, directory):
        """The database, made once under plain threads."""
        data = os.path.join(directory, "data")
        if os.path.isdir(data):
            return
        user = subprocess.run(["id", "-un"], text=True, capture_output=True).stdout.strip()
        subprocess.run([which("mariadb-install-db"), "--no-defaults", "--datadir=" + data,
                        "--user=" + user, "--auth-root-authentication-method=normal",
                        "--skip-test-db"], check=True, capture_output=True, timeout=120)
        port = free_port()
        with subprocess.Popen(self.command(directory, port), stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                until_it_listens(server, port, 60)
                subprocess.run([which("mariadb"), "--no-defaults", "--protocol=tcp",
                                "--host=127.0.0.1", "--port=%d" % port, "--user=root",
                                "-e", "create database sbtest"], check=True, timeout=60)
                subprocess.run(self.sysbench(port, "prepare"), check=True, capture_output=True,
                               timeout=60)
            finally:
                server.terminate()

    def command(self, directory, port):
        user = subprocess.run(["id", "-un"], text=True, capture_output=True).stdout.strip()
        return [which("mariadbd"), "--no-defaults", "--datadir=" + os.path.join(directory, "data"),
                "--user=" + user, "--socket=" + os.path.join(directory, "socket"),
                "--bind-address=127.0.0.1", "--port=%d" % port, "--max-connections=%d" % (
                    self.n + 10), "--innodb-buffer-pool-size=64M", "--back-log=4096",
                "--thread-handling=one-thread-per-connection", "--table-open-cache=4000",
                "--open-files-limit=16000"]

    def warm(self, port):
        """Each connection keeps a hundred of the objects that it freed before it gives any back
        (LF_PURGATORY_SIZE): until then the server allocates for each request, from a heap that
        has to grow."""
        return self.sysbench(port, "--threads=%d" % self.n, "--time=0",
                             "--events=%d" % (100 * self.n), "run")

    def load(self, port, pid, ms, programs):
        return self.sysbench(port, "--threads=%d" % self.n, "--time=%d" % max(1, ms // 1000),
                             "--percentile=99", "run")

    def figures(self, text):
        out = {}
        if re.search(r"FATAL|[Ee]rror:", text) or not re.search(r"reconnects: +0 ", text):
            return out
        for name, pattern, unit in (("rate", r"transactions: +\d+ +\(([\d.]+) per sec", 1),
                                    ("requests", r"transactions: +(\d+)", 1),
                                    ("p99_us", r"99th percentile: +([\d.]+)", 1e3)):
            found = re.search(pattern, text)
            if found:
                out[name] = float(found[1]) * unit
        return out


def until_it_listens(server, port, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise ValueError("the server does not listen")


def family(pid):
    """The process and what its first thread started."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [pid] + [p for child in f.read().split() for p in family(int(child))]
    except OSError:
        return [pid]


def cpu_seconds(pid):
    return sum(time.clock_gettime(~p << 3 | 2) for p in family(pid))    # clock_getcpuclockid(3)


def status(pid, field):
    total = 0
    for p in family(pid):
        with open("/proc/%d/status" % p) as f:
            total += int(re.search(r"^%s:\s*(\d+)" % field, f.read(), re.M)[1])
    return total


def measure(runner, bench, contestant, ms):
    """One measurement: figures, or a text that says why there are none."""
    server, directory = bench.server, bench.scratch
    why = server.lacking()
    if why:
        return "left out: " + why
    os.makedirs(directory, exist_ok=True)
    cpus = runner.cpus[:bench.cpus], runner.cpus[bench.cpus:bench.cpus + 1]
    child = None
    try:
        server.prepare(directory)
        port = free_port()
        ready = runner.dress(bench, contestant, server.command(directory, port))
        if isinstance(ready, str):
            return ready
        child = runner.start(bench, *ready, cpus[0], output=os.path.join(directory, "output"))
        until_it_listens(child, port, 30)
        server.fill(port)
        warmed(runner, bench, port, cpus[1])
        got = loaded(runner, bench, child.pid, port, ms, cpus[1])
        if child.poll() is not None:
            return "failed: the server ended, status %d" % child.returncode
        child.send_signal(server.stop)
        if child.wait(30) not in (0, -server.stop):
            return "failed: the server ended with status %d" % child.returncode
        return got
    except (OSError, ValueError, subprocess.SubprocessError) as e:
        return "failed: %s" % e
    finally:
        if child and child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def warmed(runner, bench, port, cpus):
    """Let the server's caches and pools fill."""
    command = bench.server.warm(port)
    if not command:
        return
    load = runner.start(bench, command, None, cpus, output=os.path.join(bench.scratch, "warm"))
    try:
        if load.wait(120):
            raise ValueError("the load that warms up: status %d" % load.returncode)
    finally:
        if load.poll() is None:
            os.killpg(load.pid, signal.SIGKILL)
            load.wait()


def loaded(runner, bench, pid, port, ms, cpus):
    """Put the load on the server; the figures."""
    server, out = bench.server, os.path.join(bench.scratch, "load")
    load = runner.start(bench, server.load(port, pid, ms, runner.programs), None, cpus, output=out)
    begin = time.monotonic()
    end = begin + 60 + ms / 1000
    before = cpu_seconds(pid)
    try:
        while load.poll() is None:
            if time.monotonic() > end:
                raise ValueError("the load did not end")
            if server.started:
                with open(out) as f:
                    if server.started in f.read():
                        before = cpu_seconds(pid)
                        break
            elif time.monotonic() > begin + 0.1:
                break
            time.sleep(0.01)
        time.sleep(ms / 2000)       # all connections are open
        sizes = {"rss_mb": status(pid, "VmRSS") / 1024, "kthreads": status(pid, "Threads")}
        load.wait(max(1, end - time.monotonic()))
        after = cpu_seconds(pid)
    finally:
        if load.poll() is None:
            os.killpg(load.pid, signal.SIGKILL)
            load.wait()
    with open(out) as f:
        text = f.read()
    got = server.figures(text) if not load.returncode else {}
    if not got:
        raise ValueError("the load: " + (text.strip().splitlines() or ["no success"])[-1][:120])
    requests = got.pop("requests", 0)
    if requests:
        got["cpu_us"] = (after - before) * 1e6 / requests
    return sizes | got


def cases():
    """(name, what it is, server)"""
    out = [("mariadb%d" % n, "MariaDB, a thread per connection, {:,} connections, point selects"
            .format(n), Mariadb(n)) for n in (64, 512, 2000)]
    return out + [
        ("memcached", "memcached, 64 threads, 64 connections, gets", Memcached(64)),
        ("redis", "redis, 4 I/O threads, 64 connections, gets", Redis(64)),
        ("nginx", "nginx, aio threads, 64 of them, 64 connections, 4 KB files", Nginx(64)),
        ("python", "Python's ThreadingHTTPServer, 64 connections", Python(64))]
