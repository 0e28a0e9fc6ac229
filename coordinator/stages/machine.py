"""What a run ran on: machine, versions, source commit. Read once; nothing of it is needed for a result to be right."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from nodes.evm.anvil import find_anvil
from nodes.model.errors import TestbedError
from nodes.telemetry.resources import usable_cores

ROOT = Path(__file__).resolve().parents[2]
_COMMAND_TIMEOUT_S = 10.0


def describe_machine() -> dict[str, Any]:
    """Cores, memory, kernel, processor and, where the firmware names it, the cloud."""
    return {
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "cpu": _cpu_name(),
        "cloud": _read(Path("/sys/class/dmi/id/sys_vendor")) or "unknown",
        "product": _read(Path("/sys/class/dmi/id/product_name")) or "unknown",
        "load_1m": os.getloadavg()[0],
    }


def describe_versions() -> dict[str, str]:
    """Every installed package, Python and anvil."""
    packages = {str(package.metadata["Name"]): package.version for package in metadata.distributions()}
    return {"python": platform.python_version(), "anvil": _anvil_version(), **dict(sorted(packages.items()))}


def source_commit() -> str:
    """The commit of the source tree, with `-dirty` where it was changed; `unknown` outside a repository."""
    commit = _output(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    if not commit:
        return "unknown"
    return commit + ("-dirty" if _output(["git", "-C", str(ROOT), "status", "--porcelain"]) else "")


def _anvil_version() -> str:
    try:
        text = _output([str(find_anvil()), "--version"])
    except TestbedError:
        return "unknown"
    match = re.search(r"\d+\.\d+\.\d+\S*", text)
    return match[0] if match else "unknown"


def _output(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()


def _cpu_name() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return match[1] if match else platform.processor() or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
