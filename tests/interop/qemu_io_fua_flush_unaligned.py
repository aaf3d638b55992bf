"""Goal: qemu-io's writes arrive whatever their flags and alignment. Method: each is read back by pattern and in the
file."""
from support import check, equal, need, run, tool


def io(case, *commands, ok=True):
    need("qemu-io")
    said = tool("qemu-io", "-f", "raw", case.uri, *(part for c in commands for part in ("-c", c)), ok=ok)
    if ok:
        check("Pattern verification failed" not in said and "failed" not in said, f"qemu-io said: {said[-400:]}")
    return said


def in_file(path, offset, length):
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


def fua_and_flush(case):
    disk = case.disk(16 << 20)
    case.serve(disk)
    io(case, "write -f -P 0x5a 1M 64k", "read -P 0x5a 1M 64k", "flush", "aio_write -f -P 0x5b 2M 128k", "aio_flush")
    equal(in_file(disk, 1 << 20, 65536), b"\x5a" * 65536, "FUA write in the file")
    equal(in_file(disk, 2 << 20, 131072), b"\x5b" * 131072, "asynchronous FUA write in the file")


def unaligned(case):
    disk = case.disk((16 << 20) + 333)
    case.serve(disk)
    io(case, "write -P 0x11 1049089 777", "read -P 0x11 1049089 777", "write -P 0x12 511 3", "read -P 0x12 511 3",
       "write -z 600 100", "discard 4097 8191")
    equal(in_file(disk, 1049088, 779), b"\0" + b"\x11" * 777 + b"\0", "unaligned write and its neighbours")
    equal(in_file(disk, 510, 5), b"\0\x12\x12\x12\0", "write over a sector boundary")


def zeroes_and_discard(case):
    disk = case.disk(16 << 20)
    case.serve(disk)
    io(case, "write -P 7 8M 4M", "write -zu 8M 2M", "read -P 0 8M 2M", "read -P 7 10M 2M", "write -z 10M 1M",
       "read -P 0 10M 1M", "discard 11M 1M", "write -z -f 0 64k")
    equal(in_file(disk, 8 << 20, 3 << 20), bytes(3 << 20), "zeroes in the file")


def many_at_once(case):
    disk = case.disk(16 << 20)
    case.serve(disk)
    writes = [f"aio_write -P {n + 1} {n * 65536} 64k" for n in range(64)]
    io(case, *writes, "aio_flush", *(f"read -P {n + 1} {n * 65536} 64k" for n in range(64)))


def past_the_end_fails_and_the_next_request_works(case):
    case.serve(case.disk(1 << 20))
    check("read 4096/4096" not in io(case, "read 1M 4k", ok=None), "a read past the end succeeded")
    check("wrote 4096/4096" not in io(case, "write 1M 4k", ok=None), "a write past the end succeeded")
    io(case, "write -P 3 0 4k", "read -P 3 0 4k")


def read_only_refuses(case):
    case.serve("--read-only", case.disk(1 << 20))
    need("qemu-io")
    tool("qemu-io", "-f", "raw", case.uri, "-c", "write 0 4k", ok=False)
    tool("qemu-io", "-r", "-f", "raw", case.uri, "-c", "read -P 0 0 4k")


run(fua_and_flush, unaligned, zeroes_and_discard, many_at_once, past_the_end_fails_and_the_next_request_works,
    read_only_refuses)
