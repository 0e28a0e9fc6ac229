"""Surfpool: an independent Solana node from an npm package, run by node. Knows how to find both and what to start.

It serves ordinary JSON-RPC and has no forks, skipped slots or faults; what differs from a real node is listed in
`tests/support/solana_clients/quirks.py`.
"""

import platform
import shutil
import sys
from pathlib import Path

from nodes.model.errors import InvalidInput, MissingTool

PACKAGE = "@solana/surfpool-linux-x64-gnu"
VERSION = "1.5.0"
"""The one in package.json; the only one that these tests know."""
PAYER_LAMPORTS = 1_000_000_000_000
_WRAPPER = "surfpool.cjs"
_MAX_SLOT_MS = 60_000


def surfpool_command(*, slot_ms: int) -> list[str]:
    """The command of a Surfpool on free ports, its program by absolute path.

    The process prints one line of JSON on stdout once it listens: `rpc_url`, `ws_url`, `payer` (base58), `payer_secret`
    (64 numbers) and `pid`. Start it with `nodes.child_process.start_tied`; SIGTERM ends it in order.
    Raises MissingTool where node or the package is missing.
    """
    if not 1 <= slot_ms <= _MAX_SLOT_MS:
        raise InvalidInput(f"Surfpool: slot time is {slot_ms:,} ms, but must be between 1 and {_MAX_SLOT_MS:,} ms")
    package, node = find_package(), shutil.which("node")
    if node is None:
        raise MissingTool(
            "Surfpool runs in node, which is not on PATH; install Node.js 20 or newer, or use the dev node"
        )
    wrapper = Path(__file__).with_name(_WRAPPER)
    return [str(Path(node).resolve()), str(wrapper), str(package), str(slot_ms), str(PAYER_LAMPORTS)]


def find_package() -> Path:
    """The folder of the installed package. Raises MissingTool."""
    system, machine = sys.platform, platform.machine().lower()
    if system != "linux" or machine not in ("x86_64", "amd64"):
        raise MissingTool(
            f"Surfpool's package {PACKAGE} is for Linux on x86-64, and this is {system} on {machine}; use the dev node"
        )
    for folder in Path(__file__).resolve().parents[2], Path.cwd():
        found = folder / "node_modules" / PACKAGE
        if (found / "package.json").is_file():
            return found.resolve()
    raise MissingTool(
        f"Surfpool's package {PACKAGE} {VERSION} is not installed; run `npm ci` in the repository, or use the dev node"
    )
