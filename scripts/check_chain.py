#!/usr/bin/env python3
"""Checks Tallytree's hash chain from a dump, with nothing but Python's standard library and nothing of Tallytree's.

    check_chain.py DUMP [--expect POSITION:HASH ...] [--expect-file FILE ...]

DUMP is the log as /audit/events streams it (NDJSON; "-" reads standard input), or the SQLite file ledger.db itself.
An anchor is what `tallytree head` printed some day: with it a log that was cut, or rewritten and hashed anew, is told
from the one that was there then. A file of anchors has one a line; "#" begins a remark.

    hash = SHA-256(previous hash, 32 bytes, then the line)

the line being position, aggregate_type, aggregate_id, sequence, event_type, event_version, recorded_at, payload and
metadata as they are stored, joined by newlines; the hash before the first event is 32 zero bytes.

Ends with 0 where the chain holds from the first event to the last and every anchor stands, with 1 where not (the first
break is named by its position), with 2 where the dump cannot be read. A dump that begins later than at position 1 holds
where its first event follows an anchor: give the one of the position before.
"""

import argparse
import hashlib
import json
import sqlite3
import sys

COLUMNS = ("position", "aggregate_type", "aggregate_id", "sequence", "event_type", "event_version", "recorded_at",
           "payload", "metadata")


class Broken(Exception):
    """The chain does not hold, or an anchor does not stand."""


class Unreadable(Exception):
    """This is no dump."""


def members(line):
    """The members of a JSON object, each as the very text that stands in it: what was hashed is never written anew."""
    decoder = json.JSONDecoder()
    end = len(line)

    def skip(at, what=""):
        while at < end and line[at] in " \t\r\n" + what:
            at += 1
        return at

    found = {}
    at = skip(0)
    if at >= end or line[at] != "{":
        raise ValueError("a line that is no object")
    at = skip(at + 1)
    while line[at] != "}":
        name, at = decoder.raw_decode(line, at)
        at = skip(at, ":")
        value, after = decoder.raw_decode(line, at)
        if name in found:
            raise ValueError(f"{name} twice")
        found[name] = line[at:after] if name in ("payload", "metadata") else value
        at = skip(after, ",")
    return found


def from_lines(lines):
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = members(line)
            yield [event[name] for name in COLUMNS], bytes.fromhex(event["hash"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Unreadable(f"line {number}: {error!r}") from error


def from_sqlite(path):
    ledger = sqlite3.connect(path)
    # Whatever bytes are there are what is hashed.
    ledger.text_factory = lambda value: value.decode("utf-8", "surrogateescape")
    ledger.execute("pragma query_only = on")
    yield from ((row[:9], row[9]) for row in ledger.execute(
        "select " + ", ".join(COLUMNS) + ", hash from events order by position"))
    # The store's own note of where its log ends: that of a log that was cut.
    last = ledger.execute("select position, hash from events order by position desc limit 1").fetchone()
    head = ledger.execute("select position, hash from head").fetchone()
    if head != (last or (0, bytes(32))):
        raise Broken(f"the store says that its log ends at {head[0]}: the end was cut or added to")


def events_of(path):
    if path == "-":
        return from_lines(sys.stdin)
    with open(path, "rb") as file:
        is_sqlite = file.read(16) == b"SQLite format 3\0"
    return from_sqlite(path) if is_sqlite else from_lines(open(path, encoding="utf-8"))


def anchors_of(arguments):
    texts = list(arguments.expect)
    for path in arguments.expect_file:
        with open(path, encoding="utf-8") as file:
            texts += [line for line in (line.split("#")[0].strip() for line in file) if line]
    anchors = {}
    for text in texts:
        position, _, digits = text.partition(":")
        try:
            anchor = int(position), bytes.fromhex(digits)
        except ValueError as error:
            raise Unreadable(f"{text!r} is no POSITION:HASH") from error
        if len(anchor[1]) != 32:
            raise Unreadable(f"{text!r} is no POSITION:HASH")
        if anchors.setdefault(*anchor) != anchor[1]:
            raise Broken(f"two different hashes were written down for {anchor[0]}")
    return anchors


def check(events, anchors):
    """Follows the chain; where it ends."""
    zero = bytes(32)
    if anchors.pop(0, zero) != zero:
        raise Broken("what was written down for position 0 is of no log")
    position, previous = 0, zero
    for columns, stored in events:
        if position == 0 and columns[0] != 1 and columns[0] - 1 in anchors:
            # A part of a log, after an event whose hash is known.
            position = columns[0] - 1
            previous = anchors[position]
            anchors = {later: hash for later, hash in anchors.items() if later > position}
        if columns[0] != position + 1:
            raise Broken(f"after position {position} comes {columns[0]}: an event is missing, or out of its place")
        position += 1
        line = "\n".join(map(str, columns)).encode("utf-8", "surrogateescape")
        previous = hashlib.sha256(previous + line).digest()
        if previous != stored:
            raise Broken(f"the chain breaks at {position}: this event, or one before it, is not what was hashed")
        if anchors.pop(position, previous) != previous:
            raise Broken(f"at {position} the hash is not the one that was written down: this is another history")
    if anchors:
        raise Broken(f"the log ends at {position}, and {max(anchors)} was written down: its end was cut")
    return position, previous


def main():
    parser = argparse.ArgumentParser(description="Checks the hash chain of a Tallytree log from a dump.")
    parser.add_argument("dump", help="NDJSON of /audit/events, '-' for standard input, or the SQLite file ledger.db")
    parser.add_argument("--expect", action="append", default=[], metavar="POSITION:HASH")
    parser.add_argument("--expect-file", action="append", default=[], metavar="FILE")
    arguments = parser.parse_args()
    try:
        position, hash = check(events_of(arguments.dump), anchors_of(arguments))
    except Broken as broken:
        print(f"BROKEN: {broken}")
        return 1
    except (Unreadable, OSError, sqlite3.Error, UnicodeDecodeError) as error:
        print(f"{arguments.dump}: {error}", file=sys.stderr)
        return 2
    print(f"the chain holds: {position}:{hash.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
