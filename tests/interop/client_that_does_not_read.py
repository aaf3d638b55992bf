"""Goal: a client that asks and never reads hurts only itself. Method: it asks for 1 GiB; another client's requests are
served, the server's memory stays bounded, and when the stalled one leaves everything it held is given back."""
import threading

from support import SANITIZED, check, eventually, fewer, run
from wire import MIB, READ, Client, Sender, pattern, request, sane, write_request

# The payload limit of one request (64 MiB) and as much again for what else a connection may hold. Sanitizers pad
# allocations.
BOUND_KIB = (128 << 10) * (4 if SANITIZED else 1)


def stalled_reader(address, handle=0):
    client = Client(address).go()
    sender = Sender(client, [request(READ, n % 32 * MIB, MIB, handle + n) for n in range(1024)])
    eventually(lambda: client.unread() > 65536, "replies pile up in the socket of the client that does not read")
    return client, sender


def memory_peak(server, done):
    """Watches until done() and returns the growth in KiB."""
    base, peak = server.anonymous_kib(), 0

    def look():
        nonlocal peak
        peak = max(peak, server.anonymous_kib() - base)
        return done()

    eventually(look, "the other client's requests")
    return peak


def works(address, rounds):
    data = pattern(65536)
    with Client(address).go() as client:
        for n in range(rounds):
            client.write(n % 16 * 65536, data)
            check(client.read(n % 16 * 65536, 65536) == data, f"round {n}: wrong data")
        client.flush()
        client.disconnect()


def beside(case, stalled_count):
    server = case.serve(case.disk(32 * MIB))
    fds = server.fds()
    sane(case.socket)
    stalled = [stalled_reader(case.socket, k << 32) for k in range(stalled_count)]
    errors = []

    def other():
        try:
            works(case.socket, fewer(500))
        except Exception as error:
            errors.append(error)

    worker = threading.Thread(target=other, daemon=True)
    worker.start()
    growth = memory_peak(server, lambda: not worker.is_alive())
    if errors:
        raise errors[0]
    check(growth <= BOUND_KIB * stalled_count, f"memory grew by {growth} KiB beside {stalled_count} clients that do not read")
    print(f"      {growth} KiB more beside {stalled_count} stalled clients")
    for client, _ in stalled:
        client.sock.shutdown(2)
    for client, sender in stalled:
        sender.join(30)
        client.close()
    server.fds_return_to(fds, "after the stalled clients left")
    sane(case.socket)
    server.stop()


def one_stalled_client(case):
    beside(case, 1)


def eight_stalled_clients(case):
    """More than the server has threads, surely: a thread that waits for a socket to drain is a thread lost."""
    beside(case, 8)


def sixty_four_that_stopped_in_a_payload(case):
    """Each has sent half of a 1 MiB write: no worker waits for the rest."""
    server = case.serve(case.disk(32 * MIB))
    fds = server.fds()
    clients = [Client(case.socket).go() for _ in range(64)]
    for client in clients:
        client.send(write_request(0, bytes(MIB))[: MIB // 2])
    works(case.socket, fewer(100))
    for client in clients:
        client.close()
    server.fds_return_to(fds, "after they left")
    server.stop()


def a_late_reader_gets_everything(case):
    """Not reading for a while is no error: all replies come once the client reads."""
    data = pattern(MIB)
    server = case.serve(case.disk(32 * MIB, data=data))
    client = Client(case.socket).go()
    sender = Sender(client, [request(READ, 0, MIB, n) for n in range(64)])
    works_disk = Client(case.socket).go()
    works_disk.read(0, MIB)
    seen = set()
    for _ in range(64):
        handle, error = client.reply()
        check(error == 0 and handle not in seen, f"reply {handle} error {error}")
        seen.add(handle)
        check(client.recv(MIB) == data, f"wrong data for {handle}")
    sender.join(30)
    client.disconnect()
    works_disk.close()
    server.stop()


run(one_stalled_client, eight_stalled_clients, sixty_four_that_stopped_in_a_payload, a_late_reader_gets_everything)
