"""Goal: a client that is killed while it writes costs the server nothing: no descriptor, no memory, no later client.

Method: a child process sends 100 writes and is killed with SIGKILL, 50 times; every second time it is known to stand in
the middle of a write's payload, else somewhere in full flight. Descriptors must return exactly, memory must not grow
once warm.
"""
import os
import random
import signal
import subprocess

from support import SANITIZED, check, die_with_parent, eventually, fewer, need, run
from wire import Client, pattern, sane, write_request

WRITES, BLOCK, ROUNDS, WARM = 100, 65536, fewer(50), fewer(10)
CUT = 4 << 20  # The write that is cut off is large, so that a buffer lost per killed client shows in the memory.
GROWTH_KIB = 16384 if not SANITIZED else 600 << 10  # AddressSanitizer keeps 256 MiB of freed memory on purpose.


def write_until_killed(address, report, stop_at):
    """The child. Reports one byte per write sent; at write stop_at it sends half and waits for its end."""
    client = Client(address).go()
    block = pattern(BLOCK)
    for n in range(WRITES):
        raw = write_request(n * BLOCK, block, handle=n)
        if n == stop_at:
            client.send(write_request(0, bytes(CUT), handle=n)[: CUT // 2])
            os.write(report, b"x")
            signal.pause()
        client.send(raw)
        os.write(report, b"x")
    signal.pause()


def killed_client(address, rng, in_payload):
    reader, report = os.pipe()
    stop_at = rng.randrange(1, WRITES) if in_payload else WRITES
    kill_after = stop_at + 1 if in_payload else rng.randrange(1, WRITES)
    child = os.fork()
    if child == 0:
        try:
            die_with_parent()
            os.close(reader)
            write_until_killed(address, report, stop_at)
        finally:
            os._exit(1)
    os.close(report)
    seen = 0
    while seen < kill_after:
        some = os.read(reader, kill_after - seen)
        check(some, "the writing client ended by itself; was its connection closed?")
        seen += len(some)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)


def fifty_times(case, address, server):
    fds, rng, warm_kib = server.fds(), random.Random(50), 0
    sane(address)
    for n in range(ROUNDS):
        killed_client(address, rng, in_payload=n % 2 == 0)
        check(server.alive(), f"the server died in round {n}")
        if n % 10 == 9:
            sane(address)
        if n == WARM - 1:
            server.fds_return_to(fds, "after the warm-up")
            warm_kib = server.anonymous_kib()
    server.fds_return_to(fds, f"after {ROUNDS} killed clients")
    growth = server.anonymous_kib() - warm_kib
    print(f"      memory grew by {growth} KiB")
    check(growth <= GROWTH_KIB, f"memory grew by {growth} KiB over {ROUNDS - WARM} killed clients")
    sane(address)
    server.stop()


def over_unix(case):
    server = case.serve(case.disk(WRITES * BLOCK))
    fifty_times(case, case.socket, server)


def over_tcp(case):
    server = case.spawn("--listen", "127.0.0.1:0", case.disk(WRITES * BLOCK)).wait_ready()
    fifty_times(case, ("127.0.0.1", server.port()), server)


def fio_killed(case):
    """The same with a client that others wrote, 64 writes in flight."""
    need("fio")
    server = case.serve(case.disk(16 << 20))
    fds = server.fds()
    sane(case.socket)
    for n in range(fewer(6)):
        log = case.path(f"fio.{n}")
        with open(log, "wb") as out:
            command = ["fio", "--thread", "--name=k", "--ioengine=nbd", f"--uri={case.uri}", "--rw=randwrite", "--bs=64k",
                       "--size=16M", "--iodepth=64", "--time_based", "--runtime=600"]
            fio = case.adopt(subprocess.Popen(command, stdout=out, stderr=out, cwd=case.dir, preexec_fn=die_with_parent), log)
        before = server.cpu_ticks()
        eventually(lambda: server.fds() > fds and server.cpu_ticks() > before + 5, "fio writes")
        fio.kill()
        check(server.alive(), "the server died")
    server.fds_return_to(fds, "after fio was killed")
    sane(case.socket)
    server.stop()


run(over_unix, over_tcp, fio_killed)
