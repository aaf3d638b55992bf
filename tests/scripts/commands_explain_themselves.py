"""Goal: ./run --help and ./test --help explain these commands; an unknown stage is refused with exit code 2."""
from support import ROOT, check, run

for name, words in {"run": ("run bench", "run serve", "SLUICE_INSTALL=no"),
                    "test": ("quick", "coverage", "release", "asan", "tsan", "analyze", "tidy", "SLUICE_INSTALL=no")}.items():
    for flag in ("--help", "-h"):
        done = run(ROOT / name, flag)
        check(done.returncode == 0, f"{name} {flag} exits with 0", done)
        for word in words:
            check(word in done.stdout, f"{name} {flag} mentions {word}", done)
        check("shellcheck" not in done.stdout, f"{name} {flag} prints no marks of tools", done)

done = run(ROOT / "test", "no-such-stage")
check(done.returncode == 2, "an unknown stage exits with 2", done)
check("unknown stage 'no-such-stage'" in done.stderr, "an unknown stage is named", done)
