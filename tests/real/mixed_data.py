#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Write MEGABYTES of data that compresses here well and there badly, the same every time.

usage: mixed_data.py FILE [MEGABYTES]
"""
import random
import sys

rng = random.Random(20261120)
words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randrange(2, 11))) for _ in range(3000)]
with open(sys.argv[1], "wb") as f:
    for block in range((int(sys.argv[2]) if len(sys.argv) > 2 else 40) * 4):
        kind = block % 4
        if kind == 0:
            data = rng.randbytes(1 << 18)
        elif kind == 1:
            data = b" ".join(rng.choices(words, k=50000))
        elif kind == 2:
            data = bytes([rng.randrange(256)]) * (1 << 18)
        else:
            piece = rng.randbytes(rng.randrange(20, 5000))
            data = piece * ((1 << 18) // len(piece) + 1)
        f.write((data + b"\0" * (1 << 18))[:1 << 18])
