#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A server of the `servers` benchmark: Python's own ThreadingHTTPServer, a thread per connection.

usage: httpd.py PORT
"""

import http.server
import sys

BODY = bytes(1000)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1       # head and body in one write; else Nagle's algorithm is what is measured

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
