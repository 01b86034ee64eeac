#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""200 Python threads that use queues, locks, events, conditions, semaphores, barriers and
sockets, and check every result. Exit status 0 and the word "ok" mean that all was right.

usage: threads200.py [THREADS [ROUNDS]]
"""
import concurrent.futures
import hashlib
import os
import queue
import random
import socket
import sys
import threading
import time

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 20
errors = []
errors_lock = threading.Lock()


def expect(what, got, want):
    if got != want:
        with errors_lock:
            errors.append("%s: got %r, expected %r" % (what, got, want))


def guarded(fn):
    def run(*args):
        try:
            fn(*args)
        except BaseException as e:  # a thread that dies silently would look like success
            with errors_lock:
                errors.append("%s%r: %r" % (fn.__name__, args[:1], e))
    return run


def run_all(name, fn, n=THREADS):
    """n threads of fn(i), all joined; each must have been seen alive by itself."""
    threads = [threading.Thread(target=guarded(fn), args=(i,), name="%s-%d" % (name, i))
               for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    expect(name + ": alive after join", sum(t.is_alive() for t in threads), 0)


def test_all_at_once():
    barrier = threading.Barrier(THREADS)
    local = threading.local()
    idents = set()
    serials = []
    lock = threading.Lock()

    def body(i):
        local.value = i
        with lock:
            idents.add(threading.get_ident())
        for _ in range(3):
            serials.append(barrier.wait())
            expect("thread-local", local.value, i)

    run_all("barrier", body)
    expect("distinct idents", len(idents), THREADS)
    expect("barrier positions", sorted(serials), sorted(list(range(THREADS)) * 3))


def test_locks():
    lock, rlock = threading.Lock(), threading.RLock()
    sem = threading.Semaphore(5)
    state = {"plain": 0, "nested": 0, "inside": 0, "most": 0}

    def body(i):
        for r in range(ROUNDS):
            with lock:
                v = state["plain"]
                if r % 5 == 0:
                    time.sleep(0)
                state["plain"] = v + 1
            with rlock:
                with rlock:
                    state["nested"] += 1
            with sem:
                with lock:
                    state["inside"] += 1
                    state["most"] = max(state["most"], state["inside"])
                if r % 7 == 0:
                    time.sleep(0.0005)
                with lock:
                    state["inside"] -= 1
            if lock.acquire(timeout=60):
                lock.release()
            else:
                raise RuntimeError("timed out on a free lock")

    run_all("locks", body)
    expect("lock counter", state["plain"], THREADS * ROUNDS)
    expect("rlock counter", state["nested"], THREADS * ROUNDS)
    expect("semaphore inside", state["inside"], 0)
    expect("semaphore limit kept", state["most"] <= 5, True)


def test_events():
    events = [threading.Event() for _ in range(THREADS + 1)]
    order = []

    def body(i):
        if not events[i].wait(120):
            raise RuntimeError("event lost")
        order.append(i)
        events[i + 1].set()

    threads = [threading.Thread(target=guarded(body), args=(i,)) for i in range(THREADS)]
    for t in reversed(threads):
        t.start()
    events[0].set()
    expect("event chain", events[THREADS].wait(120), True)
    for t in threads:
        t.join()
    expect("event order", order, list(range(THREADS)))
    t0 = time.monotonic()
    expect("event timeout", threading.Event().wait(0.05), False)
    expect("event timeout not early", time.monotonic() - t0 >= 0.049, True)


def test_condition():
    cond = threading.Condition()
    state = {"turn": 0}
    n = min(THREADS, 40)    # every notify wakes all who wait

    def body(i):
        for r in range(3):
            with cond:
                if not cond.wait_for(lambda: state["turn"] == r * n + i, 120):
                    raise RuntimeError("turn never came")
                state["turn"] += 1
                cond.notify_all()

    run_all("condition", body, n)
    expect("condition turns", state["turn"], 3 * n)


def test_queues():
    work, done = queue.Queue(maxsize=17), queue.Queue()
    half = THREADS // 2
    items = 25

    def body(i):
        if i < half:
            for k in range(items):
                work.put((i, k, hashlib.sha256(b"%d-%d" % (i, k)).hexdigest()))
        else:
            while True:
                item = work.get()
                if item is None:
                    return
                a, k, digest = item
                expect("digest", hashlib.sha256(b"%d-%d" % (a, k)).hexdigest(), digest)
                done.put((a, k))
                work.task_done()

    threads = [threading.Thread(target=guarded(body), args=(i,)) for i in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads[:half]:
        t.join()
    work.join()
    for _ in threads[half:]:
        work.put(None)
    for t in threads[half:]:
        t.join()
    got = sorted(done.get_nowait() for _ in range(done.qsize()))
    expect("queue items", got, sorted((i, k) for i in range(half) for k in range(items)))


def recv_exactly(s, n):
    parts = []
    while n:
        b = s.recv(min(n, 65536))
        if not b:
            raise RuntimeError("connection ended early")
        parts.append(b)
        n -= len(b)
    return b"".join(parts)


def test_sockets():
    """Half of the threads are servers on one listening socket, half are clients."""
    half = THREADS // 2
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(half)
    address = listener.getsockname()
    served = []

    def body(i):
        if i < half:
            conn, _ = listener.accept()
            with conn:
                while True:
                    head = conn.recv(4, socket.MSG_WAITALL)
                    if not head:
                        break
                    data = recv_exactly(conn, int.from_bytes(head, "big"))
                    conn.sendall(hashlib.sha256(data).digest() + data[::-1])
                served.append(i)
        else:
            rng = random.Random(i)
            with socket.create_connection(address, timeout=120 if i % 2 else None) as s:
                for _ in range(5):
                    data = rng.randbytes(rng.choice((1, 100, 5000, 300000)))
                    s.sendall(len(data).to_bytes(4, "big") + data)
                    reply = recv_exactly(s, 32 + len(data))
                    expect("socket digest", reply[:32], hashlib.sha256(data).digest())
                    expect("socket echo", reply[32:] == data[::-1], True)

    run_all("sockets", body, 2 * half)
    listener.close()
    expect("connections served", sorted(served), list(range(half)))

    pairs = [socket.socketpair() for _ in range(THREADS // 2)]

    def ring(i):
        # A token runs through the ring of socket pairs.
        got = pairs[i][1].recv(8)
        pairs[(i + 1) % len(pairs)][0].sendall((int.from_bytes(got, "big") + 1).to_bytes(8, "big"))

    threads = [threading.Thread(target=guarded(ring), args=(i,)) for i in range(1, len(pairs))]
    for t in threads:
        t.start()
    pairs[1][0].sendall((0).to_bytes(8, "big"))
    expect("ring", int.from_bytes(pairs[0][1].recv(8), "big"), len(pairs) - 1)
    for t in threads:
        t.join()
    for a, b in pairs:
        a.close()
        b.close()


def test_pipes():
    """os.pipe and blocking reads of text through buffered files."""
    n = min(THREADS, 60)
    pipes = [os.pipe() for _ in range(n)]

    def reader(i):
        with os.fdopen(pipes[i][0], "r") as f:
            expect("pipe lines", [line for line in f],
                   ["line %d of %d\n" % (k, i) for k in range(50)])

    threads = [threading.Thread(target=guarded(reader), args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    writers = [os.fdopen(w, "w") for _, w in pipes]
    for k in range(50):
        for i, w in enumerate(writers):
            w.write("line %d of %d\n" % (k, i))
            if k % 10 == 0:
                w.flush()
    for w in writers:
        w.close()
    for t in threads:
        t.join()


def test_pool():
    with concurrent.futures.ThreadPoolExecutor(max_workers=THREADS) as pool:
        futures = [pool.submit(lambda n: sum(k * k for k in range(n)), n) for n in range(500)]
        for n, f in enumerate(futures):
            expect("pool result", f.result(120), (n - 1) * n * (2 * n - 1) // 6)
    timers = []
    fired = []
    for k in range(20):
        t = threading.Timer(0.01 + 0.001 * k, fired.append, (k,))
        timers.append(t)
        t.start()
    for t in timers:
        t.join()
    expect("timers", sorted(fired), list(range(20)))


def main():
    t0 = time.monotonic()
    for test in (test_all_at_once, test_locks, test_events, test_condition, test_queues,
                 test_sockets, test_pipes, test_pool):
        t1 = time.monotonic()
        test()
        print("%-18s %6.2f s" % (test.__name__, time.monotonic() - t1), flush=True)
        if errors:
            break
    expect("threads left", threading.active_count(), 1)
    for e in errors[:20]:
        print("error:", e)
    if errors:
        return 1
    print("ok: %d threads, %.2f s" % (THREADS, time.monotonic() - t0))
    return 0


sys.exit(main())
