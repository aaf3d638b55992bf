"""Goal: whatever standard input, output and error are — closed, full, stuck, or shared with others — the server serves, ends
as it should, and never takes one of its own files for them.

Method: start it with each of them spoilt, then do what any client does; look at its descriptors and at ours.
"""
import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
import tty

from support import DEADLINE, SLOW, STOP_LIMIT, Skip, check, die_with_parent, equal, eventually, fewer, run
from wire import DISC, MIB, OPT_GO, Client, PipeEnds, connected, go_data, option_request, pattern, request, sane

DATA = pattern(MIB)


def start(case, *args, closed=(), **streams):
    """A `sluice` whose standard streams are as told: those not named go nowhere, standard error to its log."""
    log = case.path(f"log.{len(case.children)}")

    def prepare():
        die_with_parent()
        for fd in closed:
            os.close(fd)

    with open(log, "wb") as err:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": err} | streams
        popen = subprocess.Popen([case.program, *args], preexec_fn=prepare, **streams)
    return case.adopt(popen, log)


def listens(process, address):
    """There may be no standard output to say "ready" on."""

    def accepts():
        check(process.alive(), f"ended with {process.popen.poll()}; log {process.log()!r}")
        try:
            connected(address).close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    eventually(accepts, "a server that listens")


def ends_in_time(process, sig=signal.SIGTERM):
    check(process.alive(), f"the server is gone, exit {process.popen.poll()}")
    process.popen.send_signal(sig)
    equal(process.wait(STOP_LIMIT, f"after signal {sig}"), 0, f"exit code after signal {sig}")


def holds_data(path, when):
    with open(path, "rb") as file:
        found = file.read()
    check(found == DATA, f"{when}: the image changed; it begins with {found[:40]!r}")


def out_of_step(address):
    """One client that the server has something to say about. False if it was not served within seconds."""
    client = Client(address, greet=False)
    client.sock.settimeout(5 * SLOW)
    try:
        client.send(struct.pack(">I", 3) + option_request(OPT_GO, go_data("")) + b"garbage!" * 4)
        while client.sock.recv(4096):
            pass
    except TimeoutError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        pass
    finally:
        client.close()
    return True


def closed_ones_are_not_taken_by_the_image(case):
    """The bug: a file or socket that was opened while 0, 1 or 2 was closed got that number, and "ready" or the log was
    written over the first bytes of the image."""
    for closed in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
        path = case.disk(MIB, data=DATA)
        process = start(case, "serve", "--unix", case.socket, path, closed=closed)
        listens(process, case.socket)
        check(out_of_step(case.socket), f"without {closed}: a client is not served")
        with Client(case.socket).go() as client:
            check(client.read(0, MIB) == DATA, f"without {closed}: wrong data")
            for fd in closed:
                link = f"/proc/{process.pid}/fd/{fd}"
                check(os.path.lexists(link), f"{fd} is left free for the next descriptor")
                target = os.readlink(link)
                check(target != path and target.startswith("/dev/"), f"started without {closed}: {fd} is {target}")
            client.disconnect()
        holds_data(path, f"serving without {closed}")
        sane(case.socket)
        ends_in_time(process)
        holds_data(path, f"after serving without {closed}")


def stdio_without_input_or_output_is_refused(case):
    """The bug: the image itself became standard input, and was taken for the client."""
    path = case.disk(MIB, data=DATA)
    for closed in ((0,), (1,), (0, 1)):
        process = start(case, "serve", "--stdio", path, closed=closed)
        equal(process.wait(DEADLINE, f"--stdio without {closed}"), 2, f"exit code of --stdio without {closed}")
        said = process.log()
        check(said.endswith("\n") and said.count("\n") == 1, f"--stdio without {closed}: not one line: {said!r}")
        holds_data(path, f"--stdio without {closed}")


def wrong_usage_ends_with_2_though_it_cannot_say_why(case):
    """The bug: the complaint was written by what throws when it cannot, outside of any handler: exit by abort."""
    wrong = ([], ["bogus"], ["serve"], ["serve", "--no-such-option"], ["serve", "--unix", case.socket, case.path("missing")],
             ["serve", "--stdio", case.path("missing")])
    with open("/dev/full", "wb") as full:
        for args in wrong:
            for what, how in (("2>/dev/full", {"stderr": full}), ("2>&-", {"closed": (2,)})):
                process = start(case, *args, **how)
                equal(process.wait(DEADLINE, f"{args} {what}"), 2, f"exit code of {args} {what}")


def an_unwritable_log_does_not_matter(case):
    """A full device, and a pipe whose reader has gone."""
    path = case.disk(MIB, data=DATA)
    reader, writer = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    for err in (full, writer):
        process = start(case, "serve", "--unix", case.socket, path, stderr=err)
        os.close(err)
        listens(process, case.socket)
        check(all(out_of_step(case.socket) for _ in range(20)), "a client is not served")
        sane(case.socket)
        ends_in_time(process)


def a_stalled_log_reader_stalls_nobody(case):
    """The bug: the log was written by the thread that serves, with a write that waits: once nobody read it and the pipe was
    full, no client was served any more and no signal heard."""
    reader, writer = os.pipe()
    page = os.sysconf("SC_PAGESIZE")
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4 * page)  # Full once it begins its last page, as poll(2) sees it.
    process = start(case, "serve", "--unix", case.socket, case.disk(MIB), stderr=writer)
    os.close(writer)
    listens(process, case.socket)
    for n in range(fewer(3000)):
        check(out_of_step(case.socket), f"the server stands still after {n} lines that nobody read")
    held = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4))[0]
    check(held > 2 * page, f"the pipe holds {held} of {4 * page} bytes: it is not full, and this test proves nothing")
    with Client(case.socket).go() as client:
        client.sock.settimeout(5 * SLOW)
        client.read(0, 4096)
        client.disconnect()
    ends_in_time(process)
    os.close(reader)


def flags_of(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def on_pipes(case, path):
    """(server, our ends, the server's ends of which we keep a copy)"""
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    process = start(case, "serve", "--stdio", path, stdin=their_in, stdout=their_out)
    return process, PipeEnds(our_in, our_out), (their_in, their_out)


def on_a_socket(case, path):
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)
    kept = theirs.detach()
    return start(case, "serve", "--stdio", path, stdin=kept, stdout=kept), ours, (kept,)


def on_a_terminal(case, path):
    """Half a terminal: requests come by a pipe, replies go to a pty in raw mode, as `ssh -t` has it."""
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise Skip(f"no pty to be had: {error}") from None
    tty.setraw(theirs)
    their_in, our_out = os.pipe()
    process = start(case, "serve", "--stdio", path, stdin=their_in, stdout=theirs)
    return process, PipeEnds(ours, our_out), (their_in, theirs)


def shared_and_given_back(case, start_on, how):
    path = case.disk(MIB, data=DATA)
    process, ends, kept = start_on(case, path)
    # Made blocking; the server may have changed that by now.
    before = [flags_of(fd) & ~os.O_NONBLOCK for fd in kept]
    client = Client(ends).go()
    check(client.read(0, MIB) == DATA, "wrong data")
    if how == "DISC":
        client.send(request(DISC))
        client.close()
    else:
        process.popen.send_signal(signal.SIGTERM)
    equal(process.wait(STOP_LIMIT, f"after {how}"), 0, f"exit code after {how}; log {process.log()!r}")
    if how != "DISC":
        client.close()
    for name, fd, flags in zip(("input", "output"), kept, before):
        equal(flags_of(fd), flags, f"flags of standard {name}, shared {start_on.__name__}, after {how}")
        os.close(fd)


def o_nonblock_is_not_left_on_shared_pipes(case):
    """The bug: O_NONBLOCK belongs to the open file description, so the shell that shares it found its own pipe changed."""
    for how in ("DISC", "SIGTERM"):
        shared_and_given_back(case, on_pipes, how)


def o_nonblock_is_not_left_on_a_shared_socket(case):
    """Input and output are one description here: what was found when the second was set up is not what it was before."""
    for how in ("DISC", "SIGTERM"):
        shared_and_given_back(case, on_a_socket, how)


def o_nonblock_is_not_left_on_a_shared_terminal(case):
    shared_and_given_back(case, on_a_terminal, "SIGTERM")


run(closed_ones_are_not_taken_by_the_image, stdio_without_input_or_output_is_refused,
    wrong_usage_ends_with_2_though_it_cannot_say_why, an_unwritable_log_does_not_matter, a_stalled_log_reader_stalls_nobody,
    o_nonblock_is_not_left_on_shared_pipes, o_nonblock_is_not_left_on_a_shared_socket, o_nonblock_is_not_left_on_a_shared_terminal)
