# SPDX-License-Identifier: MIT
# What CPython's own test runner wrote (--junit-xml), one line a test: "name result", or of two such files the differences.
#
# usage: cpython_results.py PLAIN WEFT      prints "name plain-result weft-result"; exit status 1 if there is any
import sys
from xml.etree import ElementTree


def results(path):
    found = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        result = "ok" if case.get("status") == "run" else "skipped"
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                result = child.tag
        name = case.get("name")
        # one that failed in several ways, by subTest or in tearDown too, is there several times
        if found.get(name, "ok") in ("ok", "skipped"):
            found[name] = result
    return found


plain, weft = results(sys.argv[1]), results(sys.argv[2])
different = sorted(name for name in plain.keys() | weft.keys() if plain.get(name) != weft.get(name))
for name in different:
    print(name, plain.get(name, "missing"), weft.get(name, "missing"))
sys.exit(1 if different or not plain else 0)
