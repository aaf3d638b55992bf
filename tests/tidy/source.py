"""source: one file of the tree, and its C++ reduced to what a rule may trust.

`code` is the text with comments, strings, character literals and preprocessor lines blanked out, every line break and
column kept, so that a position in `code` is a position in the file.
"""

import bisect
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CPP_SUFFIXES = (".h", ".hpp", ".cpp", ".cc")
HEADER_SUFFIXES = (".h", ".hpp")

# In the order in which they must be tried: a raw string may hold what looks like any of the others.
TOKENS = re.compile(
    r"""(?P<raw>\b(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)")
      | (?P<comment>//(?:\\\n|[^\n])*|/\*.*?\*/)
      | (?P<string>"(?:\\.|[^"\\\n])*")
      | (?P<char>(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+')
      | (?P<directive>^[ \t]*\#(?:\\\n|/\*.*?\*/|(?!//|/\*)[^\n])*)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def _blank(match: re.Match[str]) -> str:
    """Spaces for everything but line breaks; quotes stay, so that a string still reads as a value."""
    text = re.sub(r"[^\n]", " ", match.group())
    if match.lastgroup in ("string", "raw", "char") and len(text) >= 2:
        text = '"' + text[1:-1] + '"'
    return text


@dataclass(frozen=True)
class Finding:
    rule: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text} [{self.rule}]"


class Source:
    """A file: its path relative to the root, its text, and views of it."""

    def __init__(self, root: Path, path: str) -> None:
        self.root = root
        self.path = path
        self.parts = Path(path).parts
        self.suffix = Path(path).suffix
        self.size = (root / path).stat().st_size

    @cached_property
    def text(self) -> str:
        return (self.root / self.path).read_text(encoding="utf-8", errors="replace")

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def code(self) -> str:
        return TOKENS.sub(_blank, self.text)

    @cached_property
    def _starts(self) -> list[int]:
        return [0] + [match.end() for match in re.finditer("\n", self.text)]

    def line_of(self, position: int) -> int:
        return bisect.bisect_right(self._starts, position)

    @property
    def is_cpp(self) -> bool:
        return self.suffix in CPP_SUFFIXES

    @property
    def is_header(self) -> bool:
        return self.suffix in HEADER_SUFFIXES

    @cached_property
    def is_python(self) -> bool:
        return self.suffix == ".py" or (not self.suffix and self.text.startswith("#!/usr/bin/env python3"))

    @cached_property
    def is_shell(self) -> bool:
        return self.suffix == ".sh" or (not self.suffix and bool(re.match(r"#!\S*(?: |/)(?:bash|sh)\b", self.text)))

    @property
    def is_test(self) -> bool:
        return self.parts[0] == "tests"

    def finding(self, rule: str, line: int, text: str) -> Finding:
        return Finding(rule, self.path, line, text)


def closing(code: str, start: int, pair: str = "()") -> int:
    """The position after the bracket that closes the one at `start`; the end of the code if none does."""
    depth = 0
    for position in range(start, len(code)):
        if code[position] == pair[0]:
            depth += 1
        elif code[position] == pair[1]:
            depth -= 1
            if depth == 0:
                return position + 1
    return len(code)
