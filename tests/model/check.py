#!/usr/bin/env python3
"""check.py MODEL.pml: explores a Promela model exhaustively with Spin, then each of the bugs that it names.

The model must hold, and every variant "bug: NAME" of its head comment must be found (a model that cannot fail proves
nothing). Exit 1 if not, or if a search was cut short."""
import re, subprocess, sys, tempfile
from pathlib import Path

DEPTH = 2_000_000  # steps; a search that meets it is no proof, and is reported as a failure


def run(command, where):
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False, timeout=280)


def explore(model, define):
    """Returns (errors, states, complete)."""
    with tempfile.TemporaryDirectory() as where:
        made = run(["spin", *([f"-D{define}"] if define else []), "-a", str(model)], where)
        if not (Path(where) / "pan.c").exists():
            sys.exit(f"{model.name}: spin: {made.stdout}{made.stderr}")
        # A bug is found long before all states: compiling well would take longer than the search.
        built = run(["gcc", "-O0" if define else "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=4096", "-o", "pan", "pan.c"], where)
        if built.returncode != 0:
            sys.exit(f"{model.name}: gcc: {built.stderr}")
        said = run(["./pan", f"-m{DEPTH}"], where).stdout
        errors = re.search(r"errors: (\d+)", said)
        states = re.search(r"(\S+) states, stored", said)
        cut = "search depth too small" in said or "out of memory" in said or "Search not completed" in said
        if errors is None or states is None:
            sys.exit(f"{model.name}: pan said nothing:\n{said}")
        return int(errors.group(1)), states.group(1), not cut


def main():
    model = Path(sys.argv[1]).resolve()
    bugs = re.findall(r"^ \* bug: (\w+)", model.read_text(), re.MULTILINE)
    failed = not bugs
    errors, states, complete = explore(model, None)
    print(f"{model.stem}: {errors} errors in {states} states{'' if complete else ', NOT all of them'}")
    failed |= errors != 0 or not complete
    for bug in bugs:
        errors, _, _ = explore(model, bug)
        print(f"{model.stem} with {bug}: {'found' if errors else 'NOT found'}")
        failed |= errors == 0
    return 1 if failed else 0


sys.exit(main())
