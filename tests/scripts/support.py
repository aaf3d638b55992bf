"""support: runs a command of the project and checks what it prints."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=50, check=False,
        cwd="/", env={**os.environ, **environment})


def check(condition: bool, what: str, done: subprocess.CompletedProcess[str] | None = None) -> None:
    if not condition:
        output = f"\nexit {done.returncode}\n{done.stdout}{done.stderr}" if done else ""
        raise SystemExit(f"failed: {what}{output}")
