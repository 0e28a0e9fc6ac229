"""A divergence process that is not there, and what it would find."""

from pathlib import Path

from nodes.divergence.client import DivergenceClient, Watch
from nodes.divergence.forms import Task
from nodes.divergence.values import Found
from nodes.model.ids import Address
from nodes.rules.footprint import Difference

FOUND = Found(9, 7, 1, b"\x01" * 32, Difference(Address(b"\x0a" * 20), "balance", "0x2", "0x1"), bytes(32), bytes(32))
"""A difference at height 9."""


class Client(DivergenceClient):
    """Keeps what it is sent."""

    def __init__(self, *, takes: bool = True) -> None:
        super().__init__(Path())
        self.watched: dict[str, Watch] = {}
        self.sent: list[Task] = []
        self.takes = takes

    def watch(self, rollup: str, watch: Watch) -> None:
        """Keep who watches."""
        self.watched[rollup] = watch

    def send(self, task: Task) -> bool:
        """Keep it, or refuse it."""
        if self.takes:
            self.sent.append(task)
        return self.takes

    async def drain(self) -> None:
        """Nothing waits."""
