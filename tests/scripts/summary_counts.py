"""Goal: the summary counts each stage, prints its seconds, warns of an exceeded budget, and fails for what ran nothing."""
import tempfile
from pathlib import Path

from support import ROOT, check, run

PASSED = '<testsuite><testcase name="a" status="run"/><testcase name="b" status="run"/></testsuite>'
FAILED = '<testsuite><testcase name="a" status="run"/><testcase name="b" status="fail"><failure/></testcase></testsuite>'

with tempfile.TemporaryDirectory() as scratch:
    def summary(*outcomes: str, budget: int = 0):
        return run("python3", ROOT / "scripts" / "summary.py", "--budget", str(budget), scratch, *outcomes)

    (Path(scratch) / "good.xml").write_text(PASSED, encoding="utf-8")
    (Path(scratch) / "bad.xml").write_text(FAILED, encoding="utf-8")

    done = summary("good=0=61", "bad=8=7")
    check(done.returncode == 1, "a failed test fails the whole", done)
    check("good: 2 passed, 0 failed, 0 skipped, 61 s" in done.stdout, "a stage with its seconds", done)
    check("bad: 1 passed, 1 failed, 0 skipped, 7 s" in done.stdout, "a failed stage with its seconds", done)
    check("./test bad '^b$'" in done.stdout, "the command that runs a failed test again", done)
    check(done.stdout.splitlines()[-1] == "3 passed, 1 failed", "the last line is the count", done)

    done = summary("good=0=61", budget=60)
    check(done.returncode == 0, "an exceeded budget does not fail", done)
    check("warning: all stages took 61 s; the budget is 60 s" in done.stdout, "an exceeded budget is a warning", done)
    check(done.stdout.splitlines()[-1] == "2 passed, 0 failed", "the count stays last", done)
    check("warning" not in summary("good=0=60", budget=60).stdout, "within the budget there is no warning")
    check("warning" not in summary("good=0=9999").stdout, "without a budget there is no warning")

    done = summary("missing=0=1")
    check(done.returncode == 1 and "it ran no test" in done.stdout, "a stage without a report fails", done)
    done = summary("good=3=1")
    check(done.returncode == 1, "a stage that ends with an error fails although its tests passed", done)
