"""One node's trace, read as it grows: which record of a height stands after replays and reorgs."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nodes.telemetry.events import (
    BlockReorged,
    CommitmentRaised,
    NodeRecovered,
    NodeStarted,
    ReaderStalled,
    ResourcesSampled,
)
from nodes.wire.trace_columns import CutColumns, ExecutedColumns, Occurrence, TraceItem, read_columns


@dataclass(slots=True)
class NodeTrace:
    """Records of one node, in the order it wrote them. Times are the node's own; tables apply the offsets."""

    node: str
    on_item: Callable[[TraceItem], None] = lambda item: None
    """Told of every record, also of those that do not count."""
    kind: str = ""
    """sequencer or rollup, from the node's first record."""
    boot_id: str = ""
    host: str = ""
    cuts: dict[int, CutColumns] = field(default_factory=dict)
    """By height. A height cut again after a crash, before anyone was told of the first cut, counts as cut again."""
    executed: dict[int, ExecutedColumns] = field(default_factory=dict)
    """By height: the first record, unless a reorg took it back."""
    executions: list[ExecutedColumns] = field(default_factory=list)
    """Every record, replays included."""
    commitments: list[tuple[int, int, int]] = field(default_factory=list)
    """(time, height, level)."""
    resources: list[tuple[int, ResourcesSampled]] = field(default_factory=list)
    stalls: list[tuple[int, ReaderStalled]] = field(default_factory=list)
    recoveries: list[tuple[int, NodeRecovered]] = field(default_factory=list)
    starts: list[tuple[int, NodeStarted]] = field(default_factory=list)
    reorgs: list[tuple[int, BlockReorged]] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    """Heights executed again with another result although nothing was reorged: a broken node."""
    legs_resolved: int = 0
    """Payloads of heights in `executed`, whatever became of them."""
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
                self.legs_resolved += len(item.statuses) + len(item.drop_reasons)
            elif (known.hash, known.number) != (item.hash, item.number):
                self.conflicts.append(
                    f"{self.node} executed height {item.height} as {known.hash.hex()} and again as {item.hash.hex()}"
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
                gone = self.executed.pop(height)
                self.legs_resolved -= len(gone.statuses) + len(gone.drop_reasons)
        elif isinstance(event, ReaderStalled):
            self.stalls.append((at_ns, event))
        elif isinstance(event, NodeRecovered):
            self.recoveries.append((at_ns, event))
