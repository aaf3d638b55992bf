"""Goal: the packages that will be installed are printed before apt-get is called, and SLUICE_INSTALL=no forbids the call.

Method: dpkg-query and apt-get are replaced by scripts: nothing is installed, and apt-get notes that it was called.
"""
import os
import tempfile
from pathlib import Path

from support import ROOT, check, run

PACKAGES = ROOT / "scripts" / "packages"


def tool(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text("#!/bin/sh\n" + body, encoding="utf-8")
    path.chmod(0o755)


with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    called = folder / "called"
    tool(folder, "dpkg-query", "exit 1\n")  # holds nothing
    tool(folder, "apt-get", f'echo "apt-get $*" >&2; echo "$*" >>"{called}"\n')
    tool(folder, "sudo", 'shift; exec "$@"\n')
    path = f"{folder}:{os.environ['PATH']}"

    done = run(PACKAGES, "clients", PATH=path, SLUICE_INSTALL="no")
    check(done.returncode == 0, "forbidden: goes on with what is there", done)
    check("SLUICE_INSTALL=no" in done.stderr and "fio" in done.stderr, "forbidden: what is missing is printed", done)
    check(not called.exists(), "forbidden: apt-get is not called", done)

    done = run(PACKAGES, "clients", PATH=path, SLUICE_INSTALL="")
    check(done.returncode == 0 and called.exists(), "allowed: apt-get is called", done)
    notice = done.stderr.find("will install")
    first_call = done.stderr.find("apt-get -o")
    check(0 <= notice < first_call, "the packages are printed before apt-get is called", done)
    check("fio" in done.stderr[notice:first_call], "each package is named", done)
    check("SLUICE_INSTALL=no" in done.stderr[notice:first_call], "the notice says how to forbid it", done)

    called.unlink()
    installed = run(PACKAGES, "--list", "clients").stdout.split()
    tool(folder, "dpkg-query", "".join(f'echo "{name} installed"\n' for name in installed))
    done = run(PACKAGES, "clients", PATH=path)
    check(done.returncode == 0 and not called.exists(), "with nothing missing apt-get is not called", done)
    check(done.stderr == "", "with nothing missing nothing is printed", done)

    done = run(PACKAGES, "no-such-group", PATH=path)
    check(done.returncode != 0 and "no-such-group" in done.stderr, "an unknown group is refused by name", done)
