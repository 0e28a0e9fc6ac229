"""The committed program is what its source compiles to, and the build says what is wrong."""

from pathlib import Path

import pytest

from nodes.solana.inbox import build
from nodes.solana.inbox.build import (
    CLANG_VARIABLE,
    HEADER,
    HERE,
    PROGRAMS,
    BuildError,
    compile_program,
    differences,
    find_clang,
    header_text,
)
from nodes.solana.program import ELF_FILES
from tests.support.inbox_svm import CALLER_FILE

CLANG = find_clang()
needs_clang = pytest.mark.skipif(CLANG is None, reason="clang 19 is not installed")


def test_the_header_is_committed_as_generated() -> None:
    assert (HERE / HEADER).read_text(encoding="utf-8") == header_text()
    assert differences(HERE, None) == []


def test_what_is_deployed_is_what_is_built() -> None:
    assert sorted(ELF_FILES.values()) == sorted(PROGRAMS.values())


@needs_clang
def test_the_programs_are_what_the_source_compiles_to() -> None:
    assert CLANG is not None
    assert differences(HERE, CLANG) == []
    caller = compile_program(CLANG, version=3, source=CALLER_FILE.with_suffix(".c"))
    assert CALLER_FILE.read_bytes() == caller, "compile tests/support/inbox_caller.c anew"


@needs_clang
def test_every_stale_file_is_named(tmp_path: Path) -> None:
    assert CLANG is not None
    assert len(differences(tmp_path, CLANG)) == 3
    build.write(tmp_path, CLANG)
    assert differences(tmp_path, CLANG) == []
    (tmp_path / PROGRAMS[3]).write_bytes(b"old")
    (tmp_path / HEADER).write_text("old", encoding="utf-8")
    (tmp_path / PROGRAMS[0]).unlink()
    found = "\n".join(differences(tmp_path, CLANG))
    for part in (f"{PROGRAMS[3]} is not what", f"{HEADER} is not what", f"{PROGRAMS[0]} is missing"):
        assert part in found


@needs_clang
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int entrypoint( {", "expected"),
        ("unsigned long entrypoint(void) { int unused; return 0; }", "unused"),
        ("unsigned long main(void) { return 0; }", "defines no function entrypoint"),
        ("static unsigned long n; unsigned long entrypoint(void) { return n++; }", "no variables of its own"),
        ("extern unsigned long f(void); unsigned long entrypoint(void) { return f(); }", "calls of f are left open"),
    ],
)
def test_what_cannot_be_built_is_told(tmp_path: Path, source: str, message: str) -> None:
    assert CLANG is not None
    path = tmp_path / "bad.c"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(BuildError, match=message):
        compile_program(CLANG, version=3, source=path)


def test_a_check_without_the_compiler_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "find_clang", lambda: None)
    monkeypatch.setattr("sys.argv", ["build", "--check"])
    assert build.main() == 0
    assert "NOT compared" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["build"])
    assert build.main() == 1
    assert "apt install clang-19" in capsys.readouterr().err


def test_a_compiler_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "clang"
    other.write_text("#!/bin/sh\necho 'clang version 14.0.6'\n", encoding="utf-8")
    other.chmod(0o755)
    monkeypatch.setenv(CLANG_VARIABLE, str(other))
    with pytest.raises(BuildError, match="is no clang 19"):
        find_clang()
    monkeypatch.delenv(CLANG_VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_clang() is None
