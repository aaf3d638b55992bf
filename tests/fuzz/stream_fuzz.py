"""Mutation fuzz of a whole client stream: handshake and requests, cut, repeated, flipped and joined wrong.

Goal: the server never dies, leaks no descriptor, and a sane client works afterwards.
Method: N seconds of mutated streams, most to a server on a Unix socket, some to a fresh server on --stdio. The seed is
printed. stream_fuzz.py PROGRAM [SECONDS [SEED]]       a stream that killed a server is kept in a file, whose name is
printed stream_fuzz.py PROGRAM --replay FILE          sends that stream again
"""
import os
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "interop"))
from support import DEADLINE, Failure, check, die_with_parent, run_one  # noqa: E402
from wire import (DISC, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, connected, go_data,  # noqa: E402
                  option_request, request, sane, write_request)

SIZE = 1 << 20
CORNERS = (0, 1, 2, 3, 7, 8, 27, 28, 255, 256, 4095, 4096, 4097, 65535, 65536, SIZE - 1, SIZE, SIZE + 1, 2**26, 2**26 + 1, 2**31 - 1,
           2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def messages(rng):
    """A valid stream as a list of messages: the mutations work on messages and on bytes."""
    parts = [struct.pack(">I", 3)]
    names = ("", "disk.img", "none", "x" * rng.choice((1, 4096, 4097)))
    for _ in range(rng.randrange(4)):
        option = rng.choice((OPT_LIST, OPT_INFO, OPT_INFO, 8, 10, 99))
        infos = [rng.randrange(6) for _ in range(rng.randrange(5))]
        parts.append(option_request(option, go_data(rng.choice(names), infos) if option == OPT_INFO else b""))
    end = rng.randrange(10)
    if end == 0:
        parts.append(option_request(OPT_ABORT))
    elif end == 1:
        parts.append(option_request(OPT_EXPORT_NAME, b"disk.img"))
    else:
        parts.append(option_request(OPT_GO, go_data("", (0, 1, 2, 3))))
    for n in range(rng.randrange(40)):
        parts.append(one_request(rng, n))
    if rng.randrange(2):
        parts.append(request(DISC))
    return parts


def one_request(rng, handle):
    length = rng.choice((1, 511, 512, 4096, 65536, rng.randrange(1, 20000)))
    offset = rng.randrange(SIZE) if rng.randrange(3) else rng.choice(CORNERS)
    flags = rng.choice((0, 0, 0, 1, 2, 16, 1 << rng.randrange(16)))
    command = rng.choice((0, 0, 1, 1, 3, 4, 5, 6, 7, rng.randrange(12)))
    if command == 1:
        return write_request(offset, rng.randbytes(length), handle, flags)
    return request(command, offset, length, handle, flags)


def mutate_messages(rng, parts):
    for _ in range(rng.choice((0, 0, 1, 2))):
        i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
        kind = rng.randrange(4)
        if kind == 0:
            parts[i], parts[j] = parts[j], parts[i]
        elif kind == 1:
            parts.insert(i, parts[j])
        elif kind == 2:
            parts[i] = parts[i][: rng.randrange(len(parts[i]) + 1)]
        elif len(parts) > 1:
            del parts[i]


def mutate_bytes(rng, raw):
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        if not raw:
            break
        at = rng.randrange(min(len(raw), rng.choice((40, 200, len(raw)))))
        kind = rng.randrange(5)
        if kind == 0:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            width = rng.choice((1, 2, 4, 8))
            raw[at : at + width] = (rng.choice(CORNERS) & (256**width - 1)).to_bytes(width, "big")
        elif kind == 2:
            del raw[at : at + rng.randrange(1, 30)]
        elif kind == 3:
            raw[at:at] = rng.randbytes(rng.randrange(1, 30))
        else:
            del raw[at:]


def stream(rng):
    parts = messages(rng)
    mutate_messages(rng, parts)
    raw = bytearray(b"".join(parts))
    if rng.randrange(8):
        mutate_bytes(rng, raw)
    return bytes(raw)


def converse(sock, raw, rng):
    """Sends it in pieces while reading what comes, then leaves: politely, by closing, or after the server has."""
    sock.setblocking(False)
    at, end, half_closed = 0, time.monotonic() + DEADLINE, False
    patience = rng.choice((0, 0.002, 0.02))
    while time.monotonic() < end:
        sending = at < len(raw)
        if not sending and not half_closed and rng.randrange(2):
            sock.shutdown(socket.SHUT_WR)
            half_closed = True
        readable, writable, _ = select.select([sock], [sock] if sending else [], [], DEADLINE if half_closed or sending else patience)
        if readable and not sock.recv(1 << 18):
            return
        if writable:
            at += sock.send(raw[at : at + rng.choice((1, 7, 28, 100, 5000, 1 << 20))])
        if not readable and not writable:
            return
    raise Failure(f"the server neither takes, sends nor ends for {DEADLINE} s")


def send_stream(sock, raw, rng):
    try:
        converse(sock, raw, rng)
    except (BrokenPipeError, ConnectionResetError):
        pass  # Being thrown out is a right answer.
    finally:
        sock.close()


def on_stdio(case, raw, rng):
    ours, theirs = socket.socketpair()
    with open(case.path("stdio.log"), "wb") as log:
        popen = subprocess.Popen([case.program, "serve", "--stdio", "--handshake-timeout", "2", case.path("disk.img")], stdin=theirs,
                                 stdout=theirs, stderr=log, preexec_fn=die_with_parent)
    child = case.adopt(popen, case.path("stdio.log"))
    theirs.close()
    send_stream(ours, raw, rng)
    code = child.wait(DEADLINE, "--stdio after its client left")
    case.children.remove(child)
    check(code >= 0, f"--stdio ended with {code}: {child.log()[-2000:]}")
    for word in ("Sanitizer", "runtime error:", "CHECK"):
        check(word not in child.log(), f"--stdio said: {child.log()[-2000:]}")


def kept(raw):
    fd, path = tempfile.mkstemp(prefix="sluice-stream-", suffix=".bin")
    with os.fdopen(fd, "wb") as file:
        file.write(raw)
    return path


class Fuzz:
    def __init__(self, seconds, seed, replay):
        self.seconds, self.seed, self.replay = seconds, seed, replay

    def one(self, case, server, raw, rng, stdio):
        try:
            if stdio:
                on_stdio(case, raw, rng)
            else:
                send_stream(connected(case.socket), raw, rng)
            check(server.alive(), f"the server ended with {server.popen.poll()}")
        except Failure as failure:
            raise Failure(f"{failure}; stream kept in {kept(raw)}, seed {self.seed}") from None

    def stream_fuzz(self, case):
        disk = case.disk(SIZE)
        server = case.serve("--handshake-timeout", "2", disk)
        fds = server.fds()
        if self.replay:
            for n in range(100):
                self.one(case, server, self.replay, random.Random(n), stdio=n % 2)
            return
        print(f"seed {self.seed}, {self.seconds} s", flush=True)
        end, count = time.monotonic() + self.seconds, 0
        while time.monotonic() < end:
            rng = random.Random(f"{self.seed}/{count}")
            self.one(case, server, stream(rng), rng, stdio=count % 50 == 49)
            count += 1
            if count % 200 == 0:
                sane(case.socket)
        sane(case.socket)
        server.fds_return_to(fds, f"after {count} streams")
        server.stop()
        print(f"{count} streams")


def main():
    args = sys.argv[1:]
    if not args:
        sys.exit(__doc__)
    replay = None
    if args[1:2] == ["--replay"]:
        with open(args[2], "rb") as file:
            replay = file.read()
        args = args[:1]
    seconds = float(args[1]) if len(args) > 1 else 20
    seed = int(args[2]) if len(args) > 2 else random.SystemRandom().getrandbits(32)
    sys.exit(run_one(Fuzz(seconds, seed, replay).stream_fuzz, os.path.realpath(args[0])))


main()
