"""What waits for one WebSocket: in order, bounded, and said so where it is too much."""

import asyncio

import pytest

from nodes.json_rpc.mailbox import Mailbox


async def test_a_mailbox_keeps_order_and_ends_when_it_is_full() -> None:
    box = Mailbox(max_messages=3, max_bytes=10)
    for message in (b"aaaa", b"bb", b"c"):
        box.put(message)
    assert not box.end_reason
    box.put(b"d")
    assert "too slow: 3 messages wait" in box.end_reason
    box.put(b"e")
    assert [await box.take() for _ in range(3)] == [b"aaaa", b"bb", b"c"]
    with pytest.raises(TimeoutError):  # nothing came after the end: what is missing is missing visibly
        await asyncio.wait_for(box.take(), 0.01)


async def test_a_mailbox_bounds_bytes_that_wait_and_not_one_answer() -> None:
    box = Mailbox(max_messages=3, max_bytes=10)
    box.put(bytes(100))
    assert not box.end_reason
    box.put(b"x")
    assert box.end_reason
