"""Goal: replies may come in any order, each handle exactly once, each read with its own data; DISC does not cut them
off.

Method: 256 mixed requests in flight on one raw connection, over disjoint ranges, so that the outcome is known.
"""
import random

from support import check, equal, fewer, run
from wire import CACHE, DISC, FLUSH, FUA, READ, ZEROES, Client, Closed, Sender, pattern, request, sane, write_request

BLOCK, COUNT = 4096, 256


class Mix:
    """COUNT requests with random handles: reads of the first half of the file, changes in the second."""

    def __init__(self, seed, base):
        self.rng = random.Random(seed)
        self.base, self.half = base, COUNT * BLOCK
        self.reads, self.pending, self.expected, chunks = {}, set(), {}, []
        for n in range(COUNT):
            chunks.append(self.one(n, self.rng.getrandbits(64)))
        self.chunks = self.gathered(chunks)

    def one(self, n, handle):
        self.pending.add(handle)
        kind, place = self.rng.randrange(6), self.half + n * BLOCK
        if kind <= 1:
            offset = self.rng.randrange(self.half - BLOCK)
            length = self.rng.randrange(1, BLOCK)
            self.reads[handle] = (offset, length)
            return request(READ, offset, length, handle)
        if kind <= 3:
            data = self.rng.randbytes(BLOCK)
            self.expected[place] = data
            return write_request(place, data, handle, FUA if kind == 3 else 0)
        if kind == 4:
            self.expected[place] = bytes(BLOCK)
            return request(ZEROES, place, BLOCK, handle)
        return request(FLUSH, 0, 0, handle) if self.rng.randrange(2) else request(CACHE, n * BLOCK, BLOCK, handle)

    def gathered(self, chunks):
        """Cut into segments that do not keep to request boundaries."""
        raw, cuts, at = b"".join(chunks), [], 0
        while at < len(raw):
            size = self.rng.randrange(1, 20000)
            cuts.append(raw[at : at + size])
            at += size
        return cuts

    def take_replies(self, client):
        while self.pending:
            handle, error = client.reply()
            check(handle in self.pending, f"a reply for handle {handle:#x}, which is not in flight")
            self.pending.discard(handle)
            equal(error, 0, f"error of {handle:#x}")
            if handle in self.reads:
                offset, length = self.reads[handle]
                equal(client.recv(length), self.base[offset : offset + length], f"read {length} at {offset}")


def served(case):
    base = pattern(COUNT * BLOCK)
    return base, case.serve(case.disk(2 * COUNT * BLOCK, data=base + b"\xcc" * len(base)))


def mixed_requests(case):
    base, server = served(case)
    with Client(case.socket).go() as client:
        for seed in range(fewer(10)):
            mix = Mix(seed, base)
            sender = Sender(client, mix.chunks)
            mix.take_replies(client)
            sender.join()
            for place, data in mix.expected.items():
                check(client.read(place, BLOCK) == data, f"seed {seed}: wrong data at {place}")
        client.disconnect()
    server.stop()


def mixed_requests_over_tcp(case):
    base = pattern(COUNT * BLOCK)
    server = case.spawn("--listen", "127.0.0.1:0", case.disk(2 * COUNT * BLOCK, data=base)).wait_ready()
    with Client(("127.0.0.1", server.port())).go() as client:
        for seed in range(fewer(10)):
            mix = Mix(seed, base)
            sender = Sender(client, mix.chunks)
            mix.take_replies(client)
            sender.join()
        client.disconnect()
    server.stop()


def the_same_handle_in_flight(case):
    """Handles are the client's business: the server only echoes them."""
    _, server = served(case)
    with Client(case.socket).go() as client:
        client.send(request(FLUSH, handle=7) * 32)
        equal([client.reply() for _ in range(32)], [(7, 0)] * 32, "replies")
    server.stop()


def disconnect_with_replies_queued(case):
    """All requests before DISC are carried out and answered, then the stream ends; 30 times, as this is a race
    elsewhere."""
    base, server = served(case)
    fds = server.fds()
    for seed in range(fewer(30)):
        client = Client(case.socket).go()
        mix = Mix(1000 + seed, base)
        sender = Sender(client, [*mix.chunks, request(DISC)])
        mix.take_replies(client)
        client.expect_end("after the last reply")
        sender.join()
        client.close()
    server.fds_return_to(fds, "after DISC")
    sane(case.socket)
    server.stop()


def disconnect_of_a_slow_reader(case):
    """DISC is sent while megabytes of replies are still queued, and only then does the client begin to read."""
    base, server = served(case)
    client = Client(case.socket).go()
    length = len(base) // 2
    client.send(b"".join(request(READ, 0, length, n) for n in range(48)) + request(DISC))
    left = set(range(48))
    while left:
        handle, error = client.reply()
        check(handle in left and error == 0, f"handle {handle} error {error}")
        left.discard(handle)
        check(client.recv(length) == base[:length], f"data of {handle}")
    client.expect_end("after the last reply")
    client.close()
    server.stop()


def requests_after_disconnect_are_not_served(case):
    base, server = served(case)
    with Client(case.socket).go() as client:
        client.send(request(DISC) + write_request(0, b"after DISC", 1))
        client.expect_end("after DISC")
    with Client(case.socket).go() as client:
        equal(client.read(0, 10), base[:10], "what was there before")
    server.stop()


def end_without_disconnect(case):
    """The client shuts down its sending side without DISC: replies may be missing, but what comes is right, and then
    the end."""
    base, server = served(case)
    fds = server.fds()
    for seed in range(fewer(10)):
        client = Client(case.socket).go()
        mix = Mix(2000 + seed, base)
        sender = Sender(client, [*mix.chunks, None])
        try:
            mix.take_replies(client)
            client.expect_end("after the last reply")
        except Closed:
            pass
        sender.join()
        client.close()
    server.fds_return_to(fds, "after the clients left")
    sane(case.socket)
    server.stop()


run(mixed_requests, mixed_requests_over_tcp, the_same_handle_in_flight, disconnect_with_replies_queued,
    disconnect_of_a_slow_reader, requests_after_disconnect_are_not_served, end_without_disconnect)
