"""Goal: the server listens where it was told, on several addresses at once, and on 127.0.0.1:10809 by default."""
import errno
import os
import socket
import subprocess

from support import SANITIZED, Skip, check, equal, fewer, need, run
from wire import Client, connected, sane


def unix_and_tcp_at_once(case):
    server = case.spawn("--unix", case.socket, "--listen", "127.0.0.1:0", case.disk(1 << 20)).wait_ready()
    with Client(case.socket).go() as one, Client(("127.0.0.1", server.port())).go() as two:
        one.write(0, b"seen by both")
        equal(two.read(0, 12), b"seen by both", "over TCP")
    server.stop()


def ipv6(case):
    with open("/proc/net/if_inet6") as file:
        if not file.read().strip():
            raise Skip("this machine has no IPv6 address")
    server = case.spawn("--listen", "[::1]:0", case.disk(1 << 20)).wait_ready()
    check("[::1]:" in server.log(), f"the log does not show the address: {server.log()!r}")
    sane(("::1", server.port()))
    server.stop()


def only_the_address_given(case):
    """127.0.0.1 means that one: another loopback address refuses."""
    server = case.spawn("--listen", "127.0.0.1:0", case.disk(1 << 20)).wait_ready()
    try:
        connected(("127.0.0.2", server.port()))
    except ConnectionRefusedError:
        server.stop()
        return
    check(False, "it listens on 127.0.0.2 as well")


def default_address(case):
    """Without any address: 127.0.0.1:10809. Skipped where that port is taken, for it may be a server that somebody
    needs."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 10809))
        except OSError as error:
            equal(error.errno, errno.EADDRINUSE, "error of bind")
            raise Skip("port 10809 is taken") from None
    server = case.spawn(case.disk(1 << 20)).wait_ready()
    equal(server.port(), 10809, "port")
    sane(("127.0.0.1", 10809))
    server.stop()


def the_same_port_again_at_once(case):
    """Connections of the last server in TIME_WAIT do not keep the next one from listening."""
    server = case.spawn("--listen", "127.0.0.1:0", case.disk(1 << 20)).wait_ready()
    port = server.port()
    client = Client(("127.0.0.1", port)).go()
    server.stop()
    client.close()
    again = case.spawn("--listen", f"127.0.0.1:{port}", case.disk(1 << 20)).wait_ready()
    sane(("127.0.0.1", port))
    again.stop()


def nbd_client_lists(case):
    """A third client: nbd-client -l (the kernel is not asked for a device)."""
    need("nbd-client")
    server = case.spawn("--listen", "127.0.0.1:0", "one=" + case.disk(4096, "a"), "two=" + case.disk(4096, "b")).wait_ready()
    done = subprocess.run(["nbd-client", "-N", "x", "-l", "127.0.0.1", str(server.port())], capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode()
    check("one" in said and "two" in said, f"nbd-client -l: {said!r}")
    server.stop()


def two_hundred_connections(case):
    server = case.serve(case.disk(1 << 20))
    fds = server.fds()
    clients = [Client(case.socket).go() for _ in range(200)]
    for n, client in enumerate(clients):
        client.write(n * 16, n.to_bytes(16, "big"))
    for n, client in enumerate(clients):
        equal(client.read((199 - n) * 16, 16), (199 - n).to_bytes(16, "big"), f"read of client {n}")
    for client in clients:
        client.disconnect()
    server.fds_return_to(fds, "after 200 connections")
    server.stop()


def clients_come_and_go(case):
    """A few bytes lost per client would show after thousands of them."""
    server = case.serve(case.disk(1 << 20))
    fds, visits = server.fds(), fewer(3000)
    for n in range(visits):
        with Client(case.socket) as client:
            if n % 3:
                client.go().read(0, 512)
            if n % 3 == 1:
                client.disconnect()
        if n == visits // 5:
            before = server.anonymous_kib()
    server.fds_return_to(fds, f"after {visits} clients")
    growth = server.anonymous_kib() - before
    print(f"      memory grew by {growth} KiB")
    check(growth < (1024 if not SANITIZED else 100 << 10), f"memory grew by {growth} KiB over {visits} clients")
    server.stop()


def out_of_descriptors_is_survived(case):
    """More clients than descriptors: some are turned away, those that are in go on, and later there is room again."""
    need("bash")
    if "undefined" in os.environ.get("SLUICE_SANITIZE", ""):
        raise Skip("the sanitizer's own check of vtables needs a pipe, and reports a false error without descriptors")
    server = case.serve(case.disk(1 << 20), prefix=["bash", "-c", 'ulimit -n 40; exec "$@"', "limit"])
    first = Client(case.socket).go()
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(60)]
    for sock in crowd:
        sock.setblocking(False)
        try:
            sock.connect(case.socket)
        except BlockingIOError:
            pass
    for _ in range(20):
        first.write(0, b"still served")
        equal(first.read(0, 12), b"still served", "beside the crowd")
    for sock in crowd:
        sock.close()
    sane(case.socket)
    first.disconnect()
    server.stop()


run(unix_and_tcp_at_once, ipv6, only_the_address_given, default_address, the_same_port_again_at_once, nbd_client_lists,
    two_hundred_connections, clients_come_and_go, out_of_descriptors_is_survived)
