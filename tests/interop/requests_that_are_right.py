"""Goal: every command does what the protocol says, at any offset, of any size, however its bytes are cut.

Method: raw requests against a model of the file kept in memory.
"""
import os
import random

from support import check, equal, fewer, run
from wire import (CACHE, DISC, ENOTSUP, FAST_ZERO, FLUSH, FUA, MAX_PAYLOAD, MIB, NO_HOLE, READ, TRIM, WRITE, ZEROES, Client,
                  Sender, pattern, request, write_request)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def at_every_odd_place(case):
    """Byte granular: no alignment is asked of a client that did not ask for block sizes."""
    size = 3 * 4096 + 17
    model = bytearray(pattern(size))
    path = case.disk(size, data=model)
    case.serve(path)
    rng = random.Random(17)
    with Client(case.socket).go() as client:
        equal(client.size, size, "size")
        for n in range(fewer(600)):
            offset = rng.randrange(size)
            length = rng.randrange(1, min(size - offset, 5000) + 1)
            kind = rng.choice((READ, WRITE, ZEROES, READ))
            if kind == READ:
                equal(client.read(offset, length), bytes(model[offset : offset + length]), f"step {n}: read {length} at {offset}")
            elif kind == WRITE:
                data = rng.randbytes(length)
                client.write(offset, data, rng.choice((0, FUA)))
                model[offset : offset + length] = data
            else:
                equal(client.command(ZEROES, offset, length, rng.choice((0, NO_HOLE, FUA))), 0, f"step {n}: zeroes")
                model[offset : offset + length] = bytes(length)
        client.disconnect()
    check(content(path) == bytes(model), "the file is not what the requests made of it")


def one_byte_at_both_ends(case):
    size = MIB + 1
    case.serve(case.disk(size))
    with Client(case.socket).go() as client:
        for offset in (0, size - 1, size - 2, 4095, 4096):
            client.write(offset, b"x")
            equal(client.read(offset, 1), b"x", f"byte {offset}")


def the_largest_payload(case):
    """64 MiB in one request, in and out."""
    path = case.disk(MAX_PAYLOAD + 4096)
    case.serve(path)
    data = pattern(MAX_PAYLOAD)
    with Client(case.socket).go() as client:
        sender = Sender(client, [write_request(1000, data)])
        equal(client.reply(), (0, 0), "write of 64 MiB")
        sender.join()
        check(client.read(1000, MAX_PAYLOAD) == data, "64 MiB came back different")
        client.disconnect()


def zeroes_beyond_the_payload_limit(case):
    """Effect lengths carry no payload and have no such limit."""
    size = 3 * MAX_PAYLOAD
    path = case.disk(size, data=b"\xaa" * MIB)
    case.serve(path)
    with Client(case.socket).go() as client:
        client.write(size - 1, b"e")
        equal(client.command(ZEROES, 1, size - 2), 0, "zeroes of nearly everything")
        equal(client.read(0, MIB), b"\xaa" + bytes(MIB - 1), "the beginning")
        equal(client.read(size - 2, 2), b"\0e", "the end")
        equal(client.command(TRIM, 0, size), 0, "trim of everything")


def allocated(path):
    return os.stat(path).st_blocks * 512


def zeroes_with_and_without_holes(case):
    """NO_HOLE keeps the space. Without it a hole may be made. In each case it reads as zeroes."""
    path = case.disk(4 * MIB, data=b"\xaa" * 4 * MIB)
    server = case.serve(path)
    with Client(case.socket).go() as client:
        client.flush()
        full = allocated(path)
        equal(client.command(ZEROES, 0, MIB, NO_HOLE), 0, "NO_HOLE")
        client.flush()
        check(allocated(path) >= full, f"NO_HOLE freed space: {full} before, {allocated(path)} now")
        equal(client.command(ZEROES, MIB, MIB), 0, "zeroes")
        error = client.command(ZEROES, 2 * MIB, MIB, FAST_ZERO)
        check(error in (0, ENOTSUP), f"FAST_ZERO: error {error}")
        zeroed = 3 * MIB if error == 0 else 2 * MIB
        equal(client.read(0, zeroed).strip(b"\0"), b"", "zeroes")
        equal(client.read(zeroed, 4 * MIB - zeroed), b"\xaa" * (4 * MIB - zeroed), "the rest")
        error = client.command(ZEROES, 3 * MIB + 5, 4096, FAST_ZERO | NO_HOLE | FUA)
        check(error in (0, ENOTSUP), f"unaligned FAST_ZERO: error {error}")
        want = bytes(4096) if error == 0 else b"\xaa" * 4096
        equal(client.read(3 * MIB + 4, 4098), b"\xaa" + want + b"\xaa", "around the unaligned FAST_ZERO")
    equal(os.stat(path).st_size, 4 * MIB, "size of the file")
    server.stop()


def trim_then_read(case):
    """What a trimmed range holds is undefined by the protocol, but it can be read, and its neighbours stay."""
    path = case.disk(4 * MIB, data=b"\xbb" * 4 * MIB)
    case.serve(path)
    with Client(case.socket).go() as client:
        for offset, length, flags in ((MIB, MIB, 0), (5, 100, 0), (3 * MIB + 1, 8191, FUA), (4 * MIB - 1, 1, 0)):
            equal(client.command(TRIM, offset, length, flags), 0, f"trim {length} at {offset}")
            check(set(client.read(offset, length)) <= {0, 0xBB}, f"trimmed range at {offset}: strange bytes")
            if offset + length < 4 * MIB:
                equal(client.read(offset + length, 1), b"\xbb", f"after the range at {offset}")
            equal(client.read(offset - 1, 1), b"\xbb", f"before the range at {offset}")
        client.write(MIB + 10, b"again")
        equal(client.read(MIB + 10, 5), b"again", "a write into a trimmed range")
    equal(os.stat(path).st_size, 4 * MIB, "size of the file")


def flush_and_cache(case):
    case.serve(case.disk(4 * MIB))
    with Client(case.socket).go() as client:
        client.flush()
        client.write(0, b"x" * 4096)
        client.flush()
        for offset, length in ((0, 4096), (1, 1), (0, 4 * MIB), (4 * MIB - 1, 1)):
            equal(client.command(CACHE, offset, length), 0, f"cache {length} at {offset}")
        equal(client.command(FLUSH, flags=FUA), 0, "FUA on FLUSH, allowed on every command")
        equal(client.command(CACHE, 0, 512, FUA), 0, "FUA on CACHE")
        equal(client.command(READ, 0, 2, FUA), 0, "FUA on READ")
        equal(client.recv(2), b"xx", "its data")


def cut_at_every_byte(case):
    """Requests split at every byte boundary: two sends, the second after the server took the first."""
    case.serve(case.disk(MIB))
    raw = write_request(100, b"abcdefgh", 1) + request(FLUSH, handle=2) + write_request(103, b"XYZ", 3)
    with Client(case.socket).go() as client:
        for cut in range(1, len(raw)):
            client.send_taken(raw[:cut])
            client.send(raw[cut:])
            equal(sorted(client.reply() for _ in range(3)), [(1, 0), (2, 0), (3, 0)], f"replies, cut at {cut}")
            check(client.read(100, 8)[:3] == b"abc", f"cut at {cut}")
        client.disconnect()


def byte_by_byte(case):
    case.serve(case.disk(MIB))
    with Client(case.socket).go() as client:
        client.drip(write_request(5, b"slowly but surely", 1))
        equal(client.reply(), (1, 0), "write")
        client.drip(request(READ, 5, 17, 2))
        equal(client.reply(), (2, 0), "read")
        equal(client.recv(17), b"slowly but surely", "data")
        client.drip(request(DISC))
        client.expect_end("after DISC")


def many_in_one_segment(case):
    """Hundreds of requests in one send, the last one cut in the middle of its header."""
    case.serve(case.disk(MIB))
    with Client(case.socket).go() as client:
        raw = b"".join(write_request(n * 100, n.to_bytes(2, "big") * 50, n) for n in range(300)) + request(READ, 0, 10, 999)
        sender = Sender(client, [raw[:-9]])
        equal(sorted(client.reply() for _ in range(300)), [(n, 0) for n in range(300)], "replies")
        sender.join()
        client.send(raw[-9:])
        equal(client.reply(), (999, 0), "the read")
        client.recv(10)
        for n in (0, 1, 150, 299):
            equal(client.read(n * 100, 100), n.to_bytes(2, "big") * 50, f"block {n}")


def leaving_without_a_word(case):
    """A client may close without DISC, at any byte of a request."""
    server = case.serve(case.disk(MIB))
    fds = server.fds()
    raw = write_request(0, b"z" * 40)
    for cut in range(len(raw)):
        client = Client(case.socket).go()
        client.send(raw[:cut])
        client.close()
    server.fds_return_to(fds, "after clients that left")
    with Client(case.socket).go() as client:
        client.disconnect()
    server.stop()


run(at_every_odd_place, one_byte_at_both_ends, the_largest_payload, zeroes_beyond_the_payload_limit,
    zeroes_with_and_without_holes, trim_then_read, flush_and_cache, cut_at_every_byte, byte_by_byte, many_in_one_segment,
    leaving_without_a_word)
