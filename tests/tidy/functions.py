"""functions: where each function of a file begins and ends.

C++ is read by its braces alone: every block that is not a type, a namespace or an initialiser is a function, a lambda
or a part of one. That is enough for a limit on length: a part that is too long belongs to a function that is too long.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from source import Source

TYPE = re.compile(r"\b(?:namespace|class|struct|union|enum)\b|\bextern\s*\"")
LAMBDA = re.compile(r"(?:^|[^\w\]\s])\s*\[[^\[\]]*\][^\[\]]*$", re.DOTALL)
INITIALISER_END = re.compile(r"(?:[=,(\[]|\breturn)$")


@dataclass(frozen=True)
class Function:
    name: str
    first: int
    last: int
    # Positions in the code, of C++ only: of the body's brace, and of the one that closes it.
    opens: int = 0
    closes: int = 0

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def _kind(head: str, before: str) -> str:
    """What the brace after `head` opens: "open" (a type or a namespace), "body" or "value". `before` ended the last one."""
    head = head.strip()
    if not head:
        # After `a_{1}` of a constructor's list comes its body; after `{` an element of an array.
        return "value" if before == "{" else "body"
    bare = head
    while (shorter := re.sub(r"<[^<>]*>", " ", bare)) != bare:
        bare = shorter
    if TYPE.search(bare) and not bare.rstrip().endswith(")"):
        return "open"
    if LAMBDA.search(head):
        return "body"
    if INITIALISER_END.search(head):
        return "value"
    return "body" if ")" in head else "value"


def _name(head: str) -> str:
    test = re.search(r"\b(?:TYPED_)?TEST(?:_F|_P)?\s*\([^)]*\)", head)
    if test:
        return " ".join(test.group().split())
    names = re.findall(r"([~\w:]+)\s*\(", head)
    return names[0] if names else "a function"


def cpp_functions(source: Source) -> Iterator[Function]:
    """The outermost bodies: those within them are their parts."""
    code = source.code
    kinds: list[str] = []
    begun: list[tuple[str, int, int]] = []
    start, before = 0, ";"
    for match in re.finditer(r"[{};]", code):
        position, mark = match.start(), match.group()
        if mark == "{":
            head = code[start:position]
            kind = _kind(head, before)
            if kind == "body" and "body" not in kinds:
                first = position - len(head.lstrip())
                begun.append((_name(head), source.line_of(first), position))
            kinds.append(kind)
        elif mark == "}" and kinds:
            if kinds.pop() == "body" and "body" not in kinds:
                name, line, opens = begun.pop()
                yield Function(name, line, source.line_of(position), opens, position)
        start, before = position + 1, mark


def python_functions(source: Source) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, node.lineno, node.end_lineno or node.lineno)


def shell_functions(source: Source) -> Iterator[Function]:
    """A shell function, as we write them: `name() {` … `}`, both at the start of a line."""
    begin = None
    for number, line in enumerate(source.lines, start=1):
        opened = re.match(r"([\w-]+)\(\) \{$", line)
        if opened:
            begin = (opened.group(1), number)
        elif line == "}" and begin:
            yield Function(begin[0], begin[1], number)
            begin = None


def functions(source: Source) -> Iterator[Function]:
    if source.is_cpp:
        yield from cpp_functions(source)
    elif source.is_python:
        yield from python_functions(source)
    elif source.is_shell:
        yield from shell_functions(source)
