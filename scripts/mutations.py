"""mutations: which mutations a source can have, which of them a seed chooses, and which are known to be equivalent.

The pure part of scripts/mutate: it reads text and builds nothing. A mutation changes one place of one line within a
function's body. Each operator is a rule that reads a line whose comments, strings and preprocessor lines are blank.

Left out on purpose:
- Memory orders. The processors that run the tests (x86) give most orders for nothing: no test can see a weaker one.
- Checks (SLUICE_CHECK, SLUICE_DCHECK, static_assert): a test that passes never reaches what they forbid.
- Declarations without a body, conditions of `if constexpr`, and what spans more than one line.
"""

import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "tidy"))

from functions import cpp_functions  # noqa: E402
from source import Source, closing  # noqa: E402

Edit = tuple[int, int, str]  # from this column up to that one; what comes instead

# How a line begins that is no statement to delete: a declaration, or what steers the flow.
KEYWORDS = (
    r"alignas|auto|break|case|catch|class|co_await|co_return|co_yield|const|consteval|constexpr|constinit|continue|default|"
    r"do|else|enum|explicit|extern|for|friend|goto|if|inline|mutable|namespace|operator|private|protected|public|requires|"
    r"return|static|struct|switch|template|throw|try|typedef|typename|union|using|virtual|while"
)
NOT_DELETED = re.compile(rf"(?:{KEYWORDS})\b|\[\[|~")
PLACE = r"(?:::)?[*&]*(?:::)?[\w:]+(?:<[^<>;]*>)?(?:\.|->|::|\w|\*|\[[^\[\];]*\]|\([^();]*\))*"  # without a space but in brackets
ASSIGNMENT = re.compile(rf"\**{PLACE} (?:[-+*/%&|^]|<<|>>)?= [^;]+;$")
CALL = re.compile(rf"{PLACE}\(.*\)\s*;$")
STEP = re.compile(rf"(?:\+\+|--){PLACE};$|{PLACE}(?:\+\+|--);$")
CHECK = re.compile(r"\bSLUICE_D?CHECK|\bstatic_assert\b")
RETURNS_BOOL = re.compile(r"\bbool\s+[\w:<>~, ]+\(")


def _swaps(pattern: str, pairs: dict[str, str]) -> Callable[[str], Iterator[Edit]]:
    """An operator that puts the other one of a pair where the pattern's first group matches."""
    both = {**pairs, **{other: one for one, other in pairs.items()}}
    compiled = re.compile(pattern)

    def edits(code: str) -> Iterator[Edit]:
        for match in compiled.finditer(code):
            yield match.start(1), match.end(1), both[match.group(1)]

    return edits


def _parts(code: str) -> tuple[str, list[str]]:
    """An expression with what its brackets hold blanked out, and the operators of its top level."""
    bare = code
    while (shorter := re.sub(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}", lambda match: "_" * len(match.group()), bare)) != bare:
        bare = shorter
    return bare, re.findall(r"(?<=\s)(?:==|!=|<=|>=|<|>|&&|\|\||\?|=)(?=\s)", bare)


def _other_operator_does_it(operators: list[str]) -> bool:
    """Whether `!(…)` says what the operator `equal` says as well, of an expression with these operators."""
    return operators in (["=="], ["!="])


def negate(code: str) -> Iterator[Edit]:
    """`if (c)` and `while (c)`: the opposite. A condition that declares a variable stays as it is."""
    for match in re.finditer(r"\b(?:if|while)\s*\(", code):
        begin = match.end()
        end = closing(code, begin - 1)
        if code[end - 1] != ")":
            continue  # goes on in the next line
        bare, _ = _parts(code[begin : end - 1])
        begin += bare.rfind(";") + 1
        begin += len(code[begin:]) - len(code[begin:].lstrip())
        condition = code[begin : end - 1]
        operators = _parts(condition)[1]
        if condition and "=" not in operators and not _other_operator_does_it(operators):
            yield begin, end - 1, f"!({condition})"


def delete(code: str) -> Iterator[Edit]:
    """A line that is one call, one assignment or one step, and nothing else."""
    statement = code.strip()
    if NOT_DELETED.match(statement) or statement.count(";") != 1 or statement.count("(") != statement.count(")"):
        return
    if ASSIGNMENT.match(statement) or CALL.match(statement) or STEP.match(statement):
        begin = len(code) - len(code.lstrip())
        yield begin, begin + len(statement), ""


def not_returned(code: str) -> Iterator[Edit]:
    """`return x;` of a truth value: the opposite. The caller says whether the function returns one."""
    for match in re.finditer(r"\breturn ([^;]+);", code):
        operators = _parts(match.group(1))[1]
        if match.group(1) not in ("true", "false") and not _other_operator_does_it(operators):
            yield match.start(1), match.end(1), f"!({match.group(1)})"


# One after the other by name: `equal`, and `equal#2` for its second place on a line.
OPERATORS: dict[str, Callable[[str], Iterator[Edit]]] = {
    "negate": negate,
    "equal": _swaps(r"(?<=\s)(==|!=)(?=\s|$)", {"==": "!="}),
    "order": _swaps(r"(?<=\s)(<=|>=|<|>)(?=\s|$)", {"<": "<=", ">": ">="}),
    "logic": _swaps(r"(?<=\s)(&&|\|\|)(?=\s|$)", {"&&": "||"}),
    "one": _swaps(r"(?<=[\w)\]] )([+-])(?= 1\b(?![.']))", {"+": "-"}),
    "step": _swaps(r"(\+\+|--)", {"++": "--"}),
    "truth": _swaps(r"\b(true|false)\b", {"true": "false"}),
    "fetch": _swaps(r"\bfetch_(add|sub)\b", {"add": "sub"}),
    "delete": delete,
    "return": not_returned,
    "minmax": _swaps(r"\bstd::(?:ranges::)?(min|max)(?=[(<])", {"min": "max"}),
    "push": _swaps(r"(?:\.|->)push_(back|front)(?=\()", {"back": "front"}),
    "ends": _swaps(r"(?:\.|->)(back|front)(?=\(\))", {"back": "front"}),
}


@dataclass(frozen=True)
class Mutation:
    path: str
    line: int
    operator: str
    before: str  # the whole line
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.operator}: {self.before.strip()}"

    @property
    def change(self) -> str:
        return f"  - {self.before.strip()}\n  + {self.after.strip() or '(deleted)'}"


def _begun(code: str, position: int) -> str:
    """What stands before a position of the statement that it belongs to; empty if one begins there."""
    return code[max(code.rfind(mark, 0, position) for mark in ";{}") + 1 : position].strip()


def _regions(source: Source) -> Iterator[tuple[int, int, bool]]:
    """Where bodies of functions are, and whether the function returns a truth value."""
    for function in cpp_functions(source):
        returns_bool = RETURNS_BOOL.search(_begun(source.code, function.opens))
        yield function.opens + 1, function.closes, bool(returns_bool)


def mutations_of(source: Source) -> Iterator[Mutation]:
    """Every mutation of a file, from top to bottom."""
    lines = source.text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    for opens, closes, is_bool in _regions(source):
        for number in range(source.line_of(opens), source.line_of(closes) + 1):
            start = starts[number - 1]
            stop = start + len(lines[number - 1])
            # What stands outside of the body is blank: the head of a function that is one line.
            code = " " * (max(opens, start) - start) + source.code[max(opens, start) : min(closes, stop)]
            before = _begun(source.code, start)
            if CHECK.search(code) or CHECK.search(before) or re.search(r"\bif constexpr\b", code):
                continue
            for name, after in _edited(code, lines[number - 1], before, is_bool):
                yield Mutation(source.path, number, name, lines[number - 1], after)


def _edited(code: str, line: str, before: str, is_bool: bool) -> Iterator[tuple[str, str]]:
    """What each operator makes of a line, with its name."""
    for operator, edits in OPERATORS.items():
        if operator == "delete" and before and not re.search(r"\b(?:case [^?]+|default|public|private):$", before):
            continue  # the rest of a statement
        for place, (begin, end, text) in enumerate(edits(code), start=1):
            if operator == "return" and not is_bool:
                continue
            # Strings are blank in the code: a negated condition is the line's own text.
            if operator in ("negate", "return"):
                text = f"!({line[begin:end]})"
            yield operator if place == 1 else f"{operator}#{place}", line[:begin] + text + line[end:]


def discover(root: Path, floors: Iterable[str]) -> list[Source]:
    """The sources of some floors, in whatever folders they are."""
    found = (path for floor in floors for path in (root / "src" / floor).rglob("*") if path.suffix in (".h", ".cpp"))
    return [Source(root, path.relative_to(root).as_posix()) for path in sorted(found)]


def in_order(mutations: Iterable[Mutation], seed: int) -> list[Mutation]:
    """All of them, in the order that the seed says: each line once, then each line that has more once again, and so on."""
    chooser = random.Random(seed)
    by_line: dict[tuple[str, int], list[Mutation]] = {}
    for mutation in mutations:
        by_line.setdefault((mutation.path, mutation.line), []).append(mutation)
    rounds = list(by_line.values())
    chooser.shuffle(rounds)
    for some in rounds:
        chooser.shuffle(some)
    ordered: list[Mutation] = []
    while rounds:
        ordered += [some.pop() for some in rounds]
        rounds = [some for some in rounds if some]
    return ordered


@dataclass(frozen=True)
class Equivalent:
    file: str
    excerpt: str
    operator: str
    reason: str

    def covers(self, mutation: Mutation) -> bool:
        same_file = f"/{mutation.path}".endswith(f"/{self.file}")
        return same_file and self.operator == mutation.operator and self.excerpt in mutation.before


def parse_equivalents(text: str, name: str) -> list[Equivalent]:
    """The entries of tests/mutations.equivalent, whose header says how one is written. Raises ValueError for a bad one."""
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split(" :: ")]
        if len(fields) != 4 or not all(fields):
            raise ValueError(f"{name}:{number}: {len(fields)} fields; write FILE :: EXCERPT :: OPERATOR :: REASON, none of them empty")
        if fields[2].split("#")[0] not in OPERATORS:
            raise ValueError(f"{name}:{number}: no operator is named '{fields[2]}'; the names are {', '.join(OPERATORS)}")
        entries.append(Equivalent(*fields))
    return entries
