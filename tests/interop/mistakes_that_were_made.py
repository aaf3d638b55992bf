"""Goal: mistakes that the server once made stay mended. Method: each function is one of them, in the cheapest form in which
it was seen; its text says what went wrong."""
import collections
import os
import resource
import signal
import struct
import subprocess

from support import DEADLINE, SANITIZED, Failure, Skip, check, die_with_parent, equal, eventually, fewer, run
from wire import (EINVAL, ENOMEM, ENOSPC, EPERM, FLUSH, MIB, OPT_EXPORT_NAME, OPT_GO, READ, REP_ACK, TRIM, WRITE, ZEROES, Client,
                  Closed, go_data, option_request, pattern, request, sane)

SIZE = MIB + 333
DATA = pattern(SIZE)
GONE = (Closed, BrokenPipeError, ConnectionResetError, ConnectionRefusedError, FileNotFoundError)


def refused(case, *args, mentions):
    """Exit code 2, one line, nothing on standard output."""
    try:
        done = subprocess.run([case.program, *args], capture_output=True, stdin=subprocess.DEVNULL, timeout=DEADLINE,
                              preexec_fn=die_with_parent)
    except subprocess.TimeoutExpired:
        check(False, f"{args}: it runs, and should have refused")
    said = done.stderr.decode(errors="replace")
    equal(done.returncode, 2, f"exit code of {args}; it said {said!r}")
    check(said.endswith("\n") and said.count("\n") == 1, f"{args}: not one line on standard error: {said!r}")
    equal(done.stdout, b"", f"standard output of {args}")
    check(mentions in said, f"{args}: {said!r} does not name {mentions!r}")


def brackets_without_an_address_are_refused(case):
    """The bug: the host between them was empty, which getaddrinf() takes for every address of the machine."""
    disk = case.disk(4096)
    for address in ("[]:0", "[]:10809"):
        refused(case, "serve", "--listen", address, disk, mentions=address)


def an_unknown_subcommand_is_named(case):
    """The bug: "a subcommand is required", whatever was typed."""
    refused(case, "bogus", mentions="bogus")
    refused(case, "bogus", "--unix", case.socket, mentions="bogus")


def a_long_export_name_gets_no_reply(case):
    """The bug: EXPORT_NAME with more data than is stored was answered as other options are. It has no error reply: the client
    takes those 20 bytes for the size and flags of an export, and what follows for its content."""
    server = case.serve(case.disk(SIZE, data=DATA))
    for size in (16385, 65536, MIB):
        with Client(case.socket) as client:
            try:
                client.send(option_request(OPT_EXPORT_NAME, b"z" * size))
            except (BrokenPipeError, ConnectionResetError):
                pass  # Thrown out at the header is as good.
            client.expect_end(f"EXPORT_NAME of {size} bytes")
    sane(case.socket)
    server.stop()


def empty_requests_are_judged_too(case):
    """The bug: a request of length 0 was granted before anybody looked at it: changes on a read-only export, and places far
    behind its end."""
    path = case.disk(SIZE, data=DATA)
    server = case.serve("--read-only", path)
    with Client(case.socket).go() as client:
        for command in (WRITE, TRIM, ZEROES):
            for offset in (0, 777, SIZE):
                equal(client.command(command, offset, 0), EPERM, f"command {command} of 0 bytes at {offset}, read-only")
        equal(client.read(777, 99), DATA[777:876], "a read on the same connection afterwards")
        client.disconnect()
    server.stop()
    server = case.serve(path)
    with Client(case.socket).go() as client:
        for offset in (SIZE + 1, 1 << 40, 2**63, 2**64 - 1):
            equal(client.command(WRITE, offset, 0), ENOSPC, f"write of 0 bytes at {offset}")
            equal(client.command(ZEROES, offset, 0), ENOSPC, f"zeroes of 0 bytes at {offset}")
            error = client.command(TRIM, offset, 0)
            check(error in (EINVAL, ENOSPC), f"trim of 0 bytes at {offset}: error {error}")
        for command in (WRITE, TRIM, ZEROES):
            for offset in (0, 777, SIZE):
                equal(client.command(command, offset, 0), 0, f"command {command} of 0 bytes at {offset}")
        equal(client.read(777, 99), DATA[777:876], "a read on the same connection afterwards")
        client.disconnect()
    server.stop()
    with open(path, "rb") as file:
        check(file.read() == DATA, "the file changed")


def silent_for(client, seconds, what):
    """Waits on the socket: nothing comes, and it does not end."""
    client.sock.settimeout(seconds)
    try:
        check(False, f"{what}: {client.sock.recv(1)!r}")
    except TimeoutError:
        client.sock.settimeout(DEADLINE)


def the_handshake_limit_ends_with_the_handshake(case):
    """A client that has chosen may be silent for longer than the limit."""
    server = case.serve("--handshake-timeout", "1", case.disk(SIZE, data=DATA))
    with Client(case.socket).go() as by_go, Client(case.socket).export_name() as by_name:
        silent_for(by_go, 1.5, "an idle client")
        for client in (by_go, by_name):
            equal(client.read(777, 99), DATA[777:876], "a read after the limit of the handshake")
            client.disconnect()
    server.stop()


def an_expired_limit_does_not_strike_after_the_ack(case):
    """The bug: a turn of the reactor found both the choice of an export and the expired limit. The choice was acknowledged,
    and then the limit, whose handler was queued already and can no longer be cancelled, ended the connection.

    The server is stopped while both come about. Dropping the client before the acknowledgement is right, too.
    """
    server = case.serve("--handshake-timeout", "1", case.disk(SIZE, data=DATA))
    pairs = [(Client(case.socket), Client(case.socket).go()) for _ in range(10)]
    for choosing, other in pairs:
        check(choosing.handshake_flags is not None, "no greeting")
        other.read(0, 1)
    server.popen.send_signal(signal.SIGSTOP)
    for choosing, other in pairs:
        other.send(request(READ, 777, 99))
        choosing.send(option_request(OPT_GO, go_data("")))
    silent_for(pairs[-1][0], 1.2, "a stopped server answers")
    server.popen.send_signal(signal.SIGCONT)
    for choosing, other in pairs:
        equal((other.reply(), other.recv(99)), ((0, 0), DATA[777:876]), "the other client's read")
        try:
            replies = choosing.option_replies(OPT_GO)
        except GONE:
            continue
        equal(replies[-1][0], REP_ACK, "GO")
        try:
            equal(choosing.read(777, 99), DATA[777:876], "a read after the acknowledgement")
        except GONE as error:
            raise Failure(f"acknowledged, and then ended: {error}") from None
        choosing.disconnect()
    server.stop()


def sighup_drains(case):
    """The bug: a terminal that closed killed the server, and its socket file stayed."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Under nohup the server would inherit that it is ignored.
    server = case.serve(case.disk(SIZE, data=DATA))
    with Client(case.socket).go() as client:
        client.send(request(FLUSH, handle=3) * 10)
        eventually(lambda: client.unread() >= 160, "ten replies")
        server.stop(signal.SIGHUP)
        equal([client.reply() for _ in range(10)], [(3, 0)] * 10, "replies sent before the end")
        client.expect_end("after the replies")
    check(not os.path.lexists(case.socket), "the socket file is still there")


def errors_of_many(case, clients, raw):
    """Each of them has 256 requests in flight; how often each error came."""
    for client in clients:
        client.send(raw)
    errors = collections.Counter()
    for client in clients:
        errors.update(error for _, error, _ in struct.iter_unpack(">IIQ", client.recv(256 * 16)))
    return errors


def requests_of_many_clients_fit(case):
    """The bug: the queue of an export held 65536 requests beside those under way, while its clients may have 256 each: the
    others got EIO for a device that was merely busy."""
    server = case.serve(case.disk(64 * MIB))
    clients = [Client(case.socket).go() for _ in range(fewer(600))]
    for command, length in ((FLUSH, 0), (TRIM, 64 * MIB)):
        raw = b"".join(request(command, 0, length, handle) for handle in range(256))
        equal(errors_of_many(case, clients, raw), {0: 256 * len(clients)}, f"errors of command {command}")
    for client in clients:
        client.close()
    server.stop()


def limit_memory(server, slack):
    """What it has now and so much more; None: no limit."""
    with open(f"/proc/{server.pid}/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_AS)
    resource.prlimit(server.pid, resource.RLIMIT_AS, (hard if slack is None else size + slack, hard))


def asks_for_much(address):
    """A client that sends everything it has to say at once, or None: it may be turned away."""
    reads = b"".join(request(READ, n, 4096, n) for n in range(256))
    try:
        client = Client(address, greet=False)
        client.send(struct.pack(">I", 3) + option_request(OPT_GO, go_data("")) + reads)
        return client
    except GONE:
        return None


def answers_or_end(client):
    """Right data, ENOMEM, and an end of the connection are right answers; silence is none."""
    try:
        client.read_greeting()
        equal(client.option_replies(OPT_GO)[-1][0], REP_ACK, "GO")
        for _ in range(256):
            handle, error = client.reply()
            check(error in (0, ENOMEM), f"read {handle}: error {error}")
            check(error or client.recv(4096) == DATA[handle : handle + 4096], f"read {handle}: wrong data")
    except GONE:
        pass
    client.close()


def a_lack_of_memory_is_survived(case):
    """The bug: what a handler of one client threw for want of memory went up to main and ended the server for all."""
    if SANITIZED:
        raise Skip("a sanitizer's runtime maps memory of its own and ends the process when it cannot")
    server = case.serve(case.disk(SIZE, data=DATA))
    sane(case.socket)
    for slack in (0, 64 << 10, MIB, 8 * MIB):
        limit_memory(server, slack)
        clients = [asks_for_much(case.socket) for _ in range(100)]
        for client in filter(None, clients[:20]):
            answers_or_end(client)
        check(server.alive(), f"ended with {server.popen.poll()} when it had {slack} bytes left")
        limit_memory(server, None)
        for client in filter(None, clients[20:]):
            answers_or_end(client)
        try:
            sane(case.socket)
        except GONE as error:
            raise Failure(f"not served after the server had {slack} bytes left: {error}") from None
    server.stop()


run(brackets_without_an_address_are_refused, an_unknown_subcommand_is_named, a_long_export_name_gets_no_reply,
    empty_requests_are_judged_too, the_handshake_limit_ends_with_the_handshake, an_expired_limit_does_not_strike_after_the_ack,
    sighup_drains, requests_of_many_clients_fit, a_lack_of_memory_is_survived)
