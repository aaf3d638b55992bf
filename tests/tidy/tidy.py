#!/usr/bin/env python3
"""tidy.py [--root FOLDER] [--junit FILE] [REGEX…]

Checks the rules of the house that no compiler checks, over every file that git knows or would add. Prints one line per
finding; ends with 1 if there are any. REGEX: only the rules whose name matches (--rules lists them).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path

from invariants import invariants
from rules import RULES
from samples import sample_findings
from source import Finding, Source

CLANG_FORMAT = "clang-format-19"
SAMPLES = "tests/tidy/samples/"
REPOSITORY = Path(__file__).resolve().parents[2]
# Rules that look at more than one file at a time.
WHOLE = ("invariants", "format", "samples")


def files(root: Path) -> list[str]:
    """Every file that belongs to the tree, by git; by walking where git does not know the folder."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (root / ".git").exists():
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    else:
        skip = ("build/", "var/", ".git/")
        listed = [path.relative_to(root).as_posix() for path in root.rglob("*") if "__pycache__" not in path.parts]
        listed = [path for path in listed if not path.startswith(skip)]
    return sorted({path for path in listed if path and (root / path).is_file() and not (root / path).is_symlink()})


def is_text(source: Source) -> bool:
    return b"\0" not in (source.root / source.path).read_bytes()[:4096]


def load(root: Path) -> list[Source]:
    """The files to check. The samples of the real tree are wrong on purpose: they have a check of their own."""
    listed = [Source(root, path) for path in files(root) if not path.startswith(SAMPLES)]
    return [source for source in listed if is_text(source)]


def badly_formatted(root: Path, sources: list[Source]) -> Iterator[Finding]:
    """C++ that clang-format would change."""
    paths = [source.path for source in sources if source.is_cpp]
    style = f"--style=file:{REPOSITORY / '.clang-format'}"
    if not paths:
        return
    if not shutil.which(CLANG_FORMAT):
        if os.environ.get("CI"):
            yield Finding("format", paths[0], 1, f"{CLANG_FORMAT} is not installed")
        else:
            print(f"format: skipped: {CLANG_FORMAT} is not installed")
        return
    command = [CLANG_FORMAT, style, "--dry-run", "--Werror", "--ferror-limit=1", *paths]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    for match in re.finditer(r"^(.+?):(\d+):\d+: error: ", done.stderr, re.MULTILINE):
        fix = f"not formatted: {CLANG_FORMAT} -i {match.group(1)}"
        yield Finding("format", match.group(1), int(match.group(2)), fix)
    if done.returncode != 0 and "error: " not in done.stderr:
        yield Finding("format", paths[0], 1, f"{CLANG_FORMAT}: {done.stderr.strip()}")


def check(root: Path, names: list[str]) -> dict[str, list[Finding]]:
    """The findings of each named rule."""
    sources = load(root)
    found: dict[str, list[Finding]] = {}
    for name in names:
        if name == "invariants":
            found[name] = list(invariants(root, sources))
        elif name == "format":
            found[name] = list(badly_formatted(root, sources))
        elif name == "samples":
            found[name] = list(sample_findings(root, check, [rule for rule in (*RULES, *WHOLE) if rule != "samples"]))
        else:
            found[name] = [finding for source in sources for finding in RULES[name](source)]
    return found


def write_junit(report: Path, found: dict[str, list[Finding]]) -> None:
    suite = xml.Element("testsuite", name="tidy")
    for name, findings in found.items():
        case = xml.SubElement(suite, "testcase", name=name, classname="tidy", status="fail" if findings else "run")
        if findings:
            xml.SubElement(case, "failure").text = "\n".join(map(str, findings))
    xml.ElementTree(suite).write(report, encoding="utf-8", xml_declaration=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the tree to check (default: this one)")
    parser.add_argument("--junit", type=Path, help="write the outcome of each rule to this file")
    parser.add_argument("--rules", action="store_true", help="list the rules and end")
    parser.add_argument("pattern", nargs="*", metavar="REGEX")
    arguments = parser.parse_args()
    names = [name for name in (*RULES, *WHOLE) if not arguments.pattern or any(re.search(p, name) for p in arguments.pattern)]
    if arguments.rules:
        print(*names, sep="\n")
        return 0
    found = check(arguments.root.resolve(), names)
    for findings in found.values():
        for finding in findings:
            print(finding)
    if arguments.junit:
        write_junit(arguments.junit, found)
    broken = sum(1 for findings in found.values() if findings)
    print(f"tidy: {len(names) - broken} of {len(names)} rules kept")
    return 1 if broken or not names else 0


if __name__ == "__main__":
    sys.exit(main())
