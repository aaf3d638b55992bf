"""Goal: what was acknowledged and then flushed is in the file although the server was killed with SIGKILL.

FLUSH covers all connections of an export (CAN_MULTI_CONN): the write is on one connection, the flush on another.
This is the weak form: the page cache outlives a process, so it shows that nothing acknowledged waits in the server's
own memory. That flushed data is on the disk can only be shown by taking the power (or the virtual machine) away.
"""
import random

from support import check, equal, fewer, run
from wire import CAN_MULTI_CONN, FUA, ZEROES, Client, Sender, pattern, write_request

BLOCK, COUNT = 8192, 128


def blocks(seed):
    return [pattern(BLOCK, seed * 1000 + n) for n in range(COUNT)]


def in_file(path, data, what):
    with open(path, "rb") as file:
        for n, block in enumerate(data):
            file.seek(n * BLOCK)
            check(file.read(BLOCK) == block, f"{what}: block {n} is not in the file")


def write_all(client, data, flags=0):
    """All in flight at once, all acknowledged."""
    sender = Sender(client, [write_request(n * BLOCK, block, n, flags) for n, block in enumerate(data)])
    left = set(range(len(data)))
    while left:
        handle, error = client.reply()
        equal(error, 0, f"error of write {handle}")
        left.remove(handle)
    sender.join()


def flushed_on_another_connection(case):
    path = case.disk(COUNT * BLOCK)
    for seed in range(fewer(10, 2)):
        server, data = case.serve(path), blocks(seed)
        with Client(case.socket).go() as writer, Client(case.socket).go() as flusher:
            check(writer.flags & CAN_MULTI_CONN, "CAN_MULTI_CONN")
            write_all(writer, data)
            flusher.flush()
            server.kill()
        in_file(path, data, f"round {seed}")


def written_with_fua(case):
    path = case.disk(COUNT * BLOCK)
    server, data = case.serve(path), blocks(77)
    with Client(case.socket).go() as writer:
        write_all(writer, data, FUA)
        server.kill()
    in_file(path, data, "FUA")


def zeroed_and_flushed(case):
    path = case.disk(COUNT * BLOCK, data=b"\xaa" * COUNT * BLOCK)
    server = case.serve(path)
    with Client(case.socket).go() as writer, Client(case.socket).go() as flusher:
        equal(writer.command(ZEROES, 0, COUNT * BLOCK), 0, "zeroes")
        flusher.flush()
        server.kill()
    in_file(path, [bytes(BLOCK)] * COUNT, "zeroes")


def seen_by_other_connections_at_once(case):
    """A write that was acknowledged is what every other connection reads, before any flush."""
    case.serve(case.disk(COUNT * BLOCK))
    rng = random.Random(3)
    clients = [Client(case.socket).go() for _ in range(4)]
    for n in range(fewer(300)):
        writer, reader = rng.sample(clients, 2)
        data, offset = rng.randbytes(1000), rng.randrange(COUNT * BLOCK - 1000)
        writer.write(offset, data)
        check(reader.read(offset, 1000) == data, f"step {n}: another connection reads old data")
    for client in clients:
        client.disconnect()


def no_write_lands_after_the_next_clients(case):
    """A client that is gone has no say any more: after its connection ended, and a new client has written the same
    place and got its acknowledgement, nothing of the old client's queue may land on top."""
    path = case.disk(COUNT * BLOCK)
    server = case.serve(path)
    fds = server.fds()
    for seed in range(fewer(30)):
        old = Client(case.socket).go()
        old.send(b"".join(write_request(0, bytes([1 + seed]) * BLOCK, n) for n in range(8)))
        old.close()
        server.fds_return_to(fds, "after the old client left")
        new = b"new!" * (BLOCK // 4)
        with Client(case.socket).go() as client:
            client.write(0, new)
            client.flush()
            check(client.read(0, BLOCK) == new, f"round {seed}: an old write came late")
            client.disconnect()
        server.fds_return_to(fds, "after the new client left")
        with open(path, "rb") as file:
            check(file.read(BLOCK) == new, f"round {seed}: an old write came late")
    server.stop()


run(flushed_on_another_connection, written_with_fua, zeroed_and_flushed, seen_by_other_connections_at_once,
    no_write_lands_after_the_next_clients)
