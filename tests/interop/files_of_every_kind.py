"""Goal: what can be served is served, and a file in trouble gives errors to its clients, never an end to the server.

Method: huge, deleted and shrunk files, a block device, a full file system, a file size limit.
"""
import os
import subprocess

from support import Skip, check, equal, need, run
from wire import EIO, ENOSPC, MIB, READ, TRIM, WRITE, ZEROES, Client, request, sane, write_request


def in_memory(name):
    """A path on tmpfs, which has no limit on the size of a sparse file."""
    if not os.path.isdir("/dev/shm"):
        raise Skip("no /dev/shm")
    return f"/dev/shm/{name}-{os.getpid()}"


def a_huge_sparse_file(case):
    """2^62 bytes: offsets that do not fit 32 bits, a size near the end of what an off_t can say."""
    path, size = in_memory("huge"), 1 << 62
    with open(path, "wb") as file:
        os.truncate(file.fileno(), size)
        server = case.serve("huge=" + path)
        os.unlink(path)
    with Client(case.socket).go("huge") as client:
        equal(client.size, size, "size")
        for offset in (0, (1 << 32) - 3, (1 << 40) + 1, size - 7):
            client.write(offset, b"far out")
            equal(client.read(offset, 7), b"far out", f"at {offset}")
        equal(client.command(ZEROES, size - 7, 7), 0, "zeroes at the end")
        equal(client.read(size - 8, 8), bytes(8), "the end")
        equal(client.command(WRITE, size - 1, 0), 0, "nothing, at the end")
        client.disconnect()
    server.stop()


def a_deleted_file_is_still_served(case):
    path = case.disk(MIB)
    server = case.serve(path)
    os.unlink(path)
    sane(case.socket)
    server.stop()


def a_file_that_shrinks(case):
    """Somebody cuts it off behind the server's back: reads behind the new end fail or give zeroes, the rest goes on."""
    path = case.disk(MIB, data=b"\x77" * MIB)
    server = case.serve(path)
    with Client(case.socket).go() as client:
        os.truncate(path, 65536)
        for offset, length in ((MIB - 4096, 4096), (65536, 1), (65000, 4096), (0, MIB)):
            error = client.command(READ, offset, length)
            check(error in (0, EIO), f"read {length} at {offset}: error {error}")
            if error == 0:
                data = client.recv(length)
                equal(data.strip(b"\0"), b"\x77" * max(0, 65536 - offset), f"read {length} at {offset}")
        equal(client.read(0, 65536), b"\x77" * 65536, "what is left of it")
        client.write(MIB - 4, b"back")
        equal(client.read(MIB - 4, 4), b"back", "a write behind the new end")
        client.disconnect()
    sane(case.socket)
    server.stop()


def a_block_device(case):
    """A loop device; it is detached as soon as the server lets go of it."""
    need("losetup")
    if os.geteuid() != 0:
        raise Skip("loop devices are root's")
    path = case.disk(8 * MIB)
    made = subprocess.run(["losetup", "--find", "--show", path], capture_output=True)
    if made.returncode != 0:
        raise Skip(f"no loop device: {made.stderr.decode().strip()}")
    loop = made.stdout.decode().strip()
    try:
        server = case.serve("loop=" + loop)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
    with Client(case.socket).go("loop") as client:
        equal(client.size, 8 * MIB, "size")
        client.write(4097, b"odd offset of a block device")
        equal(client.read(4097, 28), b"odd offset of a block device", "read")
        client.write(MIB, b"\x99" * MIB)
        equal(client.command(ZEROES, MIB + 1, 8191), 0, "zeroes")
        equal(client.read(MIB, 8193), b"\x99" + bytes(8191) + b"\x99", "around the zeroes")
        equal(client.command(TRIM, 2 * MIB, MIB), 0, "trim")
        client.flush()
        client.disconnect()
    server.stop()
    with open(path, "rb") as file:
        file.seek(4097)
        equal(file.read(28), b"odd offset of a block device", "in the file behind the device")


def a_full_file_system(case):
    """ENOSPC for what does not fit, and the connection goes on; room that is given back can be used again."""
    need("unshare", "bash", "mount")
    if os.geteuid() != 0:
        raise Skip("mounting is root's")
    mount = case.path("mnt")
    os.mkdir(mount)
    script = f'mount -t tmpfs -o size=2m none {mount} && truncate -s 16M {mount}/disk && exec "$@"'
    trial = subprocess.run(["unshare", "-m", "bash", "-c", script, "trial", "true"], capture_output=True)
    if trial.returncode != 0:
        raise Skip(f"no private mount: {trial.stderr.decode().strip()}")
    server = case.spawn("--unix", case.socket, f"{mount}/disk", prefix=["unshare", "-m", "bash", "-c", script, "full"])
    server.wait_ready()
    with Client(case.socket).go() as client:
        client.write(0, b"\x11" * MIB)
        equal(client.error_of(write_request(MIB, b"\x22" * 4 * MIB)), ENOSPC, "4 MiB into 1 MiB of room")
        equal(client.read(0, MIB), b"\x11" * MIB, "what was there before")
        equal(client.command(TRIM, 0, 5 * MIB), 0, "trim")
        client.write(8 * MIB, b"\x33" * MIB)
        equal(client.read(8 * MIB, MIB), b"\x33" * MIB, "a write into the room given back")
        client.disconnect()
    server.stop()


def a_file_size_limit(case):
    """RLIMIT_FSIZE sends SIGXFSZ to whoever writes behind it, and that ends a process that is not prepared."""
    need("bash")
    server = case.serve(case.disk(8 * MIB), prefix=["bash", "-c", 'ulimit -f 1024; exec "$@"', "limit"])
    with Client(case.socket).go() as client:
        client.write(0, b"below the limit")
        for raw in (write_request(4 * MIB, b"above it"), write_request(MIB - 3, b"across"), request(ZEROES, 4 * MIB, 4096)):
            client.error_of(raw)
        check(client.error_of(write_request(4 * MIB, b"above it")) in (EIO, ENOSPC), "a write above the limit succeeded")
        equal(client.read(0, 15), b"below the limit", "afterwards")
        client.disconnect()
    server.stop()


def two_names_for_one_file(case):
    path = case.disk(MIB)
    server = case.serve("a=" + path, "b=" + path)
    with Client(case.socket).go("a") as one, Client(case.socket).go("b") as two:
        one.write(99, b"one file")
        equal(two.read(99, 8), b"one file", "through the other name")
    server.stop()


run(a_huge_sparse_file, a_deleted_file_is_still_served, a_file_that_shrinks, a_block_device, a_full_file_system,
    a_file_size_limit, two_names_for_one_file)
