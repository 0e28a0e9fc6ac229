"""Where a sequencer finds its Solana: a dev node or Surfpool that it starts and that ends with it, or somebody's RPC.

Says where the RPC is and what may be asked of it. Does not know what is posted there.
"""

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from nodes.child_process import ChildProcess, start_tied
from nodes.model.errors import InvalidInput, MissingTool, Unavailable
from nodes.model.json_form import to_json
from nodes.model.solana import DEVNODE, SURFPOOL
from nodes.solana.devnode.config import INPUT_STATUS, DevnodeConfig
from nodes.solana.surfpool import surfpool_command

START_DEADLINE_S = 30.0
REPLAY_BYTES_PER_S = 1_000_000
"""What a dev node replays of its ledger at the very least; a quiet core does ten times as much."""
STOP_DEADLINE_S = 5.0
_CONFIG_FILE = "devnode.json"
_LOG_FILE = "solana.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class SolanaEndpoint:
    """An RPC that answers, or soon will."""

    kind: str
    """DEVNODE, SURFPOOL, or the host of a URL."""
    rpc_url: str
    ws_url: str
    pid: int = 0
    """Of the process that this one started; 0 for somebody else's."""

    @property
    def can_airdrop(self) -> bool:
        """Lamports are to be had for the asking."""
        return self.kind in (DEVNODE, SURFPOOL)

    @property
    def is_devnode(self) -> bool:
        """It has the dev node's own methods: clock and faults."""
        return self.kind == DEVNODE


class SolanaProcess(ChildProcess):
    """A Solana node as a child of this process. Get it from `start_devnode` or `start_surfpool`."""

    def __init__(self, kind: str, process: asyncio.subprocess.Process, log: Path) -> None:
        super().__init__(f"the Solana {kind}", process, log)
        self._kind = kind
        self.endpoint = SolanaEndpoint(kind=kind, rpc_url="", ws_url="")

    @classmethod
    async def start_devnode(cls, config: DevnodeConfig) -> "SolanaProcess":
        """Start it, or go on where its ledger ends. Returns when it listens.

        Raises Unavailable with its output, InvalidInput where it says that its configuration or ledger is at fault.
        """
        directory = _prepared(Path(config.directory))
        path = directory / _CONFIG_FILE
        path.write_bytes(orjson.dumps(to_json(config)))
        kept_bytes = sum([file.stat().st_size for file in directory.iterdir()])
        return await cls._start(
            DEVNODE,
            [sys.executable, "-m", "nodes.solana.devnode", str(path)],
            directory,
            deadline_s=START_DEADLINE_S + kept_bytes / REPLAY_BYTES_PER_S,
        )

    @classmethod
    async def start_surfpool(cls, directory: Path, *, slot_ms: int) -> "SolanaProcess":
        """Start one. It keeps nothing: a chain ends with its process. Raises Unavailable, MissingTool."""
        return await cls._start(SURFPOOL, surfpool_command(slot_ms=slot_ms), _prepared(directory))

    @classmethod
    async def _start(
        cls, kind: str, command: list[str], directory: Path, *, deadline_s: float = START_DEADLINE_S
    ) -> "SolanaProcess":
        log = directory / _LOG_FILE
        with log.open("ab") as output:
            try:
                process = await start_tied(command[0], command[1:], output, stdout=asyncio.subprocess.PIPE)
            except OSError as error:
                raise MissingTool(f"{command[0]} cannot be started for the Solana {kind}: {error}") from error
        started = cls(kind, process, log)
        try:
            await started._listen(deadline_s)
        except BaseException:
            await started.stop()
            raise
        return started

    async def _listen(self, deadline_s: float) -> None:
        """Read the line by which the process says where it listens."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(deadline_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise Unavailable(f"{self.describe()} did not listen within {deadline_s:.0f} s") from None
        try:
            said = orjson.loads(line)
            self.endpoint = SolanaEndpoint(
                kind=self._kind, rpc_url=said["rpc_url"], ws_url=said["ws_url"], pid=self.pid
            )
        except (ValueError, KeyError, TypeError):
            with contextlib.suppress(TimeoutError):  # it is likely to be on its way out; its status says more
                async with asyncio.timeout(STOP_DEADLINE_S):
                    await self._process.wait()
            if self._kind == DEVNODE and self._process.returncode == INPUT_STATUS:
                raise InvalidInput(f"{self.describe()} starting it again changes nothing") from None
            raise Unavailable(f"{self.describe()} did not say where it listens, but {line[:200]!r}") from None

    async def wait_ended(self) -> str:
        """Wait until the process has ended; how it did, in words."""
        assert self._process.stdout is not None
        while await self._process.stdout.readline():
            pass  # nothing is expected there any more, and a full pipe would stop it
        return await super().wait_ended()

    async def stop(self) -> None:
        """End the process in order, and hard where it takes too long."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        await self.end_within(STOP_DEADLINE_S)


def _prepared(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
