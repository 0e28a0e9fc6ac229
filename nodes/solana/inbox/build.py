"""Builds the inbox program: inbox.c to inbox_v3.so and inbox_v0.so, syscalls.h from the table of the runtime's calls.

Run `python -m nodes.solana.inbox.build`, or with `--check` to learn whether the committed files are what the sources
give. The compiler is clang 19, which is not on every machine: without it `--check` compares the header only and says
so. Equal sources give equal files with any build of that version.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nodes.solana.inbox.link import LinkError, link

HERE = Path(__file__).resolve().parent
SOURCE = "inbox.c"
HEADER = "syscalls.h"
PROGRAMS = {3: "inbox_v3.so", 0: "inbox_v0.so"}
CLANG_VARIABLE = "LOCKSTEP_CLANG"
CLANG_MAJOR = 19
COMPILE_TIMEOUT_S = 60

FLAGS = (
    *("-target", "bpf", "-O2", "-Wall", "-Wextra", "-Werror", "-std=c11"),
    # Later instruction sets have 32-bit arithmetic that SBPF sign-extends: wrong results without any message.
    "-mcpu=v2",
    # A call of memcpy or memset would be one of a function that does not exist.
    *("-ffreestanding", "-fno-builtin"),
    # Tables of jumps are constants that hold addresses.
    "-fno-jump-tables",
    "-fno-function-sections",
    # A frame of SBPF has 4 kB; LLVM assumes the 512 bytes of Linux.
    *("-mllvm", "-bpf-stack-size=4096"),
)

# Result, name and parameters of the calls that the program makes; anza-xyz/agave, platform-tools C SDK.
SYSCALLS = (
    ("u64", "sol_log_data", "const Slice *fields, u64 count"),
    ("u64", "sol_sha256", "const Slice *parts, u64 count, u8 *hash"),
    (
        "u64",
        "sol_try_find_program_address",
        "const Slice *seeds, u64 count, const u8 *program_id, u8 *address, u8 *bump",
    ),
    (
        "u64",
        "sol_invoke_signed_c",
        "const Instruction *call, const AccountInfo *infos, u64 count, const SignerSeeds *signers, u64 signer_count",
    ),
    ("u64", "sol_get_clock_sysvar", "u8 *clock"),
    ("u64", "sol_get_stack_height", "void"),
)


class BuildError(Exception):
    """The program cannot be built; the message holds what the compiler or the linker said."""


def syscall_number(name: str) -> int:
    """The number by which SBPF version 3 calls a function of the runtime: Murmur3 of its name, 32 bits, seed 0."""
    data = name.encode()
    mask = 0xFFFFFFFF
    hashed = 0
    for at in range(0, len(data), 4):
        word = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & mask
        hashed ^= (word << 15 | word >> 17) * 0x1B873593 & mask
        if at + 4 <= len(data):
            hashed = ((hashed << 13 | hashed >> 19) & mask) * 5 + 0xE6546B64 & mask
    hashed ^= len(data)
    hashed = (hashed ^ hashed >> 16) * 0x85EBCA6B & mask
    hashed = (hashed ^ hashed >> 13) * 0xC2B2AE35 & mask
    return hashed ^ hashed >> 16


def header_text() -> str:
    """syscalls.h: with STATIC_CALLS every call is a constant address, which clang turns into a call by number."""
    lines = [
        "/* Written by build.py; edit the table there. What the program calls in the runtime. */",
        "#ifndef SYSCALLS_H",
        "#define SYSCALLS_H",
        '#include "abi.h"',
        "#ifdef STATIC_CALLS",
        *[f"static {result} (*const {name})({args}) = (void *){syscall_number(name):#010x}UL;"
          for result, name, args in SYSCALLS],
        "#else",
        *[f"extern {result} {name}({args});" for result, name, args in SYSCALLS],
        "#endif",
        "#endif",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def find_clang() -> Path | None:
    """clang 19: what LOCKSTEP_CLANG names, or `clang-19` or `clang` of that version on PATH. None where there is none.

    Raises BuildError where the variable names something else.
    """
    named = os.environ.get(CLANG_VARIABLE)
    if named:
        if not _is_right_clang(named):
            raise BuildError(f"{CLANG_VARIABLE} is {named}, which is no clang {CLANG_MAJOR}")
        return Path(named)
    for name in (f"clang-{CLANG_MAJOR}", "clang"):
        found = shutil.which(name)
        if found and _is_right_clang(found):
            return Path(found)
    return None


def compile_program(clang: Path, *, version: int, source: Path = HERE / SOURCE) -> bytes:
    """The program in SBPF `version` 3 or 0. Raises BuildError."""
    static = ("-DSTATIC_CALLS",) if version == 3 else ()
    with tempfile.TemporaryDirectory() as folder:
        obj = Path(folder, "program.o")
        command = [str(clang), *FLAGS, *static, "-I", str(HERE), "-c", str(source), "-o", str(obj)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{clang} could not be run: {error}") from error
        if done.returncode != 0:
            raise BuildError(done.stderr.strip() or f"{clang} ended with status {done.returncode}")
        try:
            return link(obj.read_bytes(), version=version)
        except LinkError as error:
            raise BuildError(f"{source.name} for SBPF version {version}: {error}") from error


def differences(folder: Path, clang: Path | None) -> list[str]:
    """One line for every committed file in `folder` that is not what the sources give. Raises BuildError."""
    found = []
    header = folder / HEADER
    if not header.is_file() or header.read_text(encoding="utf-8") != header_text():
        found.append(f"{HEADER} is not what the table in build.py gives")
    for version, name in PROGRAMS.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif clang is not None and path.read_bytes() != compile_program(clang, version=version):
            found.append(f"{name} is not what {SOURCE} compiles to")
    return found


def write(folder: Path, clang: Path) -> list[str]:
    """Write header and programs into `folder`. Raises BuildError. Returns a line for each."""
    (folder / HEADER).write_text(header_text(), encoding="utf-8")
    said = []
    for version, name in PROGRAMS.items():
        program = compile_program(clang, version=version)
        (folder / name).write_bytes(program)
        said.append(f"{name}: {len(program):,} bytes")
    return said


def _is_right_clang(command: str) -> bool:
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return f"clang version {CLANG_MAJOR}." in done.stdout


def main() -> int:
    """Entry point. Returns the exit status: 1 on a failed build or a failed check."""
    parser = argparse.ArgumentParser(description="Build the inbox program of Solana.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a committed file is stale")
    options = parser.parse_args()
    try:
        clang = find_clang()
        if options.check:
            stale = differences(HERE, clang)
            for line in stale:
                _say(f"{line}; run `python -m nodes.solana.inbox.build` and commit the result")
            if clang is None:
                _say(f"clang {CLANG_MAJOR} is not installed: the programs were NOT compared with {SOURCE}")
            return 1 if stale else 0
        if clang is None:
            raise BuildError(
                f"clang {CLANG_MAJOR} is not installed (on Debian and Ubuntu: apt install clang-{CLANG_MAJOR}); "
                f"or set {CLANG_VARIABLE} to its path"
            )
        for line in write(HERE, clang):
            _say(line)
    except BuildError as error:
        _say(str(error))
        return 1
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
