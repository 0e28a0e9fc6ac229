"""Where the anvil binary comes from: an installed one, or the pinned npm package in the user's cache.

Knows versions, places and npm; starting a process is `nodes.evm.anvil_process`. Only 1.7.x is taken: gas rules, dump
format and trace format are part of what replicas must agree on, and another minor version may change any of them
without saying so. All 1.7 releases share them.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodes.model.errors import InvalidInput, MissingTool

VERSION = "1.7.1"
"""What is installed when nothing compatible is found; the same as in package.json."""
PACKAGE = "@foundry-rs/anvil"
_COMPATIBLE = re.compile(r"1\.7\.\d+(?:-\S+)?")
_SHA256 = {"linux-amd64": "10c1c727d6c1de973aeb160e59875b9a9a23464d6e74149ee8abb30b3500311b"}
"""Of the binary in the platform's package, where it was checked. npm checks its own hash of every package besides."""
_LEAST_BYTES = 4 * 1024 * 1024
"""A native anvil has 40 MB; the launcher script that npm links under the same name has 4 kB."""
VERSION_DEADLINE_S = 60.0
INSTALL_DEADLINE_S = 300.0


def find_anvil(explicit: str = "") -> Path:
    """The anvil binary to run. Blocking; may install, which takes seconds and prints a line.

    Taken is the first of: `explicit`, $LOCKSTEP_ANVIL, `anvil` on PATH, node_modules of the repository, the user's
    cache, a fresh install into that cache. A binary that was named must do: InvalidInput says what is wrong with it.
    One that was merely found is passed over. Raises MissingTool when there is neither a usable anvil nor npm.
    """
    for source, name in (("the configured anvil", explicit), ("LOCKSTEP_ANVIL", os.environ.get("LOCKSTEP_ANVIL", ""))):
        if name:
            flaw = _flaw(Path(name).expanduser())
            if flaw:
                raise InvalidInput(
                    f"{source} is {name!r}, but {flaw}; name a native anvil 1.7.x, for example {VERSION}"
                )
            return Path(name).expanduser().resolve()
    passed_over = []
    for candidate in _candidates():
        flaw = _flaw(candidate)
        if not flaw:
            return candidate.resolve()
        passed_over.append(f"{candidate} was passed over: {flaw}")
    return _install(passed_over)


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("anvil")
    if on_path:
        yield Path(on_path)
    for folder in (Path(__file__).resolve().parents[2], _cache_folder()):
        binary = _binary_under(folder)
        if binary.exists():
            yield binary


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "lockstep" / f"anvil-{VERSION}"


def _platform() -> str:
    machine = platform.machine().lower()
    return f"{sys.platform}-{({'x86_64': 'amd64', 'aarch64': 'arm64'}).get(machine, machine)}"


def _binary_under(folder: Path) -> Path:
    return folder / "node_modules" / f"{PACKAGE}-{_platform()}" / "bin" / "anvil"


def _flaw(binary: Path) -> str:
    """Why a binary cannot be used; empty where it can."""
    if not binary.is_file():
        return "there is no such file"
    if not os.access(binary, os.X_OK):
        return "it is not executable"
    size_bytes = binary.stat().st_size
    if size_bytes < _LEAST_BYTES:
        # npm's launcher would run anvil as a grandchild, which survives its node.
        return f"it has {size_bytes:,} bytes, so it is a launcher script or a broken download"
    try:
        answer = subprocess.run(
            [str(binary), "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=VERSION_DEADLINE_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be run ({error})"
    found = re.search(r"anvil Version: (\S+)", answer.stdout)
    if answer.returncode or found is None:
        return f"`--version` answered {(answer.stdout or answer.stderr).strip()[:100]!r}"
    if not _COMPATIBLE.fullmatch(found[1]):
        return f"it has version {found[1]}, and only 1.7.x is known to agree with the other nodes on every block"
    return ""


def _install(passed_over: list[str]) -> Path:
    """Install the pinned package into the user's cache; one process does, the others wait for it."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingTool(
            "Lockstep needs anvil 1.7.x and found neither it nor npm. Either install Node.js 20 or newer with npm "
            f"(anvil is then installed from the package {PACKAGE} {VERSION}), or install Foundry {VERSION} and put "
            "anvil on PATH, or set LOCKSTEP_ANVIL to the binary." + "".join(f"\n{line}" for line in passed_over)
        )
    target = _cache_folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(target.name + ".lock")):
        binary = _binary_under(target)
        if not binary.exists() or _flaw(binary):
            for line in passed_over:
                print(line, file=sys.stderr)  # noqa: T201 - see below
            # The first use may take half a minute, and there is no terminal layer below the command to say so.
            print(f"installing anvil {VERSION} into {target} (once)", file=sys.stderr, flush=True)  # noqa: T201
            _install_into(target, npm)
    return _binary_under(target).resolve()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by a crash
        yield


def _install_into(target: Path, npm: str) -> None:
    staging = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
    try:
        _run_npm(npm, staging)
        binary = _binary_under(staging)
        if not binary.exists():
            raise MissingTool(
                f"the package {PACKAGE} {VERSION} has no binary for {_platform()}; build anvil 1.7.x from "
                "source and set LOCKSTEP_ANVIL to it"
            )
        flaw = _flaw(binary) or _hash_flaw(binary)
        if flaw:
            raise MissingTool(f"npm installed {PACKAGE} {VERSION}, but {flaw}; set LOCKSTEP_ANVIL to an anvil 1.7.x")
        if target.exists():  # an install that became unusable
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _run_npm(npm: str, staging: Path) -> None:
    # Scripts are not needed (the binary is in the platform's own package), so none is run.
    command = [
        npm,
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        "--prefix",
        str(staging),
    ]
    try:
        done = subprocess.run(
            [*command, f"{PACKAGE}@{VERSION}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_DEADLINE_S,
            stdin=subprocess.DEVNULL,
            cwd=staging,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingTool(
            f"anvil could not be installed by {npm}: {error}; set LOCKSTEP_ANVIL to an anvil 1.7.x"
        ) from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()[-500:]
        raise MissingTool(
            f"anvil could not be installed by npm (status {done.returncode}): {reason}\n"
            "Check the network and npm's registry setting, or set LOCKSTEP_ANVIL to an anvil 1.7.x."
        )


def _hash_flaw(binary: Path) -> str:
    wanted = _SHA256.get(_platform())
    with binary.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return f"its SHA-256 is {found}, not {wanted}" if wanted and found != wanted else ""
