"""fio's nbd engine with 32 requests in flight: writes blocks with a checksum and reads them back."""
import re

from support import missing, need, tool


def verify(case, uri, mib, *more):
    need("fio")
    if not re.search(r"^\s*nbd\s*$", tool("fio", "--enghelp"), re.M):
        missing("fio's nbd engine")
    tool("fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", f"--size={mib}M", "--iodepth=32", "--verify=crc32c",
         "--verify_fatal=1", "--verify_state_save=0", "--randseed=7", *more, cwd=case.dir, seconds=240)
