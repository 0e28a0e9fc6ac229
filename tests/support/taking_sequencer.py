"""A sequencer that keeps what it takes and orders nothing."""

import asyncio
from collections.abc import Sequence
from typing import Any

from nodes.model.ids import SubmissionHash
from nodes.ports import Ticket
from nodes.rules.hashes import sha256
from tests.support.patience import PATIENCE_S


class TakingSequencer:
    """`refusals` are raised one by one before anything is taken."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.refusals: list[Exception] = []
        self.has_refused = asyncio.Event()
        self._changed = asyncio.Condition()

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        if self.refusals:
            self.has_refused.set()
            raise self.refusals.pop(0)
        async with self._changed:
            new = [one for one in submissions if one not in self.taken]
            self.taken += new
            self._changed.notify_all()
        return [
            Ticket(submission_hash=SubmissionHash(sha256(one)), accepted=True, duplicate=one not in new, reason="")
            for one in submissions
        ]

    async def wait_taken(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.taken) >= count)

    def follow(self, *_arguments: Any) -> Any:
        raise NotImplementedError

    async def status(self) -> Any:
        raise NotImplementedError
