"""codegen_get_put: proves on the machine code that get and put are one atomic instruction and a check, no loop.

usage: codegen_get_put.py OBJECT
The object holds sluice_codegen_get and sluice_codegen_put (tests/tidy/codegen_get_put.cpp). In each there must be exactly one locked
instruction, no compare-exchange, and no cycle in the flow of control. On x86-64 the instruction must not hand out the old
value either (xadd): the flags say it all.
"""

import re
import subprocess
import sys

FUNCTIONS = ("sluice_codegen_get", "sluice_codegen_put")
# x86-64 with and without a result; AArch64 with and without LSE (there an exclusive pair loops: not accepted either).
ATOMIC = re.compile(r"\block\b|\bxadd\b|\bldadd\w*\b|\bstadd\w*\b")
COMPARE_EXCHANGE = re.compile(r"cmpxchg|\bcasp?[alhb]*\b|\bst[l]?xr\b")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(.*)$")
JUMP = re.compile(r"^(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:\S+,\s*)*([0-9a-f]+)\b")

ENDS = re.compile(r"^(?:jmp|ret|b\s|br\s|ud2|brk)")


def body(listing: str, name: str) -> list[tuple[int, str]]:
    found = re.search(rf"<{name}>:\n(.*?)(?:\n\n|\Z)", listing, re.DOTALL)
    if found is None:
        raise SystemExit(f"codegen: {name} is not in the object")
    lines = (INSTRUCTION.match(line) for line in found.group(1).splitlines())
    return [(int(line.group(1), 16), line.group(2)) for line in lines if line]


def in_cycle(code: list[tuple[int, str]]) -> str | None:
    """An instruction that can be reached from itself, if there is one."""
    index = {address: i for i, (address, _) in enumerate(code)}
    follows: list[list[int]] = []
    for i, (_, text) in enumerate(code):
        jump = JUMP.match(text)
        after = [] if ENDS.match(text) else [i + 1]
        if jump and int(jump.group(1), 16) in index:
            after.append(index[int(jump.group(1), 16)])
        follows.append([each for each in after if each < len(code)])
    for start in range(len(code)):
        reached, todo = set(), list(follows[start])
        while todo:
            here = todo.pop()
            if here not in reached:
                reached.add(here)
                todo += follows[here]
        if start in reached:
            return code[start][1]
    return None


def faults(code: list[tuple[int, str]]) -> list[str]:
    wrong = []
    atomics = sum(1 for _, text in code if ATOMIC.search(text))
    if atomics != 1:
        wrong.append(f"{atomics} atomic instructions instead of one")
    wrong += [f"a compare-exchange: {text}" for _, text in code if COMPARE_EXCHANGE.search(text)]
    wrong += [f"the old value is fetched: {text}" for _, text in code if "xadd" in text]
    loop = in_cycle(code)
    if loop is not None:
        wrong.append(f"a loop through: {loop}")
    return wrong


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", sys.argv[1]], check=True, capture_output=True,
                             text=True).stdout
    status = 0
    for name in FUNCTIONS:
        code = body(listing, name)
        for fault in faults(code):
            print(f"codegen: {name}: {fault}")
            status = 1
        if status:
            print("\n".join(f"  {address:x}: {text}" for address, text in code))
    return status


sys.exit(main())
