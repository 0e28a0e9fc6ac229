"""One node's trace, read as it grows: which record of a height stands after replays and reorgs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nodes.telemetry.events import (
    BlockReorged,
    CommitmentRaised,
    NodeRecovered,
    NodeStarted,
    ReaderStalled,
    ResourcesSampled,
)
from nodes.wire.trace_columns import (
    CutColumns,
    ExecutedColumns,
    Occurrence,
    ResolvedColumns,
    TraceItem,
    read_columns,
)

Kind = TypeVar("Kind")


@dataclass(slots=True)
class NodeTrace:
    """Records of one node, in the order it wrote them. Times are the node's own; tables apply the offsets."""

    node: str
    on_item: Callable[[TraceItem], None] = lambda item: None
    """Told of every record, also of those that do not count."""
    kind: str = ""
    """sequencer, rollup, agglayer, ...: from the node's first record."""
    boot_id: str = ""
    host: str = ""
    cuts: dict[int, CutColumns] = field(default_factory=dict)
    """By height. A height cut again after a crash, before anyone was told of the first cut, counts as cut again."""
    executed: dict[int, ExecutedColumns] = field(default_factory=dict)
    """By height: the first record, unless a reorg took it back."""
    counts: Callable[[ExecutedColumns], int] = lambda item: len(item.statuses) + len(item.drop_reasons)
    """How many legs of the load a record resolves; others may send transactions too."""
    executions: list[ExecutedColumns] = field(default_factory=list)
    """Every record, replays included."""
    commitments: list[tuple[int, int, int]] = field(default_factory=list)
    """(time, height, level)."""
    resources: list[tuple[int, ResourcesSampled]] = field(default_factory=list)
    stalls: list[tuple[int, ReaderStalled]] = field(default_factory=list)
    recoveries: list[tuple[int, NodeRecovered]] = field(default_factory=list)
    starts: list[tuple[int, NodeStarted]] = field(default_factory=list)
    reorgs: list[tuple[int, BlockReorged]] = field(default_factory=list)
    resolved: dict[int, ResolvedColumns] = field(default_factory=dict)
    """By height, of the newest epoch: the verdict as this node took it first."""
    noted: dict[type, list[tuple[int, Any]]] = field(default_factory=dict)
    """Everything else, by the type of the event: `of`."""
    conflicts: list[str] = field(default_factory=list)
    """Heights executed again with another result although nothing was reorged: a broken node."""
    legs_resolved: int = 0
    """Legs of the load at heights in `executed`, whatever became of them."""
    _counted: dict[int, int] = field(default_factory=dict)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """The next bytes of the file. Raises InvalidInput for bytes that are no trace."""
        data = self._rest + data
        consumed = 0
        for item, end in read_columns(data):
            consumed = end
            self._keep(item)
            self.on_item(item)
        self._rest = data[consumed:]

    def _keep(self, item: TraceItem) -> None:
        if isinstance(item, ExecutedColumns):
            self.executions.append(item)
            known = self.executed.setdefault(item.height, item)
            if known is item:
                self._counted[item.height] = self.counts(item)
                self.legs_resolved += self._counted[item.height]
            elif (known.hash, known.number) != (item.hash, item.number):
                self.conflicts.append(
                    f"{self.node} executed height {item.height} as {known.hash.hex()} and again as {item.hash.hex()}"
                )
        elif isinstance(item, ResolvedColumns):
            taken = self.resolved.get(item.height)
            # Told again after a restart; another block for the same height may come with a new epoch only.
            if taken is None or (taken.epoch, taken.block_hash) != (item.epoch, item.block_hash):
                self.resolved[item.height] = item
            if taken is not None and taken.epoch == item.epoch and taken.block_hash != item.block_hash:
                self.conflicts.append(
                    f"{self.node} resolved height {item.height} as {taken.block_hash.hex()} and again as "
                    f"{item.block_hash.hex()} in epoch {item.epoch}"
                )
        elif isinstance(item, CutColumns):
            known_cut = self.cuts.get(item.height)
            if known_cut is None or known_cut.hash != item.hash:
                self.cuts[item.height] = item
        else:
            self._keep_other(item)

    def _keep_other(self, item: Occurrence) -> None:
        at_ns, event = item
        if isinstance(event, CommitmentRaised):
            self.commitments.append((at_ns, event.height, int(event.level)))
        elif isinstance(event, ResourcesSampled):
            self.resources.append((at_ns, event))
        elif isinstance(event, NodeStarted):
            self.starts.append((at_ns, event))
            self.kind, self.boot_id, self.host = event.kind, event.boot_id, event.host
        elif isinstance(event, BlockReorged):
            self.reorgs.append((at_ns, event))
            for height in [height for height in self.executed if height > event.to_height]:
                del self.executed[height]
                self.legs_resolved -= self._counted.pop(height)
        elif isinstance(event, ReaderStalled):
            self.stalls.append((at_ns, event))
        elif isinstance(event, NodeRecovered):
            self.recoveries.append((at_ns, event))
        else:
            self.noted.setdefault(type(event), []).append((at_ns, event))

    def of(self, kind: type[Kind]) -> list[tuple[int, Kind]]:
        """(time, event) of every event of a type that has no list of its own, in the order of the trace."""
        return self.noted.get(kind, [])

    @property
    def unresolved(self) -> int | None:
        """The newest executed height with legs of the load whose verdict this node has not taken, or took on another
        block; None where there is no such height."""
        for height in sorted(self.executed, reverse=True):
            block = self.executed[height]
            # Heights of others, such as the oracle's notices, keep coming when the load is over.
            if not block.statuses or not self._counted.get(height):
                continue
            verdict = self.resolved.get(height)
            # Heights resolve in order, so that the newest one speaks for all.
            return None if verdict is not None and verdict.block_hash == block.hash else height
        return None
