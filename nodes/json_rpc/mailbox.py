"""What waits to be sent to one WebSocket, bounded: who does not read is disconnected and told so."""

import asyncio
from collections import deque


class Mailbox:
    """Answers and notifications of one connection, in order."""

    def __init__(
        self, *, max_messages: int, max_bytes: int, advice: str = "reconnect, and read what was missed"
    ) -> None:
        """`advice` is for who read too slowly."""
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._advice = advice
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self.end_reason = ""
        """Why the connection must be closed; empty while it must not."""

    def put(self, message: bytes) -> None:
        """Queue a message; ends the connection where too much waits."""
        if self.end_reason:
            return
        # One answer may be larger than the bound; it is the waiting behind it that is bounded.
        is_full = self._messages and self._bytes + len(message) > self._max_bytes
        if is_full or len(self._messages) >= self._max_messages:
            self.end(f"too slow: {len(self._messages)} messages wait; {self._advice}")
            return
        self._messages.append(message)
        self._bytes += len(message)
        self._changed.set()

    def end(self, reason: str) -> None:
        """Close the connection for this reason, which its reader gets to see. The first one counts."""
        if not self.end_reason:
            self.end_reason = reason
            self._ended.set()

    async def take(self) -> bytes:
        """The next message."""
        while not self._messages:
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message

    async def wait_ended(self) -> None:
        """Until `end` was called."""
        await self._ended.wait()
