"""Goal: each mutation operator changes what it should and leaves the rest; a seed chooses the same mutations each time; the
list of equivalent mutations is read as its header says; wrong usage of scripts/mutate exits with 2.

Method: sources of a few lines, written to a scratch folder. Nothing is built.
"""
import sys
import tempfile
from pathlib import Path

from support import ROOT, check, run

sys.path.insert(0, str(ROOT / "scripts"))

from mutations import OPERATORS, Mutation, discover, in_order, mutations_of, parse_equivalents  # noqa: E402

# Operator, a line that it changes, the line afterwards, and lines that it leaves.
SAMPLES = (
    ("negate", "if (a && f(b)) {", "if (!(a && f(b))) {", ("if (a == b) {", "if constexpr (a) {", "if (const auto x = f()) {", "if (a &&")),
    ("negate", "if (const int n = f(); n > 0) {", "if (const int n = f(); !(n > 0)) {", ("for (; a;) {",)),
    ("negate", 'while (is("(;", a)) {', 'while (!(is("(;", a))) {', ("// if (a) {", "while (T* const last = back()) {")),
    ("equal", "return a == b;", "return a != b;", ("a = b;", 'f("x == y");', "f(1);  // a == b")),
    ("equal", "while (a != b) {", "while (a == b) {", ("a <= b;",)),
    ("order", "if (a < b) {", "if (a <= b) {", ("std::vector<int> a(1);", "a << b;", "p->f();", "auto f = [](int) -> int {")),
    ("order", "n = a >= b ? 1 : 2;", "n = a > b ? 1 : 2;", ("std::min<int>(a, b);",)),
    ("logic", "if (a || b) {", "if (a && b) {", ("auto&& a = b;", "f(a | b);")),
    ("logic", "x = a &&", "x = a ||", ("T&& a = f();",)),
    ("one", "n = size() + 1;", "n = size() - 1;", ("n = a + 10;", "n = a + 1.5;", "n += 1;", "f(a, -1);")),
    ("step", "--size_;", "++size_;", ("n = a - b;", "n += 1;")),
    ("truth", "started = true;", "started = false;", ("true_ = 1;",)),
    ("fetch", "n.fetch_add(2, std::memory_order_relaxed);", "n.fetch_sub(2, std::memory_order_relaxed);", ("n.fetch_or(1);",)),
    ("delete", "self.batch->clear(a, b);", "", ("return f();", "const int a = f();", "int a = 1;", "worker w(1);", "delete a;")),
    ("delete", "left[i + 1].word = right;", "", ("auto x = f();", "else f();", "SLUICE_CHECK(a);", "static_assert(a);", "a, b);")),
    ("delete", "++size_;", "", ("{ f(); }", "f(", "using std::swap;", "break;")),
    ("delete", "*place |= f(a);  // why", "// why", ("~name();", "// f();")),
    ("return", "return f() || !g;", "return !(f() || !g);", ("return true;", "return a == b;", "return;")),
    ("minmax", "n = std::min(a, b);", "n = std::max(a, b);", ("n = std::numeric_limits<int>::max();", "n = options.max(1);")),
    ("push", "list.push_back(w);", "list.push_front(w);", ("push_back_all(w);", "bool push_back(w) {")),
    ("ends", "work* w = list->front();", "work* w = list->back();", ("list.front_ = w;", "a = front;")),
)
SOURCE = "namespace n {{\nbool g(int a = 1 + 1, bool b = true);\nbool f() {{\n  g();\n  {line}\n  g();\n}}\n}}  // namespace n\n"


def mutations(folder: Path, line: str) -> list[Mutation]:
    (folder / "sample.cpp").write_text(SOURCE.format(line=line), encoding="utf-8")
    (source,) = [each for each in discover(folder.parents[1], ["wq"]) if each.path.endswith("sample.cpp")]
    return [each for each in mutations_of(source) if each.line == 5]


def check_operators(folder: Path) -> None:
    for operator, before, after, left in SAMPLES:
        found = [each.after.strip() for each in mutations(folder, before) if each.operator == operator]
        check(found == [after], f"{operator} changes `{before}` to `{after}`, not to {found}")
        for line in left:
            found = [each.after.strip() for each in mutations(folder, line) if each.operator == operator]
            check(not found, f"{operator} leaves `{line}`, not {found}")
    check({sample[0] for sample in SAMPLES} == set(OPERATORS), "each operator has a sample")
    names = [each.operator for each in mutations(folder, "x = a == b && c == d;")]
    check(names == ["equal", "equal#2", "logic", "delete"], f"places of a line are told apart: {names}")
    for line in ("SLUICE_CHECK(a == b, c);", "SLUICE_DCHECK(a && b);", "static_assert(a < b);", "#include <a>", "// a == b;",
                 "SLUICE_CHECK_OP(one.users, >, 0U);", "n.load(std::memory_order_acquire) + a;", "/* true */"):
        check(not mutations(folder, line), f"nothing changes `{line}`")


def check_places(folder: Path) -> None:
    """Only bodies are changed, in files of any folder, and a change is of one line."""
    (folder / "sample.cpp").unlink()
    deep = folder / "some" / "folder"
    deep.mkdir(parents=True)
    text = ("#pragma once\nclass one {\n  explicit one(bool a = true);\n  void f(int n = 1 + 1);\n  bool b_ = true;\n"
            "  [[nodiscard]] bool g(bool b = false) const { return b == c_; }\n"
            "  void h() {\n    SLUICE_CHECK(a,\n                 b == c);\n    f(a,\n      b);\n  }\n};\n")
    (deep / "a.h").write_text(text, encoding="utf-8")
    (folder / "notes.txt").write_text("a == b\n", encoding="utf-8")
    found = [each for source in discover(folder.parents[1], ["wq"]) for each in mutations_of(source)]
    check([(each.path, each.line, each.operator) for each in found] == [("src/wq/some/folder/a.h", 6, "equal")],
          f"declarations, checks and parts of a statement stay: {[str(each) for each in found]}")
    check(found[0].after == "  [[nodiscard]] bool g(bool b = false) const { return b != c_; }",
          f"the rest of the line stays: {found[0].after}")


def check_seeds() -> None:
    every = [each for source in discover(ROOT, ["wq", "identity"]) for each in mutations_of(source)]
    check(len(every) > 1000, f"the sources have mutations: {len(every)}")
    first, again, other = in_order(every, 7), in_order(every, 7), in_order(every, 8)
    check(first == again, "a seed chooses the same mutations again")
    check(first[:50] != other[:50], "another seed chooses others")
    check(len(first) == len(set(first)) == len(every), "each mutation comes once")
    lines = len({(each.path, each.line) for each in every})
    check(len({(each.path, each.line) for each in first[:lines]}) == lines, "each line comes once before one comes twice")


def check_equivalents() -> None:
    mutation = Mutation("src/wq/lists/work_list.h", 3, "equal#2", "  if (a == b || c == d) {", "")
    (entry,) = parse_equivalents("# comment\n\nlists/work_list.h :: a == b || c :: equal#2 :: c is never d\n", "file")
    check(entry.covers(mutation) and entry.reason == "c is never d", "an entry names its mutation")
    for other in ("work_list.h :: a == b || c :: equal :: why", "ist.h :: a == b :: equal#2 :: why",
                  "work_list.h :: a == c :: equal#2 :: why"):
        check(not parse_equivalents(other, "file")[0].covers(mutation), f"`{other}` names another")
    for bad, word in (("a.h :: b :: equal", "3 fields"), ("a.h ::  :: equal :: why", "none of them empty"),
                      ("a.h :: b :: turn :: why", "'turn'")):
        try:
            parse_equivalents(f"\n{bad}\n", "file")
        except ValueError as error:
            check("file:2:" in str(error) and word in str(error), f"`{bad}` is refused with line and reason: {error}")
        else:
            check(False, f"`{bad}` is refused")


def check_usage() -> None:
    for words in (("--count", "0"), ("--only", "("), ("--line", "nowhere.h:1"), ("--line", "nowhere.h"), ("--no-such-option",)):
        done = run(ROOT / "scripts" / "mutate", "--list", *words)
        check(done.returncode == 2 and done.stderr, f"{' '.join(words)} is wrong usage", done)
    done = run(ROOT / "scripts" / "mutate", "--list", "--seed", "7", "--count", "3", "--only", "^src/identity/.*: delete:")
    lines = done.stdout.splitlines()
    check(done.returncode == 0 and len(lines) == 3 and "seed 7" in done.stderr, "--list prints mutations and their seed", done)
    check(all(line.startswith("src/identity/") and ": delete: " in line for line in lines), "--only chooses", done)


with tempfile.TemporaryDirectory() as scratch:
    wq = Path(scratch) / "src" / "wq"
    wq.mkdir(parents=True)
    check_operators(wq)
    check_places(wq)
check_seeds()
check_equivalents()
check_usage()
