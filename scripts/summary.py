#!/usr/bin/env python3
"""summary.py [--budget SECONDS] REPORTS STAGE=STATUS=SECONDS…

Reads one JUnit file per stage (REPORTS/STAGE.xml), prints what failed with the command that runs it again, what was
skipped and why, how long each stage took, and as the last line the count. A stage that ended with a STATUS other than 0,
or ran nothing, counts as a failure even if no test of it did. Exceeding the budget is a warning. Exits with 1 if anything
failed.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as xml
from collections import Counter
from pathlib import Path


def outcome(case: xml.Element) -> str:
    """What became of one test case. Anything that is not plainly a success or a skip is a failure."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    if case.find("skipped") is not None:
        return "skipped"
    return "passed" if case.get("status", "run") == "run" else "failed"


def reason(case: xml.Element) -> str:
    """Why a test skipped itself: the line after GoogleTest's "Skipped", else a line of its own that says so."""
    output = (case.findtext("system-out") or "") + "\n" + (case.findtext("skipped") or "")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line, following in zip(lines, lines[1:]):
        if line.endswith("Skipped"):
            return following
    return next((line for line in lines if "skip" in line.lower()), "no reason given")


def read(report: Path) -> list[xml.Element]:
    try:
        return list(xml.parse(report).iter("testcase"))
    except (OSError, xml.ParseError):
        return []


def again(stage: str, name: str) -> str:
    """The command that runs one test again. The pattern is a CMake regular expression, in single quotes."""
    pattern = re.sub(r"([][.*+?()^$|\\])", r"\\\1", name).replace("'", ".")
    return f"      again: ./test {stage} '^{pattern}$'"


def judge(stage: str, status: int, cases: list[xml.Element], lines: dict[str, list[str]]) -> Counter[str]:
    """Counts a stage's cases and notes those that failed or were skipped."""
    count: Counter[str] = Counter()
    for case in cases:
        name, result = case.get("name", "?"), outcome(case)
        count[result] += 1
        if result == "failed":
            lines[result] += [f"  {stage}: {name}", again(stage, name)]
        elif result == "skipped":
            lines[result].append(f"  {stage}: {name}: {reason(case)}")
    if not cases or (status != 0 and not count["failed"]):
        count["failed"] += 1
        what = "no test failed" if cases else "it ran no test"
        lines["failed"] += [f"  {stage}: the stage ended with {status}, though {what}", f"      again: ./test {stage}"]
    return count


def over_budget(seconds: int, budget: int) -> str | None:
    """The warning, if all stages together took longer than they should."""
    if not budget or seconds <= budget:
        return None
    return f"warning: all stages took {seconds} s; the budget is {budget} s (CONTRIBUTING.md): find what became slower"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=0, help="seconds of all stages beyond which a warning is printed")
    parser.add_argument("reports", type=Path)
    parser.add_argument("outcome", nargs="+", metavar="STAGE=STATUS=SECONDS")
    arguments = parser.parse_args()
    total: Counter[str] = Counter()
    lines: dict[str, list[str]] = {"failed": [], "skipped": []}
    whole = 0
    print()
    for outcome_of_stage in arguments.outcome:
        stage, status, seconds = outcome_of_stage.split("=")
        whole += int(seconds)
        count = judge(stage, int(status), read(arguments.reports / f"{stage}.xml"), lines)
        print(f"{stage}: {count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped, {seconds} s")
        total += count
    for result, entries in lines.items():
        if entries:
            print(f"\n{result}:", *entries, sep="\n")
    if warning := over_budget(whole, arguments.budget):
        print(f"\n{warning}")
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"\n{total['passed']} passed, {total['failed']} failed{skipped}", flush=True)
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
