"""Goal: a client reaches an export by EXPORT_NAME or GO and learns what it asked about it. Method: the raw
handshake."""
import struct

from support import check, equal, run
from wire import (CAN_MULTI_CONN, ERR_INVALID, ERR_UNKNOWN, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, FLUSH, HAS_FLAGS, INFO_BLOCK_SIZE,
                  INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, READ, READ_ONLY,
                  REP_ACK, REP_ERR, REP_SERVER, SEND_CACHE, SEND_FAST_ZERO, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_ZEROES,
                  Client, go_data, option_request, request)

WRITABLE = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_ZEROES | SEND_CACHE | SEND_FAST_ZERO | CAN_MULTI_CONN


def two_exports(case):
    return case.serve("one=" + case.disk(1 << 20, "a", b"one"), "two=" + case.disk(2 << 20, "b", b"two"))


def serves(client, size, begins):
    equal(client.size, size, "size")
    equal(client.flags & WRITABLE, WRITABLE, "transmission flags")
    check(not client.flags & READ_ONLY, "READ_ONLY on a writable export")
    equal(client.read(0, 3), begins, "content")
    client.disconnect()


def greeting(case):
    two_exports(case)
    with Client(case.socket) as client:
        equal(client.handshake_flags, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES, "handshake flags")


def export_name_with_and_without_zeroes(case):
    two_exports(case)
    for flags in (FLAG_FIXED_NEWSTYLE, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES):
        for name, size, begins in (("two", 2 << 20, b"two"), ("", 1 << 20, b"one")):
            with Client(case.socket, greet=False) as client:
                client.greet(flags)
                serves(client.export_name(name), size, begins)


def export_name_unknown_is_dropped(case):
    """EXPORT_NAME has no way to say no."""
    two_exports(case)
    for name in (b"none", b"on", b"one\0", b"\xff", b"x" * 4097):
        with Client(case.socket) as client:
            client.send(option_request(OPT_EXPORT_NAME, name))
            client.expect_end(f"unknown EXPORT_NAME {name[:10]!r}")
    serves(Client(case.socket).go("one"), 1 << 20, b"one")


def go_by_name_and_default(case):
    two_exports(case)
    for name, size, begins in (("one", 1 << 20, b"one"), ("two", 2 << 20, b"two"), ("", 1 << 20, b"one")):
        serves(Client(case.socket).go(name), size, begins)


def infos_on_request(case):
    two_exports(case)
    with Client(case.socket) as client:
        asked = (INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE, INFO_EXPORT)
        found = client.infos(OPT_INFO, "two", asked)
        equal(found[INFO_NAME].decode(), "two", "INFO_NAME")
        found[INFO_DESCRIPTION].decode()
        least, preferred, most = struct.unpack(">III", found[INFO_BLOCK_SIZE])
        equal(least, 1, "minimum block size")
        check(preferred >= 512 and preferred & (preferred - 1) == 0, f"preferred block size {preferred}")
        check(most >= 48 << 20 and (most % preferred == 0 or most == 0xFFFFFFFF), f"maximum block size {most}")
        equal(client.infos(OPT_INFO, "", (INFO_NAME,))[INFO_NAME].decode(), "one", "the canonical name behind \"\"")
        serves(client.go("two"), 2 << 20, b"two")


def infos_it_does_not_know_are_ignored(case):
    two_exports(case)
    with Client(case.socket) as client:
        known = {INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE}
        check(set(client.infos(OPT_INFO, "one", (77, 0xFFFF))) <= known, "an info the protocol does not have")
        client.infos(OPT_GO, "one", (77,))
        serves(client, 1 << 20, b"one")


def the_same_flags_by_every_way(case):
    two_exports(case)
    with Client(case.socket) as client, Client(case.socket) as other:
        client.infos(OPT_INFO, "one")
        by_info = (client.size, client.flags)
        client.go("one")
        equal((client.size, client.flags), by_info, "GO against INFO")
        other.export_name("one")
        equal((other.size, other.flags), by_info, "EXPORT_NAME against INFO")


def unknown_export_and_the_connection_goes_on(case):
    two_exports(case)
    with Client(case.socket) as client:
        for option in (OPT_INFO, OPT_GO, OPT_INFO, OPT_GO):
            equal(client.option_end(option, go_data("none")), ERR_UNKNOWN, f"option {option} for an unknown export")
        for name in ("One", "one ", " one", "on", "onee"):
            equal(client.option_end(OPT_GO, go_data(name)), ERR_UNKNOWN, f"GO {name!r}")
        serves(client.go("one"), 1 << 20, b"one")


def listing(case):
    two_exports(case)
    with Client(case.socket) as client:
        for _ in range(2):
            replies = client.option(OPT_LIST)
            equal([kind for kind, _ in replies], [REP_SERVER, REP_SERVER, REP_ACK], "LIST replies")
            names = [data[4 : 4 + struct.unpack(">I", data[:4])[0]].decode() for _, data in replies[:-1]]
            equal(names, ["one", "two"], "names in the order given")
        equal(client.option_end(OPT_LIST, b"data"), ERR_INVALID, "LIST with data")
        serves(client.go("two"), 2 << 20, b"two")


def abort_is_acknowledged(case):
    two_exports(case)
    with Client(case.socket) as client:
        client.infos(OPT_INFO, "one")
        equal(client.option(OPT_ABORT), [(REP_ACK, b"")], "ABORT")
        client.expect_end("after ABORT")
    with Client(case.socket) as client:
        client.send(option_request(OPT_LIST) + option_request(OPT_ABORT))
        equal(client.option_replies(OPT_LIST)[-1][0], REP_ACK, "LIST sent together with ABORT")
        equal(client.option_replies(OPT_ABORT)[-1][0], REP_ACK, "ABORT")
        client.expect_end("after ABORT")


def options_and_requests_in_one_segment(case):
    """A client that is sure of itself sends everything at once."""
    two_exports(case)
    with Client(case.socket) as client:
        go = option_request(OPT_GO, go_data("two"))
        client.send(option_request(OPT_LIST) + go + request(READ, 0, 3, 1) + request(FLUSH, handle=2))
        client.option_replies(OPT_LIST)
        equal(client.option_replies(OPT_GO)[-1][0], REP_ACK, "GO")
        for _ in range(2):
            handle, error = client.reply()
            equal(error, 0, f"error of {handle}")
            if handle == 1:
                equal(client.recv(3), b"two", "content")


def errors_carry_text(case):
    """The payload of an error reply is for a human: UTF-8, or nothing."""
    two_exports(case)
    with Client(case.socket) as client:
        for option, data in ((OPT_GO, go_data("none")), (OPT_LIST, b"x"), (99, b"")):
            kind, text = client.option(option, data)[-1]
            check(kind & REP_ERR, f"option {option} is an error")
            check("\0" not in text.decode(), f"text {text!r}")


run(greeting, export_name_with_and_without_zeroes, export_name_unknown_is_dropped, go_by_name_and_default, infos_on_request,
    infos_it_does_not_know_are_ignored, the_same_flags_by_every_way, unknown_export_and_the_connection_goes_on, listing,
    abort_is_acknowledged, options_and_requests_in_one_segment, errors_carry_text)
