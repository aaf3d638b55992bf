"""Goal: a wrong request gets its error and the connection goes on, as long as the stream is in step; a wrong magic ends
it.

Method: raw requests, each followed by a right one; the file must not change where nothing was written.
"""
from support import SANITIZED, check, equal, run
from wire import (BLOCK_STATUS, CACHE, DF, EINVAL, ENOSPC, ENOTSUP, EOVERFLOW, EPERM, FAST_ZERO, FLUSH, FUA, MAX_PAYLOAD, MIB,
                  NO_HOLE, READ, REQ_ONE, REQUEST_MAGIC, TRIM, WRITE, ZEROES, Client, Closed, Sender, pattern, request, sane,
                  write_request)

SIZE = MIB + 333
DATA = pattern(SIZE)


def content(path):
    with open(path, "rb") as file:
        return file.read()


class Opened:
    """A client on a file of known content; at the end the file is what it was, and the connection still works."""

    def __init__(self, case, *options):
        self.path = case.disk(SIZE, data=DATA)
        self.server = case.serve(*options, self.path)
        self.case = case

    def __enter__(self):
        self.client = Client(self.case.socket).go()
        return self.client

    def __exit__(self, kind, *_):
        if kind is None:
            equal(self.client.read(777, 99), DATA[777:876], "a read on the same connection afterwards")
            self.client.disconnect()
            check(content(self.path) == DATA, "the file changed")
            sane(self.case.socket)
            self.server.stop()


def wrong_magic_ends_it(case):
    server = case.serve(case.disk(SIZE))
    for magic in (0, REQUEST_MAGIC + 1, 0x67446698, 0xFFFFFFFF, 0x21E41C71):
        with Client(case.socket).go() as client:
            client.read(0, 1)
            client.send(request(READ, 0, 512, 5, magic=magic))
            client.expect_end(f"request magic {magic:#x}")
    sane(case.socket)
    server.stop()


def unknown_commands(case):
    with Opened(case) as client:
        for command in (BLOCK_STATUS, 8, 9, 255, 0x7FFF, 0xFFFF):
            equal(client.command(command, 0, 512), EINVAL, f"command {command}")


def unknown_flags(case):
    """A WRITE with a flag that does not exist carries its payload all the same: it is consumed, and not written."""
    with Opened(case) as client:
        for flag in (1 << 5, 1 << 6, 1 << 15, 0xFFE0):
            for command in (READ, FLUSH, TRIM, CACHE, ZEROES):
                equal(client.command(command, 0, 0 if command == FLUSH else 512, flag), EINVAL, f"command {command} flags {flag:#x}")
            equal(client.error_of(write_request(0, b"w" * 70000, flags=flag | FUA)), EINVAL, f"write with flags {flag:#x}")
            equal(client.read(0, 16), DATA[:16], "read after it")


def flags_of_other_commands(case):
    with Opened(case) as client:
        equal(client.error_of(write_request(0, b"w" * 600, flags=FAST_ZERO)), EINVAL, "WRITE with FAST_ZERO")
        equal(client.error_of(write_request(0, b"w" * 600, flags=NO_HOLE)), EINVAL, "WRITE with NO_HOLE")
        equal(client.error_of(write_request(0, b"w" * 600, flags=DF)), EINVAL, "WRITE with DF")
        equal(client.command(TRIM, 0, 512, NO_HOLE), EINVAL, "TRIM with NO_HOLE")
        equal(client.command(ZEROES, 0, 512, REQ_ONE), EINVAL, "WRITE_ZEROES with REQ_ONE")


def df_without_structured_replies(case):
    """DF means something only once structured replies are negotiated, which this server does not offer."""
    with Opened(case) as client:
        equal(client.command(READ, 0, 512, DF), EINVAL, "READ with DF")


def zero_length(case):
    with Opened(case) as client:
        for offset in (0, 5, SIZE):
            equal(client.command(READ, offset, 0), EINVAL, f"read of 0 bytes at {offset}")
        for command in (WRITE, TRIM, ZEROES, CACHE):
            error = client.command(command, 0, 0)
            check(error in (0, EINVAL), f"command {command} of 0 bytes: error {error}")


BEYOND = ((SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (SIZE + 1, 1), (1 << 40, 4096), (2**63 - 1, 1), (2**63 - 512, 1024), (2**63, 512),
          (2**64 - 1, 1), (2**64 - 512, 512), (2**64 - 512, 1024), (2**64 - 1, 4096))


def reads_past_the_end(case):
    with Opened(case) as client:
        for offset, length in BEYOND:
            equal(client.command(READ, offset, length), EINVAL, f"read {length} at {offset}")
        equal(client.read(SIZE - 1, 1), DATA[-1:], "the last byte")


def writes_past_the_end(case):
    with Opened(case) as client:
        for offset, length in BEYOND:
            for flags in (0, FUA):
                equal(client.error_of(write_request(offset, b"w" * length, flags=flags)), ENOSPC, f"write {length} at {offset}")


def zeroes_and_trims_past_the_end(case):
    with Opened(case) as client:
        for offset, length in (*BEYOND, (0, 0xFFFFFFFF), (SIZE - 1, 0xFFFFFFFF), (2**64 - 1, 0xFFFFFFFF)):
            for flags in (0, NO_HOLE, FAST_ZERO, FUA):
                equal(client.command(ZEROES, offset, length, flags), ENOSPC, f"zeroes {length} at {offset} flags {flags}")
            for command in (TRIM, CACHE):
                error = client.command(command, offset, length)
                check(error in (EINVAL, ENOSPC), f"command {command}, {length} at {offset}: error {error}")


def reads_above_the_payload_limit(case):
    """On an export that is large enough, so that it is the limit that speaks."""
    server = case.serve(case.disk(256 * MIB))
    with Client(case.socket).go() as client:
        for length in (MAX_PAYLOAD + 1, 128 * MIB):
            error = client.command(READ, 0, length)
            check(error in (EINVAL, EOVERFLOW), f"read of {length}: error {error}")
        client.read(0, 4096)
        client.disconnect()
    server.stop()


def writes_above_the_payload_limit(case):
    """An error (the payload is swallowed) or an end; in no case is it stored, in the file or in memory."""
    path = case.disk(256 * MIB)
    server = case.serve(path)
    sane(case.socket)
    before, peak = server.anonymous_kib(), 0
    for length in (MAX_PAYLOAD + 1, 96 * MIB):
        client = Client(case.socket).go()
        sender = Sender(client, [write_request(0, b"\xee" * length)])
        try:
            handle, error = client.reply()
            check(handle == 0 and error in (EINVAL, EOVERFLOW, ENOSPC), f"write of {length}: error {error}")
            sender.join(60)
            client.read(0, 1)
        except Closed:
            pass
        peak = max(peak, server.anonymous_kib())
        client.close()
        sender.join(60)
    for length in (0x7FFFFFFF, 0xFFFFFFFF):
        with Client(case.socket).go() as client:
            client.send(request(WRITE, 0, length))
            sane(case.socket)
            peak = max(peak, server.anonymous_kib())
    check(peak - before < (32768 if not SANITIZED else 400 << 10), f"memory grew by {peak - before} KiB")
    with open(path, "rb") as file:
        check(not file.read(128 * MIB).strip(b"\0"), "some of it is in the file")
    server.stop()


def read_only_refuses_changes(case):
    with Opened(case, "--read-only") as client:
        for flags in (0, FUA):
            equal(client.error_of(write_request(0, b"w" * 5000, flags=flags)), EPERM, "write")
            equal(client.command(TRIM, 0, 512, flags), EPERM, "trim")
            equal(client.command(ZEROES, 0, 512, flags), EPERM, "zeroes")
        equal(client.error_of(write_request(0, b"w" * 3 * MIB)), EPERM, "a large write")
        equal(client.command(FLUSH), 0, "flush")
        equal(client.command(CACHE, 0, 512), 0, "cache")


def wrong_and_right_together(case):
    """Every fault at once among right requests in one segment: each gets its own answer."""
    with Opened(case) as client:
        raw = [(request(READ, 0, 0, 1), EINVAL), (request(99, 0, 1, 2), EINVAL), (write_request(SIZE, b"w" * 100, 3), ENOSPC),
               (request(READ, SIZE, 1, 4), EINVAL), (write_request(0, b"w" * 1000, 5, 1 << 9), EINVAL),
               (request(FLUSH, handle=6), 0), (request(ZEROES, SIZE, 1, 7), ENOSPC), (request(READ, 10, 20, 8), 0)]
        client.send(b"".join(one for one, _ in raw))
        left = {n + 1: error for n, (_, error) in enumerate(raw)}
        while left:
            handle, error = client.reply()
            check(handle in left, f"a reply for handle {handle}, not in flight")
            equal(error, left.pop(handle), f"error of request {handle}")
            if handle == 8:
                equal(client.recv(20), DATA[10:30], "data of the good read")


def fast_zero_fails_fast_or_works(case):
    with Opened(case) as client:
        error = client.command(ZEROES, 0, 0, FAST_ZERO)
        check(error in (0, EINVAL, ENOTSUP), f"FAST_ZERO of 0 bytes: {error}")


run(wrong_magic_ends_it, unknown_commands, unknown_flags, flags_of_other_commands, df_without_structured_replies, zero_length,
    reads_past_the_end, writes_past_the_end, zeroes_and_trims_past_the_end, reads_above_the_payload_limit,
    writes_above_the_payload_limit, read_only_refuses_changes, wrong_and_right_together, fast_zero_fails_fast_or_works)
