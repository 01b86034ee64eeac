# SPDX-License-Identifier: MIT
# 32 connections fetch files of a folder in turn, with keep-alive, and compare each body. Prints "ok: ...".
# usage: http_client.py PORT FOLDER [REQUESTS [CONNECTIONS]]
import http.client
import os
import sys
import threading

port, folder = int(sys.argv[1]), sys.argv[2]
requests = int(sys.argv[3]) if len(sys.argv) > 3 else 20
connections = int(sys.argv[4]) if len(sys.argv) > 4 else 32
want = {}
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as f:
        want[name] = f.read()
names = list(want)
wrong = []


def client(me):
    try:
        conn = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for k in range(requests):
            name = names[(me + k) % len(names)]
            conn.request("GET", "/" + name)
            r = conn.getresponse()
            body = r.read()
            if r.status != 200 or body != want[name]:
                wrong.append((me, k, name, r.status, len(body), len(want[name])))
                return
        conn.request("GET", "/no-such-file")
        r = conn.getresponse()
        r.read()
        if r.status != 404:
            wrong.append((me, "404", r.status))
    except OSError as e:
        wrong.append((me, repr(e)))


threads = [threading.Thread(target=client, args=(i,)) for i in range(connections)]
for t in threads:
    t.start()
for t in threads:
    t.join()
if wrong:
    print("wrong:", wrong[:10])
    sys.exit(1)
print("ok: %d requests" % (connections * requests))
