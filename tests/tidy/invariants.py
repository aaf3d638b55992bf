"""invariants: every invariant that is owed is claimed by a test.

tests/tidy/invariants.txt lists the ids that are owed. A test claims an id in its name, or in the first line of the
comment above it or at its head. A client script under tests/ claims in the first line of its comment or docstring.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from source import Finding, Source

LIST = "tests/tidy/invariants.txt"
ALL = {"R": 7, "W": 7, "H": 7, "P": 10, "C": 8, "X": 6, "I": 6, "O": 9, "D": 4}
KNOWN = frozenset(f"{letter}{number}" for letter, count in ALL.items() for number in range(1, count + 1))

# Also at the head of a name in camel case: R1ReleasesOnce.
ID = re.compile(r"(?<![A-Za-z0-9])([RWHPCXIOD][1-9][0-9]?)(?![0-9a-z])")
TEST = re.compile(r"^[ \t]*(?:TYPED_)?TEST(?:_F|_P)?\s*\(([^)]*)\)\s*\{", re.MULTILINE)


def _comment_above(lines: list[str], line: int) -> str:
    """The first line of the comment that ends just above `line` (from 1)."""
    first = ""
    for text in reversed(lines[: line - 1]):
        if not text.lstrip().startswith("//"):
            break
        first = text
    return first


def _comment_within(lines: list[str], line: int) -> str:
    text = lines[line].lstrip() if line < len(lines) else ""
    return text if text.startswith("//") else ""


def claimed_by(source: Source) -> set[str]:
    """The ids that the tests of a file claim."""
    ids: set[str] = set()
    if source.is_cpp:
        for match in TEST.finditer(source.text):
            places = (
                match.group(1).replace("_", " "),
                _comment_above(source.lines, source.line_of(match.start())),
                _comment_within(source.lines, source.line_of(match.end())),
            )
            for place in places:
                ids.update(ID.findall(place))
    elif source.is_python or source.is_shell:
        head = [line for line in source.lines[:4] if line.startswith(("#", '"""')) and not line.startswith("#!")]
        ids.update(ID.findall(head[0]) if head else [])
    return ids & KNOWN


def owed(root: Path) -> dict[str, int]:
    """The ids of the list, each with its line."""
    ids: dict[str, int] = {}
    if (root / LIST).exists():
        for number, line in enumerate((root / LIST).read_text(encoding="utf-8").splitlines(), start=1):
            for word in line.partition("#")[0].split():
                ids[word] = number
    return ids


def invariants(root: Path, sources: Iterable[Source]) -> Iterator[Finding]:
    claimed: set[str] = set()
    for source in sources:
        if source.is_test and source.parts[:2] != ("tests", "tidy"):
            claimed |= claimed_by(source)
    due = owed(root)
    unclaimed = sorted(KNOWN - claimed - due.keys(), key=lambda name: (list(ALL).index(name[0]), int(name[1:])))
    if unclaimed and (root / ".git").exists():
        print("invariants: neither owed yet nor claimed by a test:", *unclaimed)
    for name, line in due.items():
        if name not in KNOWN:
            yield Finding("invariants", LIST, line, f"there is no invariant {name}")
        elif name not in claimed:
            yield Finding("invariants", LIST, line, f"no test claims {name}")
