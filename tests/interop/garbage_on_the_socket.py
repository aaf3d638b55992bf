"""Goal: no bytes whatever end the server or cost it anything. Method: seeded random bytes at every stage of a
connection."""
import random
import struct

from support import check, fewer, run
from wire import OPT_GO, REQUEST_MAGIC, Client, go_data, option_request, request, sane, write_request


def as_first_bytes(rng):
    return b""


def as_options(rng):
    return struct.pack(">I", 3)


def as_option_data(rng):
    size = rng.randrange(1, 6000)
    return struct.pack(">I", 3) + option_request(rng.randrange(12), rng.randbytes(size), rng.choice((size, size + 100, 1 << 30)))


def as_requests(rng):
    return struct.pack(">I", 3) + option_request(OPT_GO, go_data("disk.img", (1, 3)))


def as_request_fields(rng):
    raw = as_requests(rng)
    for _ in range(rng.randrange(1, 20)):
        raw += struct.pack(">I", REQUEST_MAGIC) + rng.randbytes(24)
    return raw


def after_real_work(rng):
    raw = as_requests(rng)
    for n in range(10):
        raw += write_request(n * 512, rng.randbytes(512), n) + request(0, n * 512, 512, 100 + n)
    return raw


STAGES = (as_first_bytes, as_options, as_option_data, as_requests, as_request_fields, after_real_work)


def garbage(address, rng, stage, reads):
    client = Client(address, greet=False)
    try:
        client.read_greeting()
        client.send(stage(rng) + rng.randbytes(rng.randrange(1, 4000)))
        if reads:
            client.sock.recv(1 << 16)
    except OSError:
        pass  # Being thrown out is a right answer.
    finally:
        client.close()


def at_every_stage(case):
    seed = 20240607
    rng = random.Random(seed)
    server = case.serve(case.disk(1 << 20), "--handshake-timeout", "2")
    fds = server.fds()
    for n in range(fewer(600)):
        stage = STAGES[n % len(STAGES)]
        garbage(case.socket, rng, stage, reads=n % 5 == 0)
        check(server.alive(), f"garbage {n} {stage.__name__} (seed {seed}) ended the server with {server.popen.poll()}")
    sane(case.socket)
    server.fds_return_to(fds, "after the garbage")
    server.stop()


def other_protocols(case):
    """What comes to an open port: HTTP, TLS, SSH, and an old NBD request."""
    server = case.spawn("--listen", "127.0.0.1:0", case.disk(1 << 20)).wait_ready()
    address = ("127.0.0.1", server.port())
    for raw in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"SSH-2.0-x\r\n",
                request(0, 0, 512), bytes(100000), b"\xff" * 100000):
        client = Client(address, greet=False)
        client.read_greeting()
        try:
            client.send(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass
        client.expect_end(f"after {raw[:12]!r}")
        client.close()
    sane(address)
    server.stop()


run(at_every_stage, other_protocols)
