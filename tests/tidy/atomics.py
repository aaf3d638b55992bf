"""atomics: every atomic operation names its memory order.

Read from the text alone: a member function of std::atomic is known by its name, an operator by the name of what it is
applied to, which must be declared as an atomic in the same file or in the header of the same name.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from source import Finding, Source, closing

CALL = re.compile(r"(?:\.|->)\s*(load|store|exchange|compare_exchange_\w+|fetch_\w+|test_and_set)\s*\(")
# Arguments that such a call has when it names its order.
WITH_ORDER = {"load": 1, "test_and_set": 1, "store": 2, "exchange": 2, "compare_exchange": 3, "fetch": 2}
FREE_CALL = re.compile(r"\batomic_(?:load|store|exchange|compare_exchange_(?:weak|strong)|fetch_(?:add|sub|and|or|xor))\s*\(")
DECLARED = re.compile(r"\batomic(?:_\w+\b|\s*<)")
NAMED = re.compile(r"\s*(?:\w+::)*(\w+)\s*(?:\[[^\]]*\]\s*)*(?=[;{=(,:])")


def _count_arguments(code: str, start: int) -> int:
    """How many arguments stand in the parentheses that open at `start`."""
    inner = code[start + 1 : closing(code, start) - 1]
    while (shorter := re.sub(r"\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]|<[^<>()]*>", "_", inner)) != inner:
        inner = shorter
    return inner.count(",") + 1 if inner.strip() else 0


def atomic_order(source: Source) -> Iterator[Finding]:
    """An atomic operation that does not name its memory order."""
    if not source.is_cpp:
        return
    code = source.code
    for match in CALL.finditer(code):
        name = match.group(1)
        kind = re.sub(r"^(compare_exchange|fetch)_.*", r"\1", name)
        if _count_arguments(code, match.end() - 1) < WITH_ORDER[kind]:
            yield source.finding("atomic_order", source.line_of(match.start(1)), f"{name}() without a memory order")
    for match in FREE_CALL.finditer(code):
        line = source.line_of(match.start())
        yield source.finding("atomic_order", line, f"{match.group()}…): use the member function, with its order")


def _after_template(code: str, start: int) -> int:
    return closing(code, start, "<>") if start < len(code) and code[start] == "<" else start


@cache
def _declared_in(root: Path, path: str) -> frozenset[str]:
    code = Source(root, path).code
    names = set()
    for match in DECLARED.finditer(code):
        end = _after_template(code, match.end() - 1) if match.group().endswith("<") else match.end()
        named = NAMED.match(code, end)
        if named:
            names.add(named.group(1))
    return frozenset(names)


def declared_atomics(source: Source) -> frozenset[str]:
    """The names of atomics declared in a file or in the header it implements."""
    names = _declared_in(source.root, source.path)
    path = Path(source.path)
    if path.suffix in (".cpp", ".cc"):
        headers = [path.with_suffix(".h")]
        if path.parts[0] == "src":
            headers.append(Path("include", "sluice", *path.parts[1:]).with_suffix(".h"))
        for header in headers:
            if (source.root / header).exists():
                names |= _declared_in(source.root, header.as_posix())
    return names


def atomic_operators(source: Source) -> Iterator[Finding]:
    """An operator on an atomic: sequentially consistent without saying so."""
    names = declared_atomics(source) if source.is_cpp else frozenset()
    if not names:
        return
    # A name that also stands for something plain in this file tells nothing.
    plain = r"\b(?:auto|bool|char|double|int|long|unsigned|\w+_t)\s*[&*]?\s*{}\b"
    names = frozenset(name for name in names if not re.search(plain.format(name), source.code))
    if not names:
        return
    name = rf"(?<![\w>])(?P<name>{'|'.join(sorted(map(re.escape, names)))})\b"
    place = rf"{name}(?:\[[^\]]*\])?"
    before = rf"(?:\+\+|--)\s*(?:[\w\]\)]+(?:\.|->))*{place}"
    after = rf"(?P<init>[{{,]\s*\.\s*)?{place}\s*(?:\+\+|--|(?:[-+|&^]|<<|>>)?=(?!=))"
    for pattern in (before, after):
        for match in re.finditer(pattern, source.code):
            line_start = source.code.rfind("\n", 0, match.start()) + 1
            head = source.code[line_start : match.start("name")]
            # The declaration itself, a member's initialiser, a local of the same name.
            if match.groupdict().get("init") or re.search(r"[\w>&*]\s+[&*]?$", head):
                continue
            line = source.line_of(match.start("name"))
            text = f"an operator on the atomic {match.group('name')}: call the function, with its order"
            yield source.finding("atomic_operators", line, text)
