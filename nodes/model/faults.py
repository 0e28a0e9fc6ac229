"""Faults that a running node can be told to have, as typed data.

Who has a fault and when is the coordinator's business. Killing a whole process is not here: a process does not kill
itself on request, its launcher does.
"""

from dataclasses import dataclass
from enum import StrEnum

from nodes.model.ids import Height


class EvidenceKind(StrEnum):
    """The elements of a filtered block that a lying server can leave out, one by one."""

    LEAF = "leaf"
    """The audit path of the reader's own leaf, and of every sibling's."""
    SIBLING = "sibling"
    """All evidence about siblings, their leaves included."""
    PAYLOAD = "payload"
    """Sibling payloads."""
    ROW = "row"
    """Sibling rows."""
    IDS = "ids"
    """The list of all rollup ids of the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillEngine:
    """A rollup node's engine process ends by SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewind:
    """A rollup node goes back to a sequenced height and follows again from there."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class WithholdEvidence:
    """A sequencer leaves one kind of evidence out of the next blocks that it serves, whoever reads them."""

    kind: EvidenceKind
    blocks: int
    """Blocks served without it, counted over all readers; u32, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A sequencer abandons all blocks above a height and continues on another branch. Refused below the firm height
    unless the backend says otherwise.
    """

    height: Height


Fault = KillEngine | Rewind | WithholdEvidence | Fork
