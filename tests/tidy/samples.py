"""samples: proof that each rule bites. Every folder of samples/ is a small tree of its own, named after the rule it
breaks; it must be rejected for that rule and for no other. The tree `clean` breaks none.

Two samples are written when the check runs: a file of more than 40 KB, and text that the other tools of a workplace
would take for the real thing.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from source import Finding

FOLDER = "tests/tidy/samples"
Check = Callable[[Path, list[str]], dict[str, list[Finding]]]


def _write_generated(folder: Path) -> None:
    big = folder / "file_size" / "src" / "base" / "big.cpp"
    big.parent.mkdir(parents=True)
    big.write_text("// a line of forty bytes, one of many...\n" * 1025, encoding="utf-8")
    path = folder / "machine_path" / "docs" / "guide.md"
    path.parent.mkdir(parents=True)
    path.write_text("Run /" + "work/bin/tool to see it.\n", encoding="utf-8")


def _judge(tree: Path, broken: set[str]) -> str:
    """What is wrong with how a sample was judged; empty if nothing is."""
    due = set() if tree.name == "clean" else {tree.name}
    if broken == due:
        return ""
    return f"the sample {tree.name} broke {', '.join(sorted(broken)) or 'no rule'}, not {', '.join(due) or 'none'}"


def sample_findings(root: Path, check: Check, names: list[str]) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as scratch:
        _write_generated(Path(scratch))
        trees = sorted(tree for folder in (root / FOLDER, Path(scratch)) for tree in folder.glob("*/"))
        for tree in trees:
            found = check(tree, names)
            wrong = _judge(tree, {name for name, findings in found.items() if findings})
            if wrong:
                yield Finding("samples", f"{FOLDER}/{tree.name}", 1, wrong)
        for name in sorted({*names, "clean"} - {tree.name for tree in trees}):
            yield Finding("samples", FOLDER, 1, f"no sample shows the rule {name}")
