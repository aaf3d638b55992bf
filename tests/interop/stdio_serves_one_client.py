"""Goal: --stdio serves one client on standard input and output and ends with 0 when that client is done.

Method: raw over a socketpair and over two pipes; libnbd's connect_command; nbdcopy through a listener that starts one
server per connection, as inetd does.
"""
import contextlib
import ctypes
import ctypes.util
import filecmp
import os
import socket
import subprocess
import threading

from support import DEADLINE, check, die_with_parent, equal, missing, need, run, tool
from wire import ERR_UNKNOWN, OPT_ABORT, OPT_GO, REP_ACK, Client, PipeEnds, go_data, pattern

SIZE = (4 << 20) + 5


def start(case, stdin, stdout, *args):
    log = case.path(f"log.{len(case.children)}")
    with open(log, "wb") as err:
        popen = subprocess.Popen([case.program, "serve", "--stdio", *args], stdin=stdin, stdout=stdout, stderr=err,
                                 preexec_fn=die_with_parent)
    return case.adopt(popen, log)


def on_socketpair(case, *args):
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)
    process = start(case, theirs, theirs, *args)
    theirs.close()
    return process, ours


def on_pipes(case, *args):
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    process = start(case, their_in, their_out, *args)
    os.close(their_in)
    os.close(their_out)
    return process, PipeEnds(our_in, our_out)


def ends_with_0(process):
    equal(process.wait(DEADLINE, "after the client left"), 0, f"exit code; log {process.log()!r}")


def conversation(case, start_on):
    path = case.disk(SIZE)
    process, ends = start_on(case, path)
    client = Client(ends)
    equal(client.option_end(OPT_GO, go_data("none")), ERR_UNKNOWN, "unknown export")
    client.go(os.path.basename(path))
    equal(client.size, SIZE, "size")
    data = pattern(100001)
    client.write(77, data)
    check(client.read(77, len(data)) == data, "wrong data")
    client.flush()
    client.disconnect()
    ends_with_0(process)
    with open(path, "rb") as file:
        check(file.read()[77 : 77 + len(data)] == data, "the data is not in the file")


def raw_over_a_socketpair(case):
    conversation(case, on_socketpair)


def raw_over_pipes(case):
    conversation(case, on_pipes)


def a_large_read_over_pipes(case):
    """Pipes take 64 KiB at a time and may hold the writer; the reply comes all the same."""
    data = pattern(SIZE)
    process, ends = on_pipes(case, case.disk(SIZE, data=data))
    with contextlib.closing(Client(ends).go()) as client:
        for _ in range(4):
            check(client.read(0, SIZE) == data, "wrong data")
    ends_with_0(process)


def ends_with_0_however_the_client_leaves(case):
    path = case.disk(SIZE)
    for start_on in (on_socketpair, on_pipes):
        for how in ("abort", "close in the handshake", "close at once", "close after GO"):
            process, ends = start_on(case, path)
            client = Client(ends, greet=how != "close at once")
            if how == "abort":
                equal(client.option_end(OPT_ABORT), REP_ACK, "ABORT")
            elif how == "close after GO":
                client.go()
            client.close()
            ends_with_0(process)


def standard_output_carries_the_protocol_only(case):
    """No ready line: the first bytes are the greeting. Client() checks them."""
    process, ends = on_socketpair(case, case.disk(SIZE))
    with Client(ends) as client:
        client.go().disconnect()
    ends_with_0(process)


def several_exports(case):
    process, ends = on_socketpair(case, "one=" + case.disk(4096, "a"), "two=" + case.disk(8192, "b"))
    with Client(ends) as client:
        equal(client.go("two").size, 8192, "size of the second")
    ends_with_0(process)


def libnbd_starts_it(case):
    """What a program does with libnbd: nbd_connect_command, nbd_pwrite, nbd_pread, nbd_shutdown."""
    name = ctypes.util.find_library("nbd") or "libnbd.so.0"
    try:
        nbd = ctypes.CDLL(name)
    except OSError:
        missing(name)
    nbd.nbd_create.restype = ctypes.c_void_p
    nbd.nbd_get_error.restype = ctypes.c_char_p
    nbd.nbd_get_size.restype = ctypes.c_int64
    handle = ctypes.c_void_p(nbd.nbd_create())

    def call(function, *args):
        result = function(handle, *args)
        check(result != -1, f"{function.__name__}: {nbd.nbd_get_error()}")
        return result

    argv = [case.program, "serve", "--stdio", case.disk(SIZE)]
    call(nbd.nbd_connect_command, (ctypes.c_char_p * 5)(*(os.fsencode(a) for a in argv), None))
    equal(call(nbd.nbd_get_size), SIZE, "size")
    data, back = pattern(70000), ctypes.create_string_buffer(70000)
    call(nbd.nbd_pwrite, data, ctypes.c_size_t(len(data)), ctypes.c_uint64(99), ctypes.c_uint32(0))
    call(nbd.nbd_pread, back, ctypes.c_size_t(len(data)), ctypes.c_uint64(99), ctypes.c_uint32(0))
    check(back.raw == data, "wrong data")
    call(nbd.nbd_flush, ctypes.c_uint32(0))
    call(nbd.nbd_shutdown, ctypes.c_uint32(0))
    nbd.nbd_close(handle)


class Inetd(threading.Thread):
    """Accepts on a Unix socket; each connection becomes the standard streams of a server of its own."""

    def __init__(self, case, *args):
        super().__init__(daemon=True)
        self.case, self.args, self.started = case, args, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(case.socket)
        self.listener.listen()
        self.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.started.append(start(self.case, sock, sock, *self.args))
            sock.close()

    def end(self):
        for process in self.started:  # Before the join: a child is killed when the thread that started it ends.
            ends_with_0(process)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        self.listener.close()


def nbdcopy_through_inetd(case):
    need("nbdcopy", "nbdinfo")
    source, back, path = case.disk(SIZE, "src", pattern(SIZE)), case.path("back"), case.disk(SIZE)
    inetd = Inetd(case, path)
    equal(tool("nbdinfo", "--size", case.uri).strip(), str(SIZE), "nbdinfo --size")
    tool("nbdcopy", "--connections=1", source, case.uri)
    tool("nbdcopy", "--connections=1", case.uri, back)
    inetd.end()
    check(filecmp.cmp(source, back, shallow=False) and filecmp.cmp(source, path, shallow=False), "a copy differs")


run(raw_over_a_socketpair, raw_over_pipes, a_large_read_over_pipes, ends_with_0_however_the_client_leaves,
    standard_output_carries_the_protocol_only, several_exports, libnbd_starts_it, nbdcopy_through_inetd)
