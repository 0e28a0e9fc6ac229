"""Where anvil is found, which ones are passed over, and the install on first use; with scripts in place of binaries."""

import stat
import threading
from pathlib import Path

import pytest

from nodes.evm import anvil
from nodes.evm.anvil import find_anvil
from nodes.model.errors import InvalidInput, MissingTool

BINARY_BYTES = 5_000


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing: an empty PATH, cache and repository. A script of 5 kB counts as a binary."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LOCKSTEP_ANVIL", raising=False)
    monkeypatch.setattr(anvil, "__file__", str(tmp_path / "repository" / "nodes" / "evm" / "anvil.py"))
    monkeypatch.setattr(anvil, "_LEAST_BYTES", BINARY_BYTES)
    monkeypatch.setattr(anvil, "_SHA256", {})


def script(path: Path, body: str, *, pad: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"#!/bin/sh\n{body}\n"
    path.write_text(text + ("#" * BINARY_BYTES if pad else ""))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake(path: Path, version: str = "1.7.1") -> Path:
    return script(path, f'echo "anvil Version: {version}"')


def fake_npm(folder: Path, installed: Path, *, body: str = "") -> Path:
    """An npm that installs a copy of `installed` and notes each call."""
    place = f"node_modules/@foundry-rs/anvil-{anvil._platform()}/bin"
    lines = [
        f"echo \"$@\" >> '{folder}/npm-calls'",
        'while [ "$1" != "--prefix" ]; do shift; done',
        f'/bin/mkdir -p "$2/{place}" && /bin/cp {installed} "$2/{place}/anvil"',
        body,
    ]
    return script(folder / "bin" / "npm", "\n".join(lines), pad=False)


def in_cache(tmp_path: Path) -> Path:
    return anvil._binary_under(tmp_path / "cache" / "lockstep" / f"anvil-{anvil.VERSION}")


def test_the_first_of_the_places_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = fake(in_cache(tmp_path))
    assert find_anvil() == cached
    repository = fake(anvil._binary_under(tmp_path / "repository"))
    assert find_anvil() == repository
    on_path = fake(tmp_path / "bin" / "anvil", "1.7.0")
    assert find_anvil() == on_path
    named = fake(tmp_path / "named")
    monkeypatch.setenv("LOCKSTEP_ANVIL", str(named))
    assert find_anvil() == named
    explicit = fake(tmp_path / "explicit", "1.7.2-nightly")
    assert find_anvil(str(explicit)) == explicit


@pytest.mark.parametrize("version", ["1.6.9", "1.8.0", "2.7.1", "1.70.1"])
def test_other_versions_are_passed_over_on_path_and_refused_by_name(tmp_path: Path, version: str) -> None:
    other = fake(tmp_path / "bin" / "anvil", version)
    cached = fake(in_cache(tmp_path))
    assert find_anvil() == cached
    with pytest.raises(InvalidInput, match=f"version {version}, and only 1.7.x"):
        find_anvil(str(other))


def test_what_cannot_be_run_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=r"the configured anvil is .* no such file"):
        find_anvil(str(tmp_path / "nowhere"))
    (tmp_path / "plain").write_text("x" * BINARY_BYTES)
    with pytest.raises(InvalidInput, match="not executable"):
        find_anvil(str(tmp_path / "plain"))
    launcher = script(tmp_path / "launcher", "exit 0", pad=False)
    monkeypatch.setenv("LOCKSTEP_ANVIL", str(launcher))
    with pytest.raises(InvalidInput, match=r"LOCKSTEP_ANVIL is .* launcher script or a broken download"):
        find_anvil()
    with pytest.raises(InvalidInput, match="answered 'hello'"):
        find_anvil(str(script(tmp_path / "other", "echo hello")))


def test_neither_anvil_nor_npm_says_what_to_install(tmp_path: Path) -> None:
    fake(tmp_path / "bin" / "anvil", "1.0.0")
    with pytest.raises(MissingTool, match=r"install Node\.js 20 or newer(.|\n)*LOCKSTEP_ANVIL(.|\n)*version 1\.0\.0"):
        find_anvil()


def test_the_pinned_package_is_installed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_npm(tmp_path, fake(tmp_path / "packaged"))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(find_anvil())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [in_cache(tmp_path)] * 3
    calls = (tmp_path / "npm-calls").read_text().splitlines()
    assert len(calls) == 1
    assert calls[0].startswith("install --ignore-scripts ")
    assert calls[0].endswith(f" @foundry-rs/anvil@{anvil.VERSION}")
    assert f"installing anvil {anvil.VERSION}" in capsys.readouterr().err
    kept = sorted(path.name for path in (tmp_path / "cache" / "lockstep").iterdir())
    assert kept == [f"anvil-{anvil.VERSION}", f"anvil-{anvil.VERSION}.lock"]


def test_a_broken_cache_is_installed_again(tmp_path: Path) -> None:
    in_cache(tmp_path).parent.mkdir(parents=True)
    in_cache(tmp_path).write_text("cut off")
    fake_npm(tmp_path, fake(tmp_path / "packaged"))
    assert find_anvil() == in_cache(tmp_path)


@pytest.mark.parametrize(
    ("body", "message"),
    [("echo no network >&2; exit 7", r"status 7\): no network"), ('/bin/rm -r "$2/node_modules"', "has no binary for")],
)
def test_a_failed_install_leaves_nothing(tmp_path: Path, body: str, message: str) -> None:
    fake_npm(tmp_path, fake(tmp_path / "packaged"), body=body)
    with pytest.raises(MissingTool, match=message):
        find_anvil()
    assert [path.name for path in (tmp_path / "cache" / "lockstep").iterdir()] == [f"anvil-{anvil.VERSION}.lock"]


def test_an_installed_binary_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anvil, "_SHA256", {anvil._platform(): "00"})
    fake_npm(tmp_path, fake(tmp_path / "packaged"))
    with pytest.raises(MissingTool, match="its SHA-256 is"):
        find_anvil()
    assert not in_cache(tmp_path).exists()
