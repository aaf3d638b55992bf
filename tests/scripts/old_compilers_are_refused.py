"""Goal: a compiler that is too old stops the configuration with one line that says what is needed; others pass."""
from support import ROOT, check, run

REFUSED = (("GNU", "11.4.0"), ("GNU", "9.3.0"), ("Clang", "14.0.6"), ("Clang", "18.1.8"), ("AppleClang", "16.0.0"), ("MSVC", "19.40"))
ACCEPTED = (("GNU", "12.2.0"), ("GNU", "14.1.0"), ("Clang", "19.1.7"), ("Clang", "21.1.0"))


def configure(compiler: str, version: str):
    return run("cmake", f"-DCMAKE_CXX_COMPILER_ID={compiler}", f"-DCMAKE_CXX_COMPILER_VERSION={version}",
               "-DCMAKE_CXX_COMPILER=/usr/bin/some-compiler", "-P", ROOT / "cmake" / "SluiceCompiler.cmake")


for compiler, version in REFUSED:
    done = configure(compiler, version)
    check(done.returncode != 0, f"{compiler} {version} is refused", done)
    lines = [line for line in done.stderr.splitlines() if "Sluice needs" in line]
    check(len(lines) == 1, "one line says it", done)
    for word in ("GCC 12", "clang 19", "/usr/bin/some-compiler", version, "CXX="):
        check(word in lines[0], f"the line holds {word}", done)
for compiler, version in ACCEPTED:
    done = configure(compiler, version)
    check(done.returncode == 0, f"{compiler} {version} is accepted", done)
