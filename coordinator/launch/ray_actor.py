"""A node process inside Ray: a plain class that the launcher wraps. Ray appears only where it must be asked something.

Failures travel as text, because an exception of ours need not survive pickling. A host that breaks after it was usable
ends its process, so that Ray starts it again with the same config, directory and ports; one that never becomes usable
says why and stays, because starting it again would only fail again.
"""

import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nodes.host import Host, collect_garbage_rarely, reserve_address
from nodes.model.config import HostConfig, HostReady
from nodes.model.errors import TestbedError

LOG_FILE = "host.log"
BUNDLED_ENGINE = Path("bin") / "anvil"
"""Where the launcher puts the engine inside the code it ships; relative to the working directory Ray unpacks it to."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where an actor came to stand."""

    host: str
    """Address of its machine inside the cluster."""
    directory: str
    """Absolute, on that machine."""
    reserved: tuple[str, ...]
    """host:port of each address that was to be reserved, in the same order."""
    engine_path: str
    """The engine that was shipped with the code; empty where none was."""


class HostActor:
    """One host. `run` is the long call that Ray repeats on a restarted process."""

    def __init__(self, *, owns_process: bool = False) -> None:
        """`owns_process`: nothing else runs here, so that the process may be tuned for the nodes."""
        if owns_process:
            collect_garbage_rarely()
        self._host: Host | None = None
        self._begun = asyncio.Event()
        self._stopped = False

    async def prepare(self, directory: str, *, reserve: Sequence[tuple[str, str]], host: str) -> Placed:
        """Make the nodes' folder, and reserve addresses in it: (node, use) each.

        `host` is the address to listen on; empty = the one by which Ray knows this machine.
        """
        folder = _made(directory)
        host = host or _own_address()
        return Placed(
            host=host,
            directory=str(folder),
            reserved=tuple(reserve_address(folder, node, host=host, use=use) for node, use in reserve),
            engine_path=_bundled_engine(),
        )

    async def run(self, config: HostConfig) -> str:
        """Run a host until it is stopped; why it could not, or nothing."""
        if self._stopped:
            return ""
        _log_to(Path(config.directory) / config.name)
        host = self._host = Host(config)
        self._begun.set()
        try:
            await host.run()
        except TestbedError as error:
            reason = str(error)
        # A bug in a node: its process is ended or reported like any other failure, with the whole trace.
        except Exception:  # noqa: BLE001
            reason = traceback.format_exc()
        else:
            return ""
        _LOG.error("host %s broke: %s", config.name, reason)
        if host.was_usable:
            sys.stderr.write(reason + "\n")
            sys.stderr.flush()
            os._exit(1)
        return f"{config.name}: {reason}"

    async def wait_ready(self) -> HostReady | None:
        """The host's endpoints once all of its nodes are usable; nothing where `run` says why they are not."""
        await self._begun.wait()  # on a restarted process this call may be repeated before `run` is
        assert self._host is not None
        try:
            return await self._host.wait_ready()
        except TestbedError:
            return None

    async def stop(self) -> None:
        """Begin the orderly end, also before `run` came."""
        self._stopped = True
        if self._host is not None:
            self._host.stop()

    async def pid(self) -> int:
        """Process id of the present incarnation."""
        return os.getpid()

    async def broken_node(self) -> str:
        """The node that broke first in the present incarnation; empty while none has."""
        return "" if self._host is None else self._host.broken_node

    async def die(self) -> None:
        """SIGKILL to itself, where the coordinator cannot reach the process."""
        os.kill(os.getpid(), signal.SIGKILL)


def _made(directory: str) -> Path:
    folder = Path(directory).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _own_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def _bundled_engine() -> str:
    engine = BUNDLED_ENGINE.resolve()
    if not engine.is_file():
        return ""
    engine.chmod(0o755)  # Ray's packages do not keep it
    return str(engine)


def _log_to(directory: Path) -> None:
    """Warnings go to a file that outlives the process and Ray's own logs."""
    directory.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(directory / LOG_FILE, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
