"""Goal: the socket file is there while the server lives and gone afterwards; what is not the server's own is never
touched.

Method: stale, live and replaced files at the path, servers ended politely and by SIGKILL.
"""
import os
import signal
import socket
import stat

from support import check, equal, run
from wire import Client, sane


def stale(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    check(os.path.exists(path), "no stale socket was left")


def removed_at_exit(case):
    server = case.serve(case.disk(1 << 20))
    check(stat.S_ISSOCK(os.lstat(case.socket).st_mode), "no socket at the path")
    sane(case.socket)
    server.stop()
    check(not os.path.lexists(case.socket), "the socket file is still there")
    equal(sorted(n for n in os.listdir(case.dir) if not n.startswith("log.")), ["disk.img"], "what is left in the directory")


def stale_is_replaced(case):
    stale(case.socket)
    server = case.serve(case.disk(1 << 20))
    sane(case.socket)
    server.stop()
    check(not os.path.lexists(case.socket), "the socket file is still there")


def after_sigkill_a_second_server_works(case):
    disk = case.disk(1 << 20)
    for _ in range(3):
        server = case.serve(disk)
        client = Client(case.socket).go()
        client.write(10, b"before")
        server.kill()
        check(os.path.lexists(case.socket), "SIGKILL leaves the file")
        client.close()
    server = case.serve(disk)
    with Client(case.socket).go() as client:
        equal(client.read(10, 6), b"before", "what was written before")
    server.stop()


def live_is_not_replaced(case):
    disk = case.disk(1 << 20)
    server = case.serve(disk)
    inode = os.lstat(case.socket).st_ino
    second = case.spawn("--unix", case.socket, disk)
    equal(second.wait(30, "a second server on the same path"), 2, "its exit code")
    equal(os.lstat(case.socket).st_ino, inode, "inode of the socket")
    sane(case.socket)
    server.stop()


def live_but_not_ours_is_not_replaced(case):
    """Somebody listens who never accepts, with a full backlog: live all the same, and asking may not hang."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(case.socket)
        listener.listen(0)
        first.connect(case.socket)
        server = case.spawn("--unix", case.socket, case.disk(1 << 20))
        equal(server.wait(30, "beside a listener that does not accept"), 2, "its exit code")
        check(os.path.lexists(case.socket), "the other's socket is gone")


def replaced_meanwhile_is_kept(case):
    """The file at the path is another one by the time the server ends."""
    disk = case.disk(1 << 20)
    server = case.serve(disk)
    os.rename(case.socket, case.path("old"))
    with open(case.socket, "wb") as file:
        file.write(b"another file")
    server.stop()
    with open(case.socket, "rb") as file:
        equal(file.read(), b"another file", "the file now at the path")


def replaced_by_another_servers_socket(case):
    disk = case.disk(1 << 20)
    first = case.serve(disk)
    os.unlink(case.socket)
    second = case.serve(disk)
    first.stop()
    sane(case.socket)
    second.stop()
    check(not os.path.lexists(case.socket), "the second server's socket is still there")


def removed_by_somebody_is_no_error(case):
    server = case.serve(case.disk(1 << 20))
    os.unlink(case.socket)
    server.stop()


def relative_path_and_strange_names(case):
    disk = case.disk(1 << 20)
    for name in ("a b", "ü", "quote'\"", "-dash"):
        server = case.spawn("--unix", "./" + name, disk, cwd=case.dir).wait_ready()
        sane(case.path(name))
        server.stop()
        check(not os.path.lexists(case.path(name)), f"{name!r} is still there")


def sigint_is_as_good(case):
    server = case.serve(case.disk(1 << 20))
    sane(case.socket)
    server.stop(signal.SIGINT)
    check(not os.path.lexists(case.socket), "the socket file is still there")


run(removed_at_exit, stale_is_replaced, after_sigkill_a_second_server_works, live_is_not_replaced,
    live_but_not_ours_is_not_replaced, replaced_meanwhile_is_kept, replaced_by_another_servers_socket,
    removed_by_somebody_is_no_error, relative_path_and_strange_names, sigint_is_as_good)
