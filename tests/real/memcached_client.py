#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A memcached client that verifies every value: several threads, each with keys of its own and
one counter that all share.

usage: memcached_client.py PORT [THREADS [ROUNDS]]
"""
import random
import socket
import sys
import threading

PORT = int(sys.argv[1])
THREADS = int(sys.argv[2]) if len(sys.argv) > 2 else 16
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 300
errors = []


class Client:
    def __init__(self):
        self.sock = socket.create_connection(("127.0.0.1", PORT), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def command(self, data):
        self.sock.sendall(data)
        return self.file.readline().rstrip(b"\r\n")

    def set(self, key, flags, value):
        return self.command(b"set %s %d 0 %d\r\n%s\r\n" % (key, flags, len(value), value))

    def get(self, *keys):
        self.sock.sendall(b"get %s\r\n" % b" ".join(keys))
        found = {}
        while True:
            line = self.file.readline().rstrip(b"\r\n")
            if line == b"END":
                return found
            word, key, flags, size = line.split()
            if word != b"VALUE":
                raise RuntimeError("bad reply %r" % line)
            value = self.file.read(int(size))
            if self.file.read(2) != b"\r\n":
                raise RuntimeError("bad end of value")
            found[key] = (int(flags), value)

    def close(self):
        self.file.close()
        self.sock.close()


def body(i):
    rng = random.Random(i)
    model = {}
    c = Client()
    for r in range(ROUNDS):
        if r % 50 == 49:    # new connections land on other threads of the server
            c.close()
            c = Client()
        key = b"t%d-k%d" % (i, rng.randrange(20))
        what = rng.randrange(10)
        if what < 4:
            value = (rng.randbytes(rng.choice((1, 10, 1000, 5000))) * 20)[:rng.choice((7, 900, 90000))]
            flags = rng.randrange(65536)
            if c.set(key, flags, value) != b"STORED":
                raise RuntimeError("set refused")
            model[key] = (flags, value)
        elif what < 8:
            keys = {b"t%d-k%d" % (i, rng.randrange(20)) for _ in range(rng.randrange(1, 5))}
            want = {k: model[k] for k in keys if k in model}
            if c.get(*sorted(keys)) != want:
                raise RuntimeError("thread %d, round %d: wrong values" % (i, r))
        elif what < 9:
            want = b"DELETED" if model.pop(key, None) else b"NOT_FOUND"
            if c.command(b"delete %s\r\n" % key) != want:
                raise RuntimeError("delete: expected %r" % want)
        else:
            c.command(b"incr shared 1\r\n").decode()
            counted[i] += 1
    if c.get(*model) != model:
        raise RuntimeError("thread %d: wrong values at the end" % i)
    c.close()


def guarded(i):
    try:
        body(i)
    except BaseException as e:
        errors.append("thread %d: %r" % (i, e))


counted = [0] * THREADS
main = Client()
if main.set(b"shared", 0, b"0") != b"STORED":
    sys.exit("cannot set the counter")
threads = [threading.Thread(target=guarded, args=(i,)) for i in range(THREADS)]
for t in threads:
    t.start()
for t in threads:
    t.join()
total = int(main.get(b"shared")[b"shared"][1])
if total != sum(counted):
    errors.append("counter is %d, expected %d" % (total, sum(counted)))
for e in errors[:10]:
    print("error:", e)
if not errors:
    print("ok: %d threads x %d rounds" % (THREADS, ROUNDS))
sys.exit(bool(errors))
