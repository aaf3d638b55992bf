"""What the interop tests share: starting and stopping `sluice serve`, limits on every wait, counting descriptors and
memory.

A test is a file of functions; each takes a Case and raises Failure (through check and friends) when the behaviour is
not there.
`run(...)` at the end of the file runs them in order:   some_test.py PROGRAM [FUNCTION...]
Exit code: 0 all passed, 77 skipped with a reason, 1 failed. With CI=true a missing tool is a failure, never a skip.
Waiting is always "poll until, with a deadline"; no test sleeps and then hopes.
"""
import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

SANITIZED = bool(os.environ.get("SLUICE_SANITIZE"))
SLOW = 10 if SANITIZED else 1
DEADLINE = 30 * SLOW  # Seconds after which something that must happen counts as "never".
STOP_LIMIT = 5 if not SANITIZED else 25  # The contract: SIGTERM ends the server within 5 s.
SKIP = 77
LIBC = ctypes.CDLL(None)  # Loaded once: between fork and exec nothing may be looked up.


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


def equal(got, want, what):
    if got != want:
        raise Failure(f"{what}: got {shown(got)}, want {shown(want)}")


def shown(value):
    text = repr(value)
    return text if len(text) < 200 else text[:200] + "…"


def fewer(count, least=1):
    """The size of a load: all of it, or a part when a sanitizer makes everything about ten times slower."""
    return count if not SANITIZED else max(least, count // 5)


def eventually(condition, what, seconds=None):
    """Polls until condition() is true and returns its value; the pauses only keep the polling cheap."""
    end = time.monotonic() + (seconds or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"did not happen within {seconds or DEADLINE} s: {what}")
        time.sleep(0.005)


def missing(what):
    """A tool that is not installed: a skip by hand, a failure where CI=true says that all must be."""
    raise (Failure if os.environ.get("CI") == "true" else Skip)(f"missing: {what}")


def need(*tools):
    absent = [t for t in tools if not shutil.which(t)]
    if absent:
        missing(" ".join(absent))


def die_with_parent():
    """A test that is killed by its runner leaves no server behind (PR_SET_PDEATHSIG)."""
    LIBC.prctl(1, signal.SIGKILL)


def tool(*command, ok=True, seconds=None, **options):
    """Runs a client to its end. Returns its standard output; a wrong exit code is a failure that shows what it said.

    Its output goes to files, for a server that it started may outlive it and hold a pipe open; and it has a process
    group of its own, so that on failure such a server goes too.
    """
    limit = seconds or 4 * DEADLINE
    options.update(stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, start_new_session=True)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, **options)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        said = read_all(out)
        if code is None or (ok is not None and (code == 0) != ok):
            end_group(process)
            how = f"still running after {limit} s" if code is None else f"exit {code}"
            raise Failure(f"{how}: {' '.join(map(str, command))}\n  {(read_all(err) + said).strip()[-600:]}")
        return said


def read_all(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Process:
    """Any child of the test, seen through /proc."""

    def __init__(self, popen, log_path):
        self.popen = popen
        self.pid = popen.pid
        self.log_path = log_path
        self.killed = False

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def alive(self):
        return self.popen.poll() is None

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def anonymous_kib(self):
        """Resident memory of its own (without file pages), in KiB."""
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.search(r"^RssAnon:\s+(\d+)", file.read(), re.M).group(1))

    def cpu_ticks(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def wait(self, seconds, what):
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{what}: still alive after {seconds} s") from None

    def kill(self):
        if self.alive():
            self.killed = True
            self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                stream.close()


class Server(Process):
    """`sluice serve` in the foreground; usable once it said "ready"."""

    def __init__(self, command, log_path, **options):
        with open(log_path, "wb") as log:
            popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                     preexec_fn=die_with_parent, **options)
        super().__init__(popen, log_path)
        self.command = command

    def wait_ready(self):
        end = time.monotonic() + DEADLINE
        said = b""
        while b"ready\n" not in said:
            left = end - time.monotonic()
            check(left > 0, f"no ready line within {DEADLINE} s; said {said!r}")
            if select.select([self.popen.stdout], [], [], left)[0]:
                some = os.read(self.popen.stdout.fileno(), 4096)
                check(some, f"ended before ready: {' '.join(map(str, self.command))}")
                said += some
        equal(said, b"ready\n", "standard output")
        return self

    def port(self):
        found = re.search(r"listening on (?:\[[^\]]*\]|[^\s:]+):(\d+)", self.log())
        check(found, f"the log does not say where it listens: {self.log()!r}")
        return int(found.group(1))

    def stop(self, sig=signal.SIGTERM):
        """Ends it as the contract says: exit code 0, in time. Returns the seconds it took."""
        check(self.alive(), f"the server is gone, exit {self.popen.poll()}")
        start = time.monotonic()
        self.popen.send_signal(sig)
        code = self.wait(STOP_LIMIT, f"after signal {sig}")
        equal(code, 0, f"exit code after signal {sig}")
        return time.monotonic() - start

    def fds_return_to(self, baseline, when):
        """Fewer is no leak: a client before the baseline may still have been on its way out."""
        try:
            eventually(lambda: self.fds() <= baseline, "")
        except Failure:
            raise Failure(f"descriptors {when}: {baseline} before, {self.fds()} now") from None


class Case:
    """One run of one test function: a directory with a short path, the program, the servers it started."""

    def __init__(self, program):
        self.program = program
        self.dir = tempfile.mkdtemp(prefix="sl-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.socket = self.path("s")
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.children = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def disk(self, size, name="disk.img", data=b""):
        """A sparse file of that size that begins with data."""
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(data)
            file.truncate(size)
        return path

    def spawn(self, *args, prefix=(), program=None, **options):
        command = [*prefix, program or self.program, "serve", *map(str, args)]
        server = Server(command, self.path(f"log.{len(self.children)}"), **options)
        self.children.append(server)
        return server

    def serve(self, *args, **options):
        """Serves on the case's Unix socket."""
        return self.spawn("--unix", self.socket, *args, **options).wait_ready()

    def adopt(self, popen, log_path):
        process = Process(popen, log_path)
        self.children.append(process)
        return process

    def look_for_crashes(self):
        """What a test may not have noticed: a process that ended by itself with an error, or a sanitizer that complained."""
        for child in self.children:
            code = child.popen.poll()
            check(child.killed or code is None or 0 <= code <= 2, f"process {child.pid} ended by itself with {code}")
            found = re.search(r"Sanitizer|runtime error:|SLUICE_CHECK", child.log())
            check(not found, f"process {child.pid} has something to say: {found and found.group()}")

    def close(self):
        for child in self.children:
            child.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


@contextlib.contextmanager
def held_sigterm():
    """A time limit that strikes here waits until the files are in order."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def run_one(function, program):
    signal.signal(signal.SIGTERM, give_up)
    with held_sigterm():
        case = Case(program)
    start = time.monotonic()
    try:
        function(case)
        case.look_for_crashes()
        print(f"ok    {function.__name__}  {time.monotonic() - start:.2f} s", flush=True)
        return 0
    except Skip as reason:
        print(f"skip  {function.__name__}: {reason}", flush=True)
        return SKIP
    except Exception as error:  # Every error of a test is a failure; none may hide the server's log.
        print(f"FAIL  {function.__name__}: {error}", flush=True)
        frames = traceback.extract_tb(error.__traceback__)
        print("  at " + " > ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in frames))
        if not isinstance(error, Failure):
            print(f"  {type(error).__name__}")
        for child in case.children:
            print(f"  process {child.pid}: exit {child.popen.poll()}; its log ends:")
            print("".join(f"    {line}\n" for line in child.log().splitlines()[-30:]), end="", flush=True)
        return 1
    finally:
        with held_sigterm():
            case.close()


def give_up(*_):
    """A runner's time limit leaves nothing behind: the way out is by the finally clauses, and once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def run(*functions):
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} PROGRAM [FUNCTION...]")
    program = os.path.realpath(sys.argv[1])
    if not os.access(program, os.X_OK):
        sys.exit(f"no program at {program}")
    wanted = sys.argv[2:]
    unknown = set(wanted) - {f.__name__ for f in functions}
    if unknown:
        sys.exit(f"no such function: {' '.join(sorted(unknown))}")
    codes = [run_one(f, program) for f in functions if not wanted or f.__name__ in wanted]
    sys.exit(1 if 1 in codes else SKIP if codes and all(c == SKIP for c in codes) else 0)
