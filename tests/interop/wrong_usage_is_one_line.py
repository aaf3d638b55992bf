"""Goal: wrong usage says what is wrong in one line on standard error, ends with 2, and leaves nothing behind.

Method: every wrong call there is; afterwards the directory holds what it held before, and the process is gone.
"""
import os
import shutil
import socket
import subprocess

from support import DEADLINE, check, die_with_parent, equal, need, run
from wire import sane


def tree(case):
    return sorted(os.listdir(case.dir))


def refused(case, *args, prefix=(), program=None, mentions=None, what=None):
    what = what or " ".join(map(str, args))[:120]
    before = tree(case)
    command = [*prefix, program or case.program, "serve", *map(str, args)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=DEADLINE, preexec_fn=die_with_parent)
    except subprocess.TimeoutExpired:
        check(False, f"{what}: it runs, and should have refused")
    said = done.stderr.decode(errors="replace")
    equal(done.returncode, 2, f"exit code of {what}; it said {said!r}")
    check(said.endswith("\n") and said.count("\n") == 1 and said.strip(), f"{what}: not one line on standard error: {said!r}")
    equal(done.stdout, b"", f"standard output of {what}")
    check(mentions is None or mentions in said, f"{what}: {said!r} does not name {mentions!r}")
    equal(tree(case), before, f"files left by {what}")


def files_that_cannot_be_served(case):
    good, socket_path = case.disk(4096), case.socket
    refused(case, "--unix", socket_path, case.path("missing"), mentions=case.path("missing"))
    refused(case, "--unix", socket_path, good, "second=" + case.path("missing"), mentions=case.path("missing"))
    refused(case, "--unix", socket_path, case.path("disk.img") + "/below", mentions="below")
    refused(case, "--unix", socket_path, case.dir, mentions=case.dir)
    refused(case, "--unix", socket_path, "--read-only", case.dir, mentions=case.dir)
    refused(case, "--unix", socket_path, "name=", what="an empty file name")
    refused(case, "--unix", socket_path, "")
    os.symlink("loop", case.path("loop"))
    refused(case, "--unix", socket_path, case.path("loop"), mentions="loop")
    refused(case, "--stdio", case.path("missing"), mentions=case.path("missing"))
    os.mkfifo(case.path("fifo"))
    refused(case, "--unix", socket_path, case.path("fifo"), mentions="fifo")
    refused(case, "--unix", socket_path, "--read-only", case.path("fifo"), mentions="fifo")


def ordinary_user(case):
    """How to be one: a prefix and a program that this user can reach."""
    if os.geteuid() != 0:
        return [], case.program
    need("setpriv")
    os.chmod(case.dir, 0o777)
    program = shutil.copy(case.program, case.path("program"))
    os.chmod(program, 0o755)
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], program


def files_without_permission(case):
    prefix, program = ordinary_user(case)
    secret, fixed = case.disk(4096, "secret"), case.disk(4096, "fixed")
    os.chmod(secret, 0o000)
    os.chmod(fixed, 0o444)
    refused(case, "--unix", case.socket, secret, prefix=prefix, program=program, mentions=secret)
    refused(case, "--unix", case.socket, "--read-only", secret, prefix=prefix, program=program, mentions=secret)
    refused(case, "--unix", case.socket, fixed, prefix=prefix, program=program, mentions=fixed)
    server = case.spawn("--unix", case.socket, "--read-only", fixed, prefix=prefix, program=program).wait_ready()
    sane(case.socket)
    server.stop()


def a_directory_without_permission(case):
    prefix, program = ordinary_user(case)
    disk = case.disk(4096)
    os.chmod(disk, 0o666)
    os.mkdir(case.path("closed"), 0o555)
    refused(case, "--unix", case.path("closed/s"), disk, prefix=prefix, program=program)
    equal(os.listdir(case.path("closed")), [], "left in the directory")


def socket_paths(case):
    disk = case.disk(4096)
    refused(case, "--unix", case.path("no/such/dir/s"), disk)
    with open(case.path("file"), "wb") as file:
        file.write(b"precious")
    for taken in ("file", "disk.img"):
        refused(case, "--unix", case.path(taken), disk, mentions=taken)
    with open(case.path("file"), "rb") as file:
        equal(file.read(), b"precious", "a file in the socket's place")
    os.mkdir(case.path("dir"))
    refused(case, "--unix", case.path("dir"), disk)
    os.symlink(case.path("nowhere"), case.path("link"))
    refused(case, "--unix", case.path("link"), disk)
    refused(case, "--unix", "", disk, what="an empty socket path")
    longest = 107 - len(case.dir) - 1
    refused(case, "--unix", case.path("x" * (longest + 1)), disk, what="a socket path of 108 bytes")
    refused(case, "--unix", case.path("x" * 4000), disk, what="a socket path of 4000 bytes")
    server = case.spawn("--unix", case.path("x" * longest), disk).wait_ready()
    server.stop()


def socket_of_a_live_server(case):
    disk = case.disk(4096)
    server = case.serve(disk)
    for _ in range(3):
        refused(case, "--unix", case.socket, disk, mentions=case.socket)
    sane(case.socket)
    server.stop()


def addresses(case):
    disk = case.disk(4096)
    for bad in ("127.0.0.1:99999", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:", "127.0.0.1:1x", "127.0.0.1:0x50",
                "127.0.0.1:99999999999999999999", "127.0.0.1: 80", ":", "", "[::1]", "[::1:10809", "::1]:10809", "1.2.3.4.5:10809",
                "999.1.1.1:10809", "192.0.2.1:0"):
        refused(case, "--listen", bad, disk, what=f"--listen {bad!r}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(case, "--listen", f"127.0.0.1:{port}", disk, mentions=str(port))
        refused(case, "--unix", case.socket, "--listen", f"127.0.0.1:{port}", disk, mentions=str(port))
        refused(case, "--listen", f"127.0.0.1:{port}", "--unix", case.socket, disk, mentions=str(port))


def names(case):
    one, two = case.disk(4096, "one"), case.disk(4096, "two")
    os.mkdir(case.path("sub"))
    same = case.disk(4096, "sub/one")
    refused(case, "--unix", case.socket, "x=" + one, "x=" + two, mentions="x")
    refused(case, "--unix", case.socket, one, same, mentions="one")
    refused(case, "--unix", case.socket, "two=" + one, two, mentions="two")
    refused(case, "--unix", case.socket, "n" * 4097 + "=" + one, what="an export name of 4097 bytes")
    refused(case, "--unix", case.socket, b"\xff\xfe=".decode("utf-8", "surrogateescape") + one, what="a name that is not UTF-8")
    server = case.serve("n" * 4096 + "=" + one)
    sane(case.socket, "n" * 4096)
    server.stop()


def options(case):
    disk = case.disk(4096)
    refused(case, what="no arguments")
    refused(case, "--unix", case.socket)
    refused(case, "--stdio")
    refused(case, "--unix", case.socket, "--no-such-option", disk, mentions="--no-such-option")
    refused(case, "-Z", disk)
    refused(case, disk, "--unix", what="--unix without its value")
    refused(case, disk, "--listen", what="--listen without its value")
    refused(case, "--stdio", "--unix", case.socket, disk)
    refused(case, "--stdio", "--listen", "127.0.0.1:0", disk)
    for bad in ("-1", "x", "", "1x", "99999999999999999999"):
        refused(case, "--unix", case.socket, "--handshake-timeout", bad, disk, what=f"--handshake-timeout {bad!r}")


def unknown_subcommands(case):
    for args in ([], ["sevre"], ["--no-such"]):
        done = subprocess.run([case.program, *args], capture_output=True, stdin=subprocess.DEVNULL, timeout=DEADLINE)
        equal(done.returncode, 2, f"exit code of {args}")
        if args:
            equal(done.stderr.decode().count("\n"), 1, f"lines on standard error of {args}")


run(files_that_cannot_be_served, files_without_permission, a_directory_without_permission, socket_paths,
    socket_of_a_live_server, addresses, names, options, unknown_subcommands)
