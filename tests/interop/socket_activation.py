"""Goal: sockets passed by systemd's protocol (LISTEN_FDS from descriptor 3, LISTEN_PID) are the ones it serves on.

Method: nbdinfo and nbdcopy start it so themselves ("[ … ]"); then by hand with a TCP socket, with two, and with wrong
variables.
"""
import contextlib
import fcntl
import filecmp
import os
import socket

from support import check, equal, need, run, tool
from wire import Client, pattern, sane

# Descriptors 3, 4 … are what $1 … name, as systemd passes them; then LISTEN_PID is right because exec keeps the process
# id.
LAUNCH = """
count=$1; shift
for ((n = 0; n < count; n++)); do eval "exec $((3 + n))<&$1 $1<&-"; shift; done
export LISTEN_FDS=$count LISTEN_PID=${LISTEN_PID_INSTEAD:-$$}
exec "$@"
"""


def activated(case, listeners, *args, **env):
    need("bash")
    with contextlib.ExitStack() as stack:
        fds = []
        for listener in listeners:
            fds.append(fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 100))
            stack.callback(os.close, fds[-1])
        prefix = ["bash", "-c", LAUNCH, "launch", str(len(fds)), *map(str, fds)]
        return case.spawn(*args, prefix=prefix, pass_fds=fds, env={**os.environ, **env})


def unix_listener(case, name="u"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(case.path(name))
    listener.listen()
    return listener, case.path(name)


def tcp_listener():
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()


def nbdinfo_and_nbdcopy_start_it(case):
    need("nbdinfo", "nbdcopy")
    path, back = case.disk(9 << 20, data=pattern(3 << 20)), case.path("back")
    equal(tool("nbdinfo", "--size", "--", "[", case.program, "serve", path, "]").strip(), str(9 << 20), "nbdinfo --size")
    tool("nbdcopy", "--", "[", case.program, "serve", "--read-only", path, "]", back)
    check(filecmp.cmp(path, back, shallow=False), "the copy out differs")
    target = case.disk(9 << 20, "target")
    tool("nbdcopy", "--", path, "[", case.program, "serve", target, "]")
    check(filecmp.cmp(path, target, shallow=False), "the copy in differs")


def a_tcp_socket(case):
    listener, address = tcp_listener()
    server = activated(case, [listener], case.disk(1 << 20))
    sane(address)
    sane(address)
    server.stop()
    equal(server.popen.stdout.read(), b"", "standard output, which belongs to whoever activates")


def two_sockets(case):
    (unix, path), (tcp, address) = unix_listener(case), tcp_listener()
    server = activated(case, [unix, tcp], case.disk(1 << 20))
    with Client(path).go() as one, Client(address).go() as two:
        one.write(5, b"over Unix")
        equal(two.read(5, 9), b"over Unix", "read over TCP")
    server.stop()
    check(os.path.exists(path), "it removed a socket file that is not its own")


def somebody_elses_pid_is_ignored(case):
    """The variables were inherited from a parent that was activated: descriptor 3 is not ours."""
    listener, path = unix_listener(case)
    server = activated(case, [listener], "--unix", case.socket, case.disk(1 << 20), LISTEN_PID_INSTEAD="1").wait_ready()
    sane(case.socket)
    listener.setblocking(False)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.connect(path)
        sane(case.socket)
        listener.accept()[0].close()  # Still ours to accept: the server has left it alone.
    server.stop()


def nothing_passed_means_nothing(case):
    """LISTEN_FDS=0, and variables that are not numbers."""
    for fds, pid in (("0", None), ("x", None), ("1", "x"), ("", "")):
        env = {**os.environ, "LISTEN_FDS": fds}
        launch = f"export LISTEN_PID={'$$' if pid is None else repr(pid)}; exec \"$@\""
        server = case.spawn("--unix", case.socket, case.disk(1 << 20), prefix=["bash", "-c", launch, "launch"], env=env)
        server.wait_ready()
        sane(case.socket)
        server.stop()


run(nbdinfo_and_nbdcopy_start_it, a_tcp_socket, two_sockets, somebody_elses_pid_is_ignored, nothing_passed_means_nothing)
