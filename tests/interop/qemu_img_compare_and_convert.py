"""Goal: qemu-img reads, writes and compares through the server. Method: raw and qcow2 images made of the same random
data."""
import filecmp
import json

from support import SANITIZED, check, equal, need, run, tool
from wire import pattern

# A multiple of 512: qemu 7.2 rounds other sizes up and, where replies are simple, waits for bytes past the end.
SIZE = (8 if SANITIZED else 64) << 20


def image(case):
    return case.disk(SIZE, "image", pattern(SIZE // 4, 5))


def info_says_the_size(case):
    need("qemu-img")
    case.serve(image(case))
    equal(json.loads(tool("qemu-img", "info", "--output=json", case.uri))["virtual-size"], SIZE, "virtual-size")


def compare_finds_equal_and_different(case):
    need("qemu-img")
    path = image(case)
    case.serve(case.disk(SIZE, "served", pattern(SIZE // 4, 5)))
    tool("qemu-img", "compare", "-f", "raw", "-F", "raw", path, case.uri)
    with open(case.path("served"), "r+b") as file:
        file.seek(SIZE - 1)
        file.write(b"x")
    tool("qemu-img", "compare", "-f", "raw", "-F", "raw", path, case.uri, ok=False)


def qcow2_to_the_server_and_back(case):
    need("qemu-img")
    path, disk = image(case), case.disk(SIZE, data=b"\x55" * SIZE)
    case.serve(disk)
    qcow, back = case.path("q"), case.path("back")
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, qcow)
    tool("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", qcow, case.uri)
    check(filecmp.cmp(path, disk, shallow=False), "the file behind the server differs after convert")
    tool("qemu-img", "convert", "-f", "raw", "-O", "raw", case.uri, back)
    check(filecmp.cmp(path, back, shallow=False), "what convert read back differs")


def a_qcow2_behind_the_server_checks_clean(case):
    """The server hands out the bytes of a qcow2 file; qemu opens the format on its side, writes into it, and it stays
    sound."""
    need("qemu-img", "qemu-io")
    qcow = case.path("disk.qcow2")
    tool("qemu-img", "create", "-f", "qcow2", qcow, "16M")
    with open(qcow, "r+b") as file:
        file.truncate(32 << 20)
    case.serve(qcow)
    tool("qemu-io", "-f", "qcow2", case.uri, "-c", "write -P 9 0 8M", "-c", "discard 1M 1M", "-c", "flush")
    tool("qemu-img", "check", "-f", "qcow2", case.uri)
    tool("qemu-io", "-f", "qcow2", case.uri, "-c", "read -P 9 2M 6M", "-c", "read -P 0 8M 8M")


run(info_says_the_size, compare_finds_equal_and_different, qcow2_to_the_server_and_back,
    a_qcow2_behind_the_server_checks_clean)
