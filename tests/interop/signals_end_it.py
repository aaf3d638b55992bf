"""Goal: SIGTERM and SIGINT end the server with 0 in whatever state its clients are. Method: one state after the
other."""
import os
import signal
import socket
import struct

from support import STOP_LIMIT, check, equal, eventually, run
from wire import FLUSH, OPT_GO, OPT_LIST, Client, connected, go_data, option_request, request, sane

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def each_signal(case, state):
    """state(address) connects clients and returns them."""
    disk = case.disk(1 << 20)
    for sig in SIGNALS:
        server = case.serve(disk)
        clients = state(case.socket)
        server.stop(sig)
        check(not os.path.lexists(case.socket), "the socket file is still there")
        for client in clients:
            client.close()


def without_clients(case):
    each_signal(case, lambda address: [])


def before_the_greeting_is_read(case):
    each_signal(case, lambda address: [connected(address) for _ in range(20)])


def with_idle_clients(case):
    each_signal(case, lambda address: [Client(address).go() for _ in range(20)])


def during_handshakes(case):
    """A client at every byte of the handshake."""
    raw = struct.pack(">I", 3) + option_request(OPT_LIST) + option_request(OPT_GO, go_data("disk.img"))

    def state(address):
        clients = []
        for length in range(0, len(raw), 3):
            client = Client(address, greet=False)
            client.read_greeting()
            client.send(raw[:length])
            clients.append(client)
        return clients

    each_signal(case, state)


def idle_clients_are_told_by_the_end_of_the_stream(case):
    server = case.serve(case.disk(1 << 20))
    clients = [Client(case.socket).go() for _ in range(5)]
    server.stop()
    for client in clients:
        client.expect_end("after the server ended")
        client.close()


def two_signals_are_one(case):
    """An impatient operator: more signals while it drains change nothing. It may be over before the last of them."""
    server = case.serve(case.disk(1 << 20))
    clients = [Client(case.socket).go() for _ in range(10)]
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
        server.popen.send_signal(sig)
    equal(server.wait(STOP_LIMIT, "after four signals"), 0, "exit code")
    for client in clients:
        client.close()


def nobody_gets_in_afterwards(case):
    """Once it has ended, and over TCP too, the address refuses."""
    server = case.spawn("--unix", case.socket, "--listen", "127.0.0.1:0", case.disk(1 << 20)).wait_ready()
    port = server.port()
    sane(case.socket)
    sane(("127.0.0.1", port))
    server.stop()
    for address in (case.socket, ("127.0.0.1", port)):
        try:
            connected(address).close()
        except (ConnectionRefusedError, FileNotFoundError):
            continue
        check(False, f"{address} still accepts")


def a_client_that_leaves_does_not_kill_it(case):
    """Writing to a client that is gone: SIGPIPE must not end the server."""
    server = case.serve(case.disk(1 << 20))
    fds = server.fds()
    for _ in range(50):
        client = Client(case.socket).go()
        client.send(request(FLUSH) * 64)
        client.close()
    server.fds_return_to(fds, "after clients that did not wait")
    sane(case.socket)
    server.stop()


def tcp_reset_does_not_kill_it(case):
    server = case.spawn("--listen", "127.0.0.1:0", case.disk(1 << 20)).wait_ready()
    fds = server.fds()
    for n in range(30):
        client = Client(("127.0.0.1", server.port()))
        if n % 2:
            client.go()
            client.send(request(0, 0, 65536) * 16)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    server.fds_return_to(fds, "after resets")
    sane(("127.0.0.1", server.port()))
    server.stop()


def stops_with_requests_queued_by_an_idle_reader(case):
    """Requests answered, replies unread but fitting the socket: nothing to wait for."""
    server = case.serve(case.disk(1 << 20))
    client = Client(case.socket).go()
    client.send(request(FLUSH, handle=3) * 10)
    eventually(lambda: client.unread() >= 160, "ten replies")
    server.stop()
    equal([client.reply() for _ in range(10)], [(3, 0)] * 10, "replies sent before the end")
    client.expect_end("after the replies")
    client.close()


run(without_clients, before_the_greeting_is_read, with_idle_clients, during_handshakes,
    idle_clients_are_told_by_the_end_of_the_stream, two_signals_are_one, nobody_gets_in_afterwards,
    a_client_that_leaves_does_not_kill_it, tcp_reset_does_not_kill_it, stops_with_requests_queued_by_an_idle_reader)
