"""Goal: whatever comes in the handshake gets the answer the protocol has for it, or an end; never a hang, a crash or
memory.

Method: the raw handshake with wrong, long, many, slow and missing bytes.
"""
import struct
import time

from support import DEADLINE, SANITIZED, check, equal, run
from wire import (ERR_INVALID, ERR_TOO_BIG, ERR_UNKNOWN, ERR_UNSUP, MIB, OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO,
                  OPT_LIST, OPT_LIST_META, OPT_SET_META, OPT_STARTTLS, OPT_STRUCTURED_REPLY, REP_ACK, Client, Closed,
                  connected, go_data, option_request, sane)


def serve(case, *more):
    return case.serve("export=" + case.disk(1 << 20), *more)


def unknown_options_are_unsupported(case):
    serve(case)
    meta = struct.pack(">I", 6) + b"export" + struct.pack(">II", 1, 15) + b"base:allocation"
    with Client(case.socket) as client:
        for option, data in ((OPT_STRUCTURED_REPLY, b""), (OPT_STARTTLS, b""), (OPT_EXTENDED_HEADERS, b""), (OPT_LIST_META, meta),
                             (OPT_SET_META, meta), (4, b""), (12, b"x" * 100), (0, b""), (0x7FFFFFFF, b"y"), (0xFFFFFFFF, b"")):
            replies = client.option(option, data)
            equal([kind for kind, _ in replies], [ERR_UNSUP], f"replies to option {option}")
        client.go("export")
        client.read(0, 512)


def unknown_client_flags_are_dropped(case):
    serve(case)
    for flags in (4, 7, 1 << 31 | 3, 0xFFFFFFFF):
        with Client(case.socket, greet=False) as client:
            client.greet(flags)
            client.expect_end(f"client flags {flags:#x}")
    sane(case.socket)


def wrong_option_magic_is_dropped(case):
    serve(case)
    for magic in (b"IHAVEOPS", bytes(8), b"NBDMAGIC", b"\xff" * 8):
        with Client(case.socket) as client:
            client.send(option_request(OPT_LIST, magic=magic))
            client.expect_end(f"option magic {magic!r}")
    sane(case.socket)


def invalid_names(case):
    """Strings are UTF-8 without NUL, at most 4096 bytes; an error, and the connection goes on."""
    serve(case)
    with Client(case.socket) as client:
        for option in (OPT_INFO, OPT_GO):
            for name in (b"ex\0port", b"export\0", b"\0", b"\xff\xfe", b"\xc3", b"a\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"):
                equal(client.option_end(option, go_data(name)), ERR_INVALID, f"option {option} for name {name!r}")
            for length in (4097, 8000):
                kind = client.option_end(option, go_data(b"n" * length))
                check(kind in (ERR_INVALID, ERR_TOO_BIG, ERR_UNKNOWN), f"name of {length} bytes: {kind:#x}")
            equal(client.option_end(option, go_data(b"n" * 4096)), ERR_UNKNOWN, "unknown name of 4096 bytes, the longest allowed")
            equal(client.option_end(option, go_data("ü" * 2048)), ERR_UNKNOWN, "unknown name of 4096 bytes of UTF-8")
        client.go("export")


def malformed_info_data(case):
    """The lengths inside INFO and GO do not fit the length of the option."""
    serve(case)
    bad = (b"", b"\0\0\0", struct.pack(">I", 0), go_data("export")[:-1], go_data("export") + b"x", go_data("export", name_length=7),
           go_data("export", name_length=0xFFFFFFFF), go_data("export", name_length=5), go_data("export", name_length=4096),
           struct.pack(">I", 6) + b"export" + struct.pack(">H", 3) + b"\0\1",
           struct.pack(">I", 6) + b"export" + struct.pack(">H", 0xFFFF),
           struct.pack(">I", 6) + b"export" + struct.pack(">HHH", 1, 1, 1))
    with Client(case.socket) as client:
        for option in (OPT_INFO, OPT_GO):
            for data in bad:
                equal(client.option_end(option, data), ERR_INVALID, f"option {option} with data {data[:24]!r}")
        client.go("export")


def too_many_options_are_dropped(case):
    serve(case)
    with Client(case.socket) as client:
        try:
            for _ in range(200):
                client.send(option_request(OPT_LIST) * 100)
                for _ in range(100):
                    equal(client.option_replies(OPT_LIST)[-1][0], REP_ACK, "LIST")
        except (Closed, BrokenPipeError, ConnectionResetError):
            sane(case.socket)
            return
    check(False, "20000 options in one handshake and it goes on")


def a_reasonable_number_of_options_works(case):
    serve(case)
    with Client(case.socket) as client:
        for _ in range(24):
            equal(client.option_end(OPT_LIST), REP_ACK, "LIST")
        client.go("export")


def big_options(case):
    """Sent in full: an error after the data is swallowed, or an end at once. Never stored."""
    server = serve(case)
    sane(case.socket)
    before = server.anonymous_kib()
    for option in (OPT_LIST, OPT_GO, OPT_INFO, OPT_EXPORT_NAME, 99):
        for size in (1 * MIB, 32 * MIB):
            with Client(case.socket) as client:
                try:
                    client.send(option_request(option, b"z" * size))
                    kind = client.option_replies(option)[-1][0]
                    check(kind in (ERR_TOO_BIG, ERR_INVALID, ERR_UNSUP), f"option {option} of {size} bytes: {kind:#x}")
                    client.go("export")
                except (Closed, BrokenPipeError, ConnectionResetError):
                    pass
    growth = server.anonymous_kib() - before
    check(growth < (16384 if not SANITIZED else 400 << 10), f"memory grew by {growth} KiB")
    sane(case.socket)


def a_claimed_length_is_not_allocated(case):
    server = serve(case)
    sane(case.socket)
    before = server.anonymous_kib()
    clients = []
    for size in (64 * MIB, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        for option in (OPT_LIST, OPT_GO, OPT_EXPORT_NAME, 99):
            client = Client(case.socket)
            clients.append(client)
            client.send(option_request(option, length=size))
    sane(case.socket)
    growth = server.anonymous_kib() - before
    check(growth < (16384 if not SANITIZED else 200 << 10), f"memory grew by {growth} KiB for {len(clients)} claims")
    for client in clients:
        client.close()
    server.stop()


def byte_by_byte(case):
    """Every byte alone, each sent only after the server took the one before."""
    serve(case)
    with Client(case.socket, greet=False) as client:
        client.read_greeting()
        client.drip(struct.pack(">I", 3))
        client.drip(option_request(OPT_LIST))
        equal(client.option_replies(OPT_LIST)[-1][0], REP_ACK, "LIST")
        client.drip(option_request(99, b"some data"))
        equal(client.option_replies(99)[-1][0], ERR_UNSUP, "option 99")
        client.drip(option_request(OPT_GO, go_data("export", (1, 2, 3))))
        equal(client.option_replies(OPT_GO)[-1][0], REP_ACK, "GO")
        client.read(0, 512)
        client.disconnect()


def silence_is_dropped(case):
    """Three silent clients, each at another place; a client past its handshake may be silent as long as it likes."""
    serve(case, "--handshake-timeout", "1")
    with Client(case.socket).go("export") as idle:
        silent = [Client(case.socket, greet=False), Client(case.socket), Client(case.socket)]
        silent[2].send(option_request(OPT_LIST)[:9])
        silent[0].read_greeting()
        for n, client in enumerate(silent):
            client.expect_end(f"silent client {n}")
            client.close()
        idle.read(0, 512)


def a_trickle_is_dropped(case):
    """The limit is for the whole handshake: a byte now and then does not prolong it."""
    serve(case, "--handshake-timeout", "1")
    with Client(case.socket) as client:
        raw = option_request(99, b"q" * 30000)
        end = time.monotonic() + DEADLINE
        try:
            for i in range(len(raw)):
                client.send(raw[i : i + 1])
                check(time.monotonic() < end, f"a handshake is still going on after {DEADLINE} s")
                time.sleep(0.02)  # The trickle itself.
        except (BrokenPipeError, ConnectionResetError):
            pass
    sane(case.socket)


def a_handshake_that_ends_anywhere(case):
    """The client leaves after every possible number of bytes."""
    server = serve(case)
    fds = server.fds()
    raw = struct.pack(">I", 3) + option_request(OPT_LIST) + option_request(OPT_GO, go_data("export", (3,)))
    for length in range(len(raw) + 1):
        sock = connected(case.socket)
        sock.sendall(raw[:length])
        sock.close()
    server.fds_return_to(fds, "after clients that left in the handshake")
    sane(case.socket)
    server.stop()


run(unknown_options_are_unsupported, unknown_client_flags_are_dropped, wrong_option_magic_is_dropped, invalid_names,
    malformed_info_data, too_many_options_are_dropped, a_reasonable_number_of_options_works, big_options,
    a_claimed_length_is_not_allocated, byte_by_byte, silence_is_dropped, a_trickle_is_dropped, a_handshake_that_ends_anywhere)
