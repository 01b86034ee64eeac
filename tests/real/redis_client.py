#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A redis client that verifies values: several threads with pipelines of SET and GET on keys of
their own, a counter and a list that all share.

usage: redis_client.py PORT [THREADS [ROUNDS]]
"""
import random
import socket
import sys
import threading

PORT = int(sys.argv[1])
THREADS = int(sys.argv[2]) if len(sys.argv) > 2 else 12
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 60
errors = []


class Client:
    def __init__(self):
        self.sock = socket.create_connection(("127.0.0.1", PORT), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise RuntimeError("connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            n = int(rest)
            if n < 0:
                return None
            data = self.file.read(n + 2)
            return data[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"-":
            raise RuntimeError(rest.decode())
        return rest

    def pipeline(self, commands):
        out = []
        for words in commands:
            out.append(b"*%d\r\n" % len(words))
            out.extend(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        self.sock.sendall(b"".join(out))
        return [self.reply() for _ in commands]


def body(i):
    rng = random.Random(i)
    c = Client()
    model = {}
    for r in range(ROUNDS):
        commands, want = [], []
        for _ in range(rng.randrange(1, 30)):
            key = b"t%d-%d" % (i, rng.randrange(25))
            what = rng.randrange(8)
            if what < 3:
                model[key] = rng.randbytes(rng.choice((0, 3, 100, 4000, 60000)))
                commands.append((b"SET", key, model[key]))
                want.append(b"OK")
            elif what < 6:
                commands.append((b"GET", key))
                want.append(model.get(key))
            elif what < 7:
                commands.append((b"DEL", key))
                want.append(1 if model.pop(key, None) is not None else 0)
            else:
                commands.append((b"INCR", b"own-%d" % i))
                counted[i] += 1
                want.append(counted[i])
        if c.pipeline(commands) != want:
            raise RuntimeError("thread %d, round %d: wrong replies" % (i, r))
        c.pipeline([(b"INCR", b"shared"), (b"RPUSH", b"list", b"%d:%d" % (i, r))])


def guarded(i):
    try:
        body(i)
    except BaseException as e:
        errors.append("thread %d: %r" % (i, e))


counted = [0] * THREADS
main = Client()
main.pipeline([(b"DEL", b"shared", b"list")] + [(b"DEL", b"own-%d" % i) for i in range(THREADS)])
threads = [threading.Thread(target=guarded, args=(i,)) for i in range(THREADS)]
for t in threads:
    t.start()
for t in threads:
    t.join()
total, pushed = main.pipeline([(b"GET", b"shared"), (b"LRANGE", b"list", b"0", b"-1")])
if int(total or 0) != THREADS * ROUNDS:
    errors.append("counter is %r, expected %d" % (total, THREADS * ROUNDS))
if sorted(pushed) != sorted(b"%d:%d" % (i, r) for i in range(THREADS) for r in range(ROUNDS)):
    errors.append("the list has %d wrong entries" % len(pushed))
for i in range(THREADS):    # what one client pushed is in its order
    mine = [int(e.split(b":")[1]) for e in pushed if e.startswith(b"%d:" % i)]
    if mine != sorted(mine):
        errors.append("order of thread %d" % i)
for e in errors[:10]:
    print("error:", e)
if not errors:
    print("ok: %d threads x %d rounds" % (THREADS, ROUNDS))
sys.exit(bool(errors))
