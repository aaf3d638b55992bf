"""Goal: `sluice doctor` tells what works here, the truth for root and for an ordinary user, and changes nothing.

Method: its lines are compared with what /proc and /sys say, and with what the user may do; wrong usage ends with 2.
"""
import os
import re
import shutil
import subprocess

from support import DEADLINE, Skip, check, die_with_parent, equal, need, run

SECTIONS = ("identity: what work can be done as", "capabilities of this process", "kernel", "NUMA nodes", "control groups", "limits")


def call(command, stdout=subprocess.PIPE):
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=DEADLINE,
                          preexec_fn=die_with_parent, text=True)


def doctor(program, prefix=()):
    """{section: {name: (mark, detail)}} of a run that must succeed."""
    done = call([*prefix, program, "doctor"])
    equal(done.returncode, 0, f"exit code; it said {done.stderr!r}")
    equal(done.stderr, "", "standard error")
    sections, name = {}, None
    for line in done.stdout.splitlines()[1:]:
        if line and not line.startswith(" "):
            name = line
            sections[name] = {}
        elif line:
            found = re.fullmatch(r"  (yes|no|-) +(\S.*?)  +(\S.*)", line)
            check(found, f"a line of another shape: {line!r}")
            sections[name][found.group(2)] = (found.group(1), found.group(3))
    equal(tuple(sections), SECTIONS, "sections")
    return sections


def tells_the_machine(case):
    said = doctor(case.program)
    nodes = [n for n in os.listdir("/sys/devices/system/node") if re.fullmatch(r"node\d+", n)] if os.path.isdir("/sys/devices/system/node") else []
    equal(sorted(said["NUMA nodes"]), sorted(nodes) or ["one node"], "nodes")
    with open("/proc/self/mountinfo") as file:
        mounted = len(re.findall(r" - cgroup2? ", file.read()))
    check(len(said["control groups"]) <= max(mounted, 1), f"more control groups than are mounted: {said['control groups']}")
    check("descriptors" in said["limits"], f"limits: {said['limits']}")
    check("io_uring" in said["kernel"], f"kernel: {said['kernel']}")


def tells_the_user(case):
    identity = doctor(case.program)[SECTIONS[0]]
    for name in ("user", "group", "supplementary groups", "working directory", "umask", "file-size limit", "I/O priority"):
        check(name in identity, f"no line on {name}: {sorted(identity)}")
    with open("/proc/self/status") as file:
        effective = int(re.search(r"^CapEff:\s+(\w+)", file.read(), re.M).group(1), 16)
    if os.geteuid() == 0 and effective >> 7 & 1 and effective >> 6 & 1:
        equal(identity["user"][0], "yes", "root switches users")
        equal(identity["umask"][0], "yes", "umask")
    elif os.geteuid() != 0:
        equal(identity["user"], ("no", "changing the user needs CAP_SETUID"), "an ordinary user")


def an_ordinary_user_hears_what_is_missing(case):
    if os.geteuid() != 0:
        raise Skip("needs root to become an ordinary user; tells_the_user has looked already")
    need("setpriv")
    os.chmod(case.dir, 0o755)
    program = shutil.copy(case.program, case.path("program"))
    os.chmod(program, 0o755)
    said = doctor(program, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    equal(said[SECTIONS[0]]["user"], ("no", "changing the user needs CAP_SETUID"), "user")
    equal(said[SECTIONS[0]]["group"], ("no", "changing the group needs CAP_SETGID"), "group")
    equal(said[SECTIONS[0]]["supplementary groups"], ("no", "changing the supplementary groups needs CAP_SETGID"), "groups")
    check("CAP_SYS_NICE" in said[SECTIONS[0]]["I/O priority, real time"][1], "real time names its capability")
    for name, (mark, _) in said["capabilities of this process"].items():
        equal(mark, "no", name)


def wrong_usage(case):
    for args in (["extra"], ["--no-such"], ["--unix", "x"]):
        done = call([case.program, "doctor", *args])
        equal(done.returncode, 2, f"exit code of doctor {args}")
        equal(done.stdout, "", f"standard output of doctor {args}")
        equal(done.stderr.count("\n"), 1, f"lines on standard error of doctor {args}: {done.stderr!r}")
        check("sluice doctor --help" in done.stderr, f"no way to help: {done.stderr!r}")


def output_that_cannot_be_written(case):
    with open("/dev/full", "w") as full:
        done = call([case.program, "doctor"], stdout=full)
    equal(done.returncode, 1, "exit code")
    equal(done.stderr.count("\n"), 1, f"lines on standard error: {done.stderr!r}")


run(tells_the_machine, tells_the_user, an_ordinary_user_hears_what_is_missing, wrong_usage, output_that_cannot_be_written)
