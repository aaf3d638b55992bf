"""Goal: under --elevator fair and under --direct clients find the same disk: nothing lost, no alignment asked of them.

Method: fio writes and verifies blocks of many sizes through each, qemu-io touches single bytes, and the file holds what was
written. Two clients at once, under fair, both get their data.
"""
import os
import subprocess

from fio_runs import verify
from support import SANITIZED, check, equal, need, run, tool

SIZE = 16 if SANITIZED else 64  # MiB


def offers_direct(case):
    """Whether the file system of the case's files takes O_DIRECT at all."""
    probe = case.disk(4096)
    try:
        os.close(os.open(probe, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


def fair_mixed_sizes(case):
    case.serve("--elevator", "fair", case.disk(SIZE << 20))
    verify(case, case.uri, SIZE, "--rw=randrw", "--bsrange=512-1m")


def fair_two_clients(case):
    """Two jobs, each with a connection and a half of its own."""
    case.serve("--elevator=fair", case.disk(SIZE << 20))
    verify(case, case.uri, SIZE // 2, "--rw=randwrite", "--bs=16k", "--numjobs=2", f"--offset_increment={SIZE // 2}M")


def direct_mixed_sizes(case):
    if not offers_direct(case):
        return
    case.serve("--direct", "--elevator", "fair", case.disk(SIZE << 20))
    verify(case, case.uri, SIZE, "--rw=randrw", "--bsrange=512-1m")


def direct_single_bytes(case):
    if not offers_direct(case):
        return
    need("qemu-io")
    disk = case.disk(1 << 20)
    case.serve("--direct", disk)
    tool("qemu-io", "-f", "raw", case.uri, "-c", "write -P 7 4093 7", "-c", "write -z 8191 2", "-c", "read -P 7 4093 7", "-c", "flush")
    with open(disk, "rb") as file:
        file.seek(4090)
        equal(file.read(16), bytes(3) + bytes([7] * 7) + bytes(6), "the file, around what was written")


def direct_where_there_is_none(case):
    """One line that says what to do."""
    odd = case.disk(4097)
    done = subprocess.run([case.program, "serve", "--direct", "--unix", case.socket, odd], capture_output=True, timeout=30, check=False)
    said = done.stderr.decode()
    if offers_direct(case):
        equal(done.returncode, 2, f"exit code; it said {said!r}")
        check("--direct" in said and said.count("\n") == 1, f"not one line that names --direct: {said!r}")


run(fair_mixed_sizes, fair_two_clients, direct_mixed_sizes, direct_single_bytes, direct_where_there_is_none)
