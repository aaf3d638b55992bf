"""Goal: SIGTERM under load loses nothing that was acknowledged, and the server is gone with exit code 0 within 5 s.

Method: raw clients write with many requests in flight; the signal comes after a counted number of replies. Every reply
must be success or ESHUTDOWN, and every block acknowledged must be in the file. Some clients have stopped reading their
replies.
"""
import subprocess
import threading

from support import check, die_with_parent, equal, eventually, need, run
from wire import ESHUTDOWN, FUA, READ, Client, Closed, Sender, pattern, request, write_request

BLOCK, DEPTH = 16384, 16


class Writer(threading.Thread):
    """Writes blocks of a pattern of its own over its part of the file until the connection ends, DEPTH in flight."""

    def __init__(self, address, base, count, flags=0):
        super().__init__(daemon=True)
        self.client = Client(address).go()
        self.base, self.count, self.flags = base, count, flags
        self.acknowledged, self.refused, self.wrong = set(), 0, None
        self.start()

    def block(self, n):
        return pattern(BLOCK, self.base + n)

    def raw(self, n):
        return write_request((self.base + n) * BLOCK, self.block(n), n, self.flags)

    def run(self):
        try:
            sent = 0
            while sent < min(DEPTH, self.count):
                self.client.send(self.raw(sent))
                sent += 1
            while True:
                self.take(*self.client.reply())
                if sent < self.count:
                    self.client.send(self.raw(sent))
                    sent += 1
        except (Closed, OSError):
            pass
        except Exception as error:
            self.wrong = error
        finally:
            self.client.close()  # As clients do once the stream has ended.

    def take(self, handle, error):
        if handle >= self.count or handle in self.acknowledged:
            raise Exception(f"reply for handle {handle}, which is not in flight")
        if error == 0:
            self.acknowledged.add(handle)
        elif error == ESHUTDOWN:
            self.refused += 1
        else:
            raise Exception(f"error {error} for write {handle}")

    def done(self, path):
        """After the server's end: the thread has ended, and what was acknowledged is in the file."""
        self.join(30)
        check(not self.is_alive(), "the writer still waits although the server is gone")
        if self.wrong:
            raise self.wrong
        with open(path, "rb") as file:
            for n in sorted(self.acknowledged):
                file.seek((self.base + n) * BLOCK)
                check(file.read(BLOCK) == self.block(n), f"write {n} was acknowledged and is not in the file")


def stop_under_load(case, writers_of, disk, after):
    server = case.serve(disk)
    writers = writers_of(case.socket)
    eventually(lambda: sum(len(w.acknowledged) for w in writers) >= after, f"{after} writes acknowledged")
    seconds = server.stop()
    for writer in writers:
        writer.done(disk)
    total = sum(len(w.acknowledged) for w in writers)
    print(f"      stopped after {seconds:.3f} s; {total} acknowledged, {sum(w.refused for w in writers)} refused")


def one_writer(case):
    stop_under_load(case, lambda a: [Writer(a, 0, 20000)], case.disk(20000 * BLOCK), after=100)


def four_writers_with_fua(case):
    disk = case.disk(4 * 5000 * BLOCK)
    stop_under_load(case, lambda a: [Writer(a, n * 5000, 5000, FUA) for n in range(4)], disk, after=50)


def again_and_again(case):
    """The signal at ten different moments, the first before any reply."""
    for n in range(10):
        case.socket = case.path(f"s{n}")
        stop_under_load(case, lambda a: [Writer(a, 0, 5000)], case.disk(5000 * BLOCK), after=n * 7)


def a_client_that_stopped_reading(case):
    """Its replies fill the socket; it neither keeps the server alive nor keeps another client's writes from being
    answered."""
    disk = case.disk(64 << 20)
    server = case.serve(disk)
    stalled = Client(case.socket).go()
    Sender(stalled, [request(READ, 0, 1 << 20, n) for n in range(60)])
    writer = Writer(case.socket, 0, 3000)
    eventually(lambda: len(writer.acknowledged) >= 50, "50 writes acknowledged beside the stalled client")
    seconds = server.stop()
    writer.done(disk)
    stalled.close()
    print(f"      stopped after {seconds:.3f} s beside a client that does not read")


def a_client_that_stopped_in_a_payload(case):
    """Half a write has arrived. It is never acknowledged; whether its bytes are in the file is open, but not past its
    range."""
    disk = case.disk(1 << 20)
    server = case.serve(disk)
    client = Client(case.socket).go()
    client.write(0, b"a" * 4096)
    client.send(write_request(65536, b"b" * 65536)[:30000])
    server.stop()
    try:
        _, error = client.reply()
        equal(error, ESHUTDOWN, "error of the half write")
    except Closed:
        pass
    with open(disk, "rb") as file:
        data = file.read()
    equal(data[:4096], b"a" * 4096, "the acknowledged write")
    equal(data[4096:65536].strip(b"\0"), b"", "before the half write")
    equal(data[65536 + 30000 :].strip(b"\0"), b"", "after what was sent")


def fio_writes(case):
    need("fio")
    server = case.serve(case.disk(64 << 20))
    fds, log = server.fds(), case.path("fio")
    with open(log, "wb") as out:
        command = ["fio", "--thread", "--name=k", "--ioengine=nbd", f"--uri={case.uri}", "--rw=randwrite", "--bs=64k",
                   "--size=64M", "--iodepth=64", "--time_based", "--runtime=600"]
        case.adopt(subprocess.Popen(command, stdout=out, stderr=out, cwd=case.dir, preexec_fn=die_with_parent), log)
    before = server.cpu_ticks()
    eventually(lambda: server.fds() > fds and server.cpu_ticks() > before + 5, "fio writes")
    server.stop()


run(one_writer, four_writers_with_fua, again_and_again, a_client_that_stopped_reading,
    a_client_that_stopped_in_a_payload, fio_writes)
