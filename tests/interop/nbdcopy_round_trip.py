"""Goal: nbdcopy moves an image in and out unchanged. Method: random data with holes, 1 and 4 connections, Unix, TCP,
IPv6."""
import filecmp

from support import SANITIZED, Skip, check, need, run, tool
from wire import pattern

SIZE = (8 if SANITIZED else 64) << 20


def image(case):
    """Data, a hole, data that ends at an odd byte."""
    path = case.disk(SIZE, "image", pattern(SIZE // 3, 3))
    with open(path, "r+b") as file:
        file.seek(SIZE // 2 + 777)
        file.write(pattern(SIZE // 4, 4))
    return path


def round_trip(case, uri, disk, connections):
    need("nbdcopy")
    source, back = image(case), case.path("back")
    tool("nbdcopy", f"--connections={connections}", source, uri)
    check(filecmp.cmp(source, disk, shallow=False), "the file behind the server is not what was copied in")
    tool("nbdcopy", f"--connections={connections}", uri, back)
    check(filecmp.cmp(source, back, shallow=False), "what was copied out is not what was copied in")


def unix_1_connection(case):
    disk = case.disk(SIZE)
    case.serve(disk)
    round_trip(case, case.uri, disk, 1)


def unix_4_connections(case):
    disk = case.disk(SIZE)
    case.serve(disk)
    round_trip(case, case.uri, disk, 4)


def over_tcp(case, host, connections):
    disk = case.disk(SIZE)
    server = case.spawn("--listen", f"{host}:0", disk).wait_ready()
    round_trip(case, f"nbd://{host}:{server.port()}", disk, connections)


def tcp_1_connection(case):
    over_tcp(case, "127.0.0.1", 1)


def tcp_4_connections(case):
    over_tcp(case, "127.0.0.1", 4)


def ipv6_4_connections(case):
    with open("/proc/net/if_inet6") as file:
        if not file.read().strip():
            raise Skip("this machine has no IPv6 address")
    over_tcp(case, "[::1]", 4)


def old_content_is_overwritten(case):
    """The destination is not known to be zero: holes of the source must be zeroed, not skipped."""
    disk = case.disk(SIZE, data=b"\xaa" * SIZE)
    case.serve(disk)
    round_trip(case, case.uri, disk, 4)


def between_two_servers(case):
    need("nbdcopy")
    source, target = image(case), case.disk(SIZE)
    case.serve("--read-only", source)
    other = case.path("t")
    case.spawn("--unix", other, target).wait_ready()
    tool("nbdcopy", case.uri, f"nbd+unix:///?socket={other}")
    check(filecmp.cmp(source, target, shallow=False), "the copy differs")


run(unix_1_connection, unix_4_connections, tcp_1_connection, tcp_4_connections, ipv6_4_connections,
    old_content_is_overwritten, between_two_servers)
