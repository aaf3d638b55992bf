"""Goal: a server with nothing to do does nothing: no polling, no timer that ticks.

Method: processor ticks (10 ms each) over 2 s with 20 connected clients that are silent. The window of wall time is part
of the meaning here; a loaded machine can only make an idle process look more idle.
"""
import os
import time

from support import SANITIZED, check, equal, eventually, run
from wire import FUA, READ, Client, pattern, request

WINDOW_SECONDS = 2
ALLOWED_TICKS = 1 if not SANITIZED else 4  # ThreadSanitizer has a thread of its own.


def idle(server, what):
    """Measured once the server has come to rest; what was busy a moment ago may have workers that still go to sleep."""
    eventually(lambda: rests(server), "the server comes to rest")
    before = server.cpu_ticks()
    time.sleep(WINDOW_SECONDS)  # The window itself.
    ticks = server.cpu_ticks() - before
    check(ticks <= ALLOWED_TICKS, f"{what}: {ticks} ticks of {1000 // os.sysconf('SC_CLK_TCK')} ms in {WINDOW_SECONDS} s")


def rests(server):
    before = server.cpu_ticks()
    time.sleep(0.05)
    return server.cpu_ticks() == before


def without_clients(case):
    idle(case.serve(case.disk(1 << 20)), "no client")


def with_twenty_silent_clients(case):
    server = case.serve(case.disk(1 << 20))
    clients = [Client(case.socket).go() for _ in range(18)]
    in_handshake = [Client(case.socket) for _ in range(2)]
    for client in clients:
        client.write(0, b"busy once")
    idle(server, "20 silent clients")
    for client in clients:
        equal(client.read(0, 9), b"busy once", "afterwards")
    for client in clients + in_handshake:
        client.close()


def after_a_burst(case):
    """The pool has grown; its idle workers must not spin until they leave."""
    server = case.serve(case.disk(16 << 20))
    data = pattern(65536)
    with Client(case.socket).go() as client:
        for n in range(200):
            client.write(n * 65536, data, flags=FUA)
        idle(server, "after 200 writes")
        client.disconnect()


def with_a_client_that_does_not_read(case):
    """Waiting for room in a socket is no reason to spin."""
    server = case.serve(case.disk(16 << 20))
    with Client(case.socket).go() as client:
        client.send(b"".join(request(READ, 0, 1 << 20, n) for n in range(100)))
        eventually(lambda: client.unread() > 65536, "replies pile up")
        idle(server, "a client that does not read")


run(without_clients, with_twenty_silent_clients, after_a_burst, with_a_client_that_does_not_read)
