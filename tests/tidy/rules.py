"""rules: what each rule demands of one file. A rule yields its findings; RULES names them all.

Rules on atomics stand in atomics.py, the rule on invariants, which looks at all tests at once, in invariants.py.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from atomics import atomic_operators, atomic_order
from functions import functions
from source import Finding, Source

FLOORS = ("base", "ref", "rcu", "identity", "wq", "ioc", "device", "io", "nbd", "cli")
MAX_BYTES = 40 * 1024
MAX_LINES = 70

INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*([<\"])([^>\"]+)[>\"]", re.MULTILINE)


def floor_of(path: PurePosixPath) -> str | None:
    """The floor that a path belongs to, "above" for what may use every floor, None for what is no floor's."""
    parts = path.parts
    if parts[:2] == ("include", "sluice") and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[0] in ("nbd", "cli"):
        return parts[0]
    return "above" if parts[0] in ("tests", "bench", "docs") else None


def included_floor(source: Source, quote: str, name: str) -> str | None:
    """The floor of the header that an #include names."""
    path = PurePosixPath(name)
    if path.parts[0] == "sluice":
        return path.parts[1] if len(path.parts) > 2 else None
    if quote != '"':
        return None
    # As the compiler looks: beside the file first, then from the root.
    beside = source.root / PurePosixPath(source.path).parent / name
    if beside.exists():
        return floor_of(PurePosixPath(beside.resolve().relative_to(source.root.resolve()).as_posix()))
    return floor_of(path)


def climbs_floor(source: Source) -> Iterator[Finding]:
    """An include of a floor above the file's own."""
    own = floor_of(PurePosixPath(source.path))
    if not source.is_cpp or own is None or own == "above":
        return
    if own not in FLOORS:
        yield source.finding("climbs_floor", 1, f"there is no floor '{own}'")
        return
    for match in INCLUDE.finditer(source.text):
        other = included_floor(source, match.group(1), match.group(2))
        if other is None:
            continue
        line = source.line_of(match.start(2))
        if other not in FLOORS:
            yield source.finding("climbs_floor", line, f"{match.group(2)} is no floor below {own}")
        elif FLOORS.index(other) > FLOORS.index(own):
            yield source.finding("climbs_floor", line, f"{own} includes {match.group(2)} of {other}, which stands above")


def boost_in_core(source: Source) -> Iterator[Finding]:
    """Boost below the server; only io/asio speaks to it."""
    floor = floor_of(PurePosixPath(source.path))
    if not source.is_cpp or floor not in FLOORS[: FLOORS.index("nbd")]:
        return
    if floor == "io" and PurePosixPath(source.path).name.startswith("asio"):
        return
    for match in INCLUDE.finditer(source.text):
        if match.group(2).startswith("boost/"):
            line = source.line_of(match.start(2))
            yield source.finding("boost_in_core", line, f"{floor} includes {match.group(2)}: the core is free of Boost")


def file_size(source: Source) -> Iterator[Finding]:
    """A file over 40 KB."""
    if source.size > MAX_BYTES:
        yield source.finding("file_size", 1, f"{source.size} bytes; the limit is {MAX_BYTES}")


def function_length(source: Source) -> Iterator[Finding]:
    """A function over 70 lines."""
    for function in functions(source):
        if function.length > MAX_LINES:
            text = f"{function.name} has {function.length} lines; the limit is {MAX_LINES}"
            yield source.finding("function_length", function.first, text)


def _each_match(rule: str, source: Source, pattern: str, text: str, haystack: str) -> Iterator[Finding]:
    for match in re.finditer(pattern, haystack):
        yield source.finding(rule, source.line_of(match.start()), text.format(match.group().strip()))


def unfinished(source: Source) -> Iterator[Finding]:
    """A mark of unfinished work."""
    if source.suffix != ".md":
        pattern = r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b"
        yield from _each_match("unfinished", source, pattern, "{}: finish it, or file it, not here", source.text)


def fence(source: Source) -> Iterator[Finding]:
    """A fence: ThreadSanitizer cannot see it."""
    if source.is_cpp:
        pattern = r"\b(?:atomic_thread_fence|atomic_signal_fence|__sync_synchronize|__atomic_thread_fence)\b"
        yield from _each_match("fence", source, pattern, "{}: order belongs to an atomic operation", source.code)


def volatile(source: Source) -> Iterator[Finding]:
    """volatile, but for asm volatile."""
    if source.is_cpp:
        pattern = r"(?<!\basm )(?<!\b__asm__ )\bvolatile\b"
        yield from _each_match("volatile", source, pattern, "{} orders nothing between threads", source.code)


def detached(source: Source) -> Iterator[Finding]:
    """A detached thread: every thread is owned and joined."""
    if source.is_cpp:
        pattern = r"(?:\.|->)detach\s*\(\s*\)|\bpthread_detach\b|\bPTHREAD_CREATE_DETACHED\b"
        yield from _each_match("detached", source, pattern, "{}: every thread is owned and joined", source.code)


def disabled_test(source: Source) -> Iterator[Finding]:
    """A disabled test."""
    if source.is_cpp and source.is_test:
        yield from _each_match("disabled_test", source, r"\bDISABLED_\w*", "{}: mend it or remove it", source.code)


def sleep_in_test(source: Source) -> Iterator[Finding]:
    """Sleep as synchronisation."""
    if source.is_cpp and source.is_test:
        pattern = r"\b(?:sleep_for|sleep_until|usleep|nanosleep|clock_nanosleep)\b|(?<![\w.])::sleep\s*\(|(?<![\w.>:])sleep\s*\(\s*\d"
        yield from _each_match("sleep_in_test", source, pattern, "{}: wait for what you wait for", source.code)


def pragma_once(source: Source) -> Iterator[Finding]:
    """A header without #pragma once."""
    if source.is_header and not re.search(r"^#pragma once$", source.text, re.MULTILINE):
        yield source.finding("pragma_once", 1, "no #pragma once")


def contract(source: Source) -> Iterator[Finding]:
    """A public header that does not begin with its contract."""
    if source.is_header and source.parts[0] == "include":
        stem = PurePosixPath(source.path).stem
        if not source.lines or not re.match(rf"// {re.escape(stem)}: \S", source.lines[0]):
            yield source.finding("contract", 1, f"the first line is not `// {stem}: …`")


def test_code(source: Source) -> Iterator[Finding]:
    """Test code in the product or in the benches."""
    if source.parts[0] not in ("include", "src", "nbd", "cli", "bench"):
        return
    if PurePosixPath(source.path).name == "CMakeLists.txt":
        pattern = r"\badd_test\b|\bgtest_\w+|\bSLUICE_TESTS\b|/tests\b"
        yield from _each_match("test_code", source, pattern, "{}: tests are defined below tests/", source.text)
    elif source.is_cpp:
        for match in INCLUDE.finditer(source.text):
            if match.group(2).split("/")[0] in ("gtest", "gmock", "tests", "support", "race", "unit", "stress"):
                line = source.line_of(match.start(2))
                yield source.finding("test_code", line, f"includes {match.group(2)}: code shared with tests is not the tests'")


def machine_path(source: Source) -> Iterator[Finding]:
    """A path of somebody's machine."""
    pattern = r"(?<![\w.~$}/-])/(?:wo" + r"rk|ro" + r"ot|home/\w+)/|/tm" + r"p/b-"
    yield from _each_match("machine_path", source, pattern, "{}: a path of one machine", source.text)


RULES: dict[str, Callable[[Source], Iterator[Finding]]] = {
    "climbs_floor": climbs_floor,
    "boost_in_core": boost_in_core,
    "file_size": file_size,
    "function_length": function_length,
    "unfinished": unfinished,
    "atomic_order": atomic_order,
    "atomic_operators": atomic_operators,
    "fence": fence,
    "volatile": volatile,
    "detached": detached,
    "disabled_test": disabled_test,
    "sleep_in_test": sleep_in_test,
    "pragma_once": pragma_once,
    "contract": contract,
    "test_code": test_code,
    "machine_path": machine_path,
}
