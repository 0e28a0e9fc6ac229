"""What the nodes of a running testnet say of themselves, as a table: heights, rates, queues, lag. For people only.

Polled once a second and kept nowhere; measurements come from traces.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.table import Table

from coordinator.launch import Endpoints
from nodes.ethereum.client import L1Client
from nodes.model.config import NodeEndpoint
from nodes.model.errors import TestbedError
from nodes.model.status import RollupStatus
from nodes.ports import SequencerStatus
from nodes.wire.control import ControlClient
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient

ANSWER_DEADLINE_S = 3.0
_RATE_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node at one moment; None where it has no such figure, or does not answer."""

    name: str
    kind: str
    address: str
    height: int | None = None
    block: int | None = None
    transactions_per_s: float | None = None
    pending: int | None = None
    lag: int | None = None
    """Sequenced heights behind the sequencer."""
    state: str = ""
    """ok, or what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherStatus:
    """Of a node that is neither sequencer nor rollup: it answers."""

    block: int | None = None
    """Head of an L1."""


KINDS = ("sequencer", "rollup", "l1", "agglayer", "attester", "builder")
"""Rows stand in this order."""
Answer = SequencerStatus | RollupStatus | OtherStatus


@dataclass(slots=True)
class RateMeter:
    """Transactions per second of each node over the last few seconds, from totals."""

    _samples: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def rate(self, node: str, *, total: int, now_s: float) -> float | None:
        """Take a total; the rate once two samples are known. A smaller total than before begins anew."""
        samples = self._samples.setdefault(node, [])
        if samples and total < samples[-1][1]:
            samples.clear()
        samples.append((now_s, total))
        while len(samples) > 2 and samples[0][0] < now_s - _RATE_WINDOW_S:
            samples.pop(0)
        (first_s, first), (last_s, last) = samples[0], samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None


class LiveView:
    """Asks every node of a testnet for its status. Use it in `async with`."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._nodes: list[NodeEndpoint] = [node for host in endpoints.hosts for node in host.nodes]
        self._nodes.sort(key=lambda node: (KINDS.index(node.kind), _natural(node.name)))
        self._control_addresses = {node.name: host.control_address for host in endpoints.hosts for node in host.nodes}
        self._ask_by_node: dict[str, Callable[[], Awaitable[Answer]]] = {}
        self._rates = RateMeter()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for node in self._nodes:
            self._ask_by_node[node.name] = await self._asker(node)
        return self

    async def _asker(self, node: NodeEndpoint) -> Callable[[], Awaitable[Answer]]:
        if node.kind == "sequencer":
            return (await self._stack.enter_async_context(SequencerClient(node.grpc_address))).status
        if node.kind == "rollup":
            return (await self._stack.enter_async_context(RollupClient(node.grpc_address))).status
        if node.kind == "l1":
            l1 = await self._stack.enter_async_context(L1Client(node.rpc_url, deadline_s=ANSWER_DEADLINE_S))

            async def ask_l1() -> Answer:
                return OtherStatus(block=(await l1.head()).number)

            return ask_l1
        control = await self._stack.enter_async_context(ControlClient(self._control_addresses[node.name]))

        async def ask_process() -> Answer:
            await control.wait_ready(timeout_s=ANSWER_DEADLINE_S)
            return OtherStatus()

        return ask_process

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def rows(self) -> list[NodeRow]:
        """One row per node, the sequencer first. A node that does not answer says so in its row."""
        answers = await asyncio.gather(*(self._ask(node) for node in self._nodes))
        heads = [answer.head.height for answer in answers if isinstance(answer, SequencerStatus)]
        now_s = time.monotonic()
        return [
            self._row(node, answer, head=max(heads, default=None), now_s=now_s)
            for node, answer in zip(self._nodes, answers, strict=True)
        ]

    async def _ask(self, node: NodeEndpoint) -> Answer | str:
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                return await self._ask_by_node[node.name]()
        except TimeoutError:
            return f"no answer within {ANSWER_DEADLINE_S:g} s"
        except TestbedError as error:
            return f"unreachable: {error}"

    def _row(self, node: NodeEndpoint, answer: Answer | str, *, head: int | None, now_s: float) -> NodeRow:
        address = node.grpc_address or node.rpc_url
        if isinstance(answer, str):
            return NodeRow(name=node.name, kind=node.kind, address=address, state=answer)
        if isinstance(answer, OtherStatus):
            return NodeRow(name=node.name, kind=node.kind, address=address, block=answer.block, state="ok")
        if isinstance(answer, SequencerStatus):
            return NodeRow(
                name=node.name,
                kind=node.kind,
                address=node.grpc_address,
                height=answer.head.height,
                pending=answer.pending_bundles,
                lag=answer.head.height - answer.firm_height,
                state="ok",
            )
        return NodeRow(
            name=node.name,
            kind=node.kind,
            address=node.rpc_url,
            height=answer.heads.height,
            block=answer.heads.latest.number,
            transactions_per_s=self._rates.rate(node.name, total=answer.transactions, now_s=now_s),
            pending=answer.pending_transactions,
            lag=None if head is None else max(0, head - answer.heads.height),
            state=f"stalled: {answer.stalled}" if answer.stalled else "ok",
        )


def _natural(name: str) -> tuple[int, str]:
    """rollup-10 after rollup-9."""
    return len(name.partition("-replica")[0]), name


def table_of(rows: Sequence[NodeRow], *, title: str = "") -> Table:
    """The rows for a terminal."""
    table = Table(title=title or None, title_justify="left")
    table.add_column("node")
    for heading in ("height", "block", "tx/s", "pending", "lag"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for row in rows:
        rate = "" if row.transactions_per_s is None else f"{row.transactions_per_s:,.0f}"
        figures = (row.height, row.block, rate, row.pending, row.lag)
        table.add_row(
            row.name,
            *("" if figure is None else f"{figure:,}" if isinstance(figure, int) else figure for figure in figures),
            row.state,
            style="" if row.state == "ok" else "yellow",
        )
    return table
