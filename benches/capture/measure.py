#!/usr/bin/env python3
"""Time and memory of `pgwhy show` on a large capture, beside tshark with a pgsql filter.

    cargo build --release
    benches/capture/measure.py [--size 1000] [--connections 10000] [--file /tmp/large.pcap]

Makes the capture (Ethernet, microseconds, connections interleaved), reads it with both, and prints what
they took. Every 20th login fails.
"""

import argparse
import json
import os
import struct
import subprocess
import time

CONCURRENT = 200


def message(tag, body):
    return tag + struct.pack("!I", len(body) + 4) + body


STARTUP_BODY = struct.pack("!I", 196608) + b"user\0app\0database\0shop\0application_name\0psql\0\0"
STARTUP = struct.pack("!I", len(STARTUP_BODY) + 4) + STARTUP_BODY
CLEARTEXT = message(b"R", struct.pack("!I", 3))
PASSWORD = message(b"p", b"not-a-secret\0")
REFUSED = message(
    b"E",
    b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "app"\0Fauth.c\0L326\0Rauth_failed\0\0',
)
READY = b"".join(
    [message(b"R", struct.pack("!I", 0))]
    + [
        message(b"S", name + b"\0" + value + b"\0")
        for name, value in [(b"server_version", b"15.14"), (b"client_encoding", b"UTF8")]
    ]
    + [message(b"K", struct.pack("!II", 4711, 815)), message(b"Z", b"I")]
)
QUERY = message(b"Q", b"select * from orders where customer = 4711\0")
ROW = message(b"D", struct.pack("!HI", 1, 1383) + b"x" * 1383)
DONE = message(b"C", b"SELECT 8\0") + message(b"Z", b"I")

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class Connection:
    """Frames of one connection, one at a time."""

    def __init__(self, number, size):
        fails = number % 20 == 0
        self.ends = (
            (bytes([10, 1, number >> 8 & 255, number & 255]), 20000 + number % 40000),
            (bytes([10, 2, 0, 1]), 5432),
        )
        self.next = [number * 7919 % 2**32, number * 104729 % 2**32]
        self.frames = self.script(fails, size)

    def script(self, fails, size):
        yield self.frame(0, SYN, b"")
        yield self.frame(1, SYN | ACK, b"")
        yield self.frame(0, ACK, b"")
        yield self.frame(0, PSH | ACK, STARTUP)
        yield self.frame(1, PSH | ACK, CLEARTEXT)
        yield self.frame(0, PSH | ACK, PASSWORD)
        if fails:
            yield self.frame(1, PSH | ACK, REFUSED)
        else:
            yield self.frame(1, PSH | ACK, READY)
            sent = 0
            while sent < size:
                yield self.frame(0, PSH | ACK, QUERY)
                for _ in range(8):
                    yield self.frame(1, ACK, ROW)
                yield self.frame(1, PSH | ACK, DONE)
                yield self.frame(0, ACK, b"")
                sent += 8 * 1460 + 600
        yield self.frame(1, FIN | ACK, b"")
        yield self.frame(0, FIN | ACK, b"")
        yield self.frame(1, ACK, b"")

    def frame(self, side, flags, data):
        (source, sport), (target, dport) = self.ends[side], self.ends[1 - side]
        acked = self.next[1 - side] if flags & ACK else 0
        tcp = struct.pack("!HHIIBBHHH", sport, dport, self.next[side], acked, 0x50, flags, 65535, 0, 0)
        self.next[side] = (self.next[side] + len(data) + bool(flags & (SYN | FIN))) % 2**32
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), 1, 0x4000, 64, 6, 0) + source + target
        return b"\2" * 12 + b"\x08\0" + ip + tcp + data


def make(path, connections, size):
    each = size // connections
    waiting = iter(range(1, connections + 1))
    running, now, written = [], 1_795_238_700_000_000, 0
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        while True:
            while len(running) < CONCURRENT and (number := next(waiting, None)) is not None:
                running.append(Connection(number, each))
            if not running:
                break
            still = []
            for connection in running:
                frame = next(connection.frames, None)
                if frame is None:
                    continue
                still.append(connection)
                now += 7
                file.write(struct.pack("<IIII", now // 10**6, now % 10**6, len(frame), len(frame)) + frame)
                written += 1
            running = still
    return written


def measure(name, command):
    before = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: process.stdout.read(1 << 20), b""))
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    took = time.monotonic() - before
    row = {
        "what": name,
        "seconds": round(took, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "lines": lines,
    }
    print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="megabytes")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--file", default="/tmp/pgwhy-large.pcap")
    parser.add_argument("--pgwhy", default="target/release/pgwhy")
    parser.add_argument("--keep", action="store_true", help="leave the capture there")
    options = parser.parse_args()
    frames = make(options.file, options.connections, options.size * 1_000_000)
    length = os.path.getsize(options.file)
    print(json.dumps({"file": length, "packets": frames, "connections": options.connections}), flush=True)
    try:
        measure("pgwhy show", [options.pgwhy, "show", "--format", "json", options.file])
        measure("tshark -Y pgsql", ["tshark", "-r", options.file, "-Y", "pgsql"])
    finally:
        if not options.keep:
            os.remove(options.file)


if __name__ == "__main__":
    main()
