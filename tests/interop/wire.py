"""A raw NBD client for tests: the wire format in plain sight, nothing hidden, nothing retried.

Source: the NBD protocol document (doc/proto.md of NetworkBlockDevice/nbd, public domain). Fixed newstyle, simple
replies.
"""
import fcntl
import os
import random
import socket
import struct
import threading
import time

from support import DEADLINE, Failure, check, equal

INIT_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698

FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES = 1, 2

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO = 1, 2, 3, 5, 6, 7
OPT_STRUCTURED_REPLY, OPT_LIST_META, OPT_SET_META, OPT_EXTENDED_HEADERS = 8, 9, 10, 11

REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
REP_ERR = 1 << 31
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_PLATFORM, ERR_TLS_REQD = (REP_ERR + n for n in range(1, 6))
ERR_UNKNOWN, ERR_SHUTDOWN, ERR_BLOCK_SIZE_REQD, ERR_TOO_BIG = (REP_ERR + n for n in range(6, 10))

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = range(4)

HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL, SEND_TRIM, SEND_ZEROES = (1 << n for n in range(7))
SEND_DF, CAN_MULTI_CONN, SEND_RESIZE, SEND_CACHE, SEND_FAST_ZERO = (1 << n for n in range(7, 12))

READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, BLOCK_STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = (1 << n for n in range(5))

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108

MIB = 1 << 20
MAX_PAYLOAD = 64 * MIB


def request(command, offset=0, length=0, handle=0, flags=0, payload=b"", magic=REQUEST_MAGIC):
    return struct.pack(">IHHQQI", magic, flags, command, handle, offset, length) + payload


def write_request(offset, payload, handle=0, flags=0):
    return request(WRITE, offset, len(payload), handle, flags, payload)


def option_request(option, data=b"", length=None, magic=OPTION_MAGIC):
    return magic + struct.pack(">II", option, len(data) if length is None else length) + data


def go_data(name, infos=(), name_length=None):
    raw = name if isinstance(name, bytes) else name.encode()
    size = len(raw) if name_length is None else name_length
    return struct.pack(">I", size) + raw + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def pattern(size, seed=1):
    return random.Random(seed).randbytes(size)


class Closed(Failure):
    """The server closed the connection where the test expected bytes."""


def connected(address):
    """A socket: address is a path (Unix) or (host, port)."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(DEADLINE)
    sock.connect(address)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class PipeEnds:
    """The part of a socket's interface that Client uses, over two descriptors (a server on its standard streams)."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def recv(self, size):
        return os.read(self.reader, size)

    def sendall(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.writer, view):]

    def close(self):
        for fd in (self.reader, self.writer):
            os.close(fd)


class Client:
    """A connection. Context manager: closes at the end."""

    def __init__(self, address, greet=True):
        self.sock = connected(address) if isinstance(address, (str, tuple)) else address
        self.size = self.flags = None
        if greet:
            self.greet()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # bytes

    def send(self, data):
        self.sock.sendall(data)

    def recv(self, size):
        parts, left = [], size
        while left:
            try:
                part = self.sock.recv(min(left, MIB))
            except TimeoutError:
                raise Failure(f"no bytes for {DEADLINE} s; {size - left} of {size} came") from None
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed(f"closed after {size - left} of {size} bytes")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def unpack(self, layout):
        return struct.unpack(layout, self.recv(struct.calcsize(layout)))

    def expect_end(self, what):
        """The server closes now, and sends nothing more before."""
        try:
            extra = self.recv(1)
        except Closed:
            return
        raise Failure(f"{what}: the connection goes on, byte {extra!r}")

    def unread(self):
        """Bytes that have come and were not read (FIONREAD)."""
        return struct.unpack("i", fcntl.ioctl(self.sock, 0x541B, b"\0" * 4))[0]

    def drip(self, data):
        """One byte at a time, each after the server took the one before."""
        for i in range(len(data)):
            self.send_taken(data[i : i + 1])

    def send_taken(self, data):
        """Sends and waits until the server took it from the socket (Unix sockets only: SIOCOUTQ tells)."""
        self.sock.sendall(data)
        end = time.monotonic() + DEADLINE
        while struct.unpack("i", fcntl.ioctl(self.sock, 0x5411, b"\0" * 4))[0]:
            if time.monotonic() > end:
                raise Failure(f"the server did not take {len(data)} bytes within {DEADLINE} s")
            time.sleep(0)

    # handshake

    def greet(self, flags=FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES):
        self.read_greeting()
        self.no_zeroes = bool(flags & FLAG_NO_ZEROES)
        self.send(struct.pack(">I", flags))

    def read_greeting(self):
        magic, option_magic, self.handshake_flags = self.unpack(">8s8sH")
        equal((magic, option_magic), (INIT_MAGIC, OPTION_MAGIC), "greeting")

    def option(self, option, data=b""):
        """Sends one option; returns its replies [(type, data)...], the last of which is an ACK or an error."""
        self.send(option_request(option, data))
        return self.option_replies(option)

    def option_replies(self, option):
        replies = []
        while True:
            magic, echoed, kind, size = self.unpack(">QIII")
            equal(magic, OPTION_REPLY_MAGIC, "option reply magic")
            equal(echoed, option, "option a reply is for")
            check(size <= 65536, f"option reply of {size} bytes")
            replies.append((kind, self.recv(size)))
            if kind == REP_ACK or kind & REP_ERR:
                return replies

    def option_end(self, option, data=b""):
        """The type of the last reply."""
        return self.option(option, data)[-1][0]

    def infos(self, option, name="", infos=()):
        """INFO or GO that must succeed; returns {info: payload} and keeps size and flags."""
        replies = self.option(option, go_data(name, infos))
        equal(replies[-1][0], REP_ACK, f"option {option} for export {name!r}")
        found = {}
        for kind, data in replies[:-1]:
            equal(kind, REP_INFO, "reply type before the acknowledgement")
            found[struct.unpack(">H", data[:2])[0]] = data[2:]
        check(INFO_EXPORT in found, "no INFO_EXPORT")
        self.size, self.flags = struct.unpack(">QH", found[INFO_EXPORT])
        return found

    def go(self, name=""):
        self.infos(OPT_GO, name)
        return self

    def export_name(self, name=""):
        self.send(option_request(OPT_EXPORT_NAME, name.encode()))
        self.size, self.flags = self.unpack(">QH")
        if not self.no_zeroes:
            equal(self.recv(124), bytes(124), "the 124 zeroes")
        return self

    # transmission

    def reply(self):
        """(handle, error) of the next simple reply; the payload of a good READ follows and is the caller's to take."""
        magic, error, handle = self.unpack(">IIQ")
        equal(magic, REPLY_MAGIC, "reply magic")
        return handle, error

    def error_of(self, raw, handle=0):
        """Sends one request that returns no payload; its error."""
        self.send(raw)
        got, error = self.reply()
        equal(got, handle, "handle")
        return error

    def command(self, command, offset=0, length=0, flags=0):
        return self.error_of(request(command, offset, length, flags=flags))

    def read(self, offset, length):
        equal(self.command(READ, offset, length), 0, f"error of read {length} at {offset}")
        return self.recv(length)

    def write(self, offset, data, flags=0):
        equal(self.error_of(write_request(offset, data, flags=flags)), 0, f"error of write {len(data)} at {offset}")

    def flush(self):
        equal(self.command(FLUSH), 0, "error of flush")

    def disconnect(self):
        self.send(request(DISC))
        self.expect_end("after DISC")
        self.close()


class Sender(threading.Thread):
    """Sends bytes beside a reader, so that a full socket buffer stops neither. An error ends it quietly; None ends the
    sending side."""

    def __init__(self, client, chunks):
        super().__init__(daemon=True)
        self.client, self.chunks = client, chunks
        self.start()

    def run(self):
        try:
            for chunk in self.chunks:
                if chunk is None:
                    self.client.sock.shutdown(socket.SHUT_WR)
                else:
                    self.client.send(chunk)
        except OSError:
            pass


def sane(address, name=""):
    """A client that came later gets right answers: read what it wrote, flush, leave."""
    with Client(address).go(name) as client:
        if client.flags & READ_ONLY:
            client.read(0, 1)
        else:
            before = client.read(0, 4096)
            client.write(0, before)
            equal(client.read(0, 4096), before, "what was written")
            client.flush()
        client.disconnect()
