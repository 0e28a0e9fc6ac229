"""What a rollup node needs of its engine beyond executing: a process that can end, and be told to."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from nodes.model.ids import Address
from nodes.ports import ExecutionEngine


class EngineProcess(ExecutionEngine, Protocol):
    """A running engine."""

    @property
    def pid(self) -> int:
        """Process id; 0 where the engine is no process."""
        ...

    def kill(self) -> None:
        """End it by SIGKILL, now."""
        ...

    async def stop(self) -> None:
        """End it in order, and clear what it left. Idempotent, also after it ended by itself."""
        ...

    async def alter(self, account: Address, *, slot: bytes, add: int) -> None:
        """A fault: give the head another state than its block has. `slot` empty = the balance. Raises EngineFailure."""
        ...

    async def wait_ended(self) -> str:
        """Wait until the process has ended; how it did, in words."""
        ...


StartEngine = Callable[[bytes | None], Awaitable[EngineProcess]]
"""Start an engine at genesis (None) or at a dumped state. Raises EngineFailure, MissingTool."""
