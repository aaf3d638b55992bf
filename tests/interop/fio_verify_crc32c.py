"""Goal: nothing is lost or mixed up with 32 requests in flight. Method: fio's nbd engine writes blocks with a checksum,
reads them back."""
from fio_runs import verify
from support import SANITIZED, Failure, check, run

SIZE = 16 if SANITIZED else 64  # MiB


def fio(case, uri, *more):
    verify(case, uri, SIZE, *more)


def unix_randwrite(case):
    case.serve(case.disk(SIZE << 20))
    fio(case, case.uri, "--rw=randwrite", "--bs=4k")


def tcp_randwrite(case):
    server = case.spawn("--listen", "127.0.0.1:0", case.disk(SIZE << 20)).wait_ready()
    fio(case, f"nbd://127.0.0.1:{server.port()}", "--rw=randwrite", "--bs=4k")


def unix_mixed_sizes(case):
    case.serve(case.disk(SIZE << 20))
    fio(case, case.uri, "--rw=randrw", "--bsrange=512-64k")


def two_jobs_on_two_connections(case):
    """Each job owns its half, so that both can verify."""
    case.serve(case.disk(SIZE << 20))
    fio(case, case.uri, "--rw=randwrite", "--bs=16k", "--numjobs=2", f"--size={SIZE // 2}M", f"--offset_increment={SIZE // 2}M",
        "--fsync=64")


def a_wrong_block_is_noticed(case):
    """The check checks: a block changed behind the server's back fails verification."""
    disk = case.disk(SIZE << 20)
    case.serve(disk)
    fio(case, case.uri, "--rw=write", "--bs=64k", "--do_verify=0")
    with open(disk, "r+b") as file:
        file.seek(SIZE << 19)
        file.write(b"not what fio wrote")
    try:
        fio(case, case.uri, "--rw=read", "--bs=64k")
    except Failure as failure:
        check("verify" in str(failure), f"fio failed for another reason: {failure}")
        return
    raise Failure("fio verified a block that was changed")


run(unix_randwrite, tcp_randwrite, unix_mixed_sizes, two_jobs_on_two_connections, a_wrong_block_is_noticed)
