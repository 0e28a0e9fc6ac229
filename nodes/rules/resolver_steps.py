"""What the resolver's rule asks of its shell, and what the shell tells it again after a restart."""

from dataclasses import dataclass

from nodes.model.agglayer import NetworkId
from nodes.model.ids import Height
from nodes.model.verdict import Notice, RoundClosed, SignedNotice, SignedReport, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRound:
    """A round that is not the last: make durable, then tell every follower."""

    event: RoundClosed


@dataclass(frozen=True, slots=True, kw_only=True)
class SignVerdict:
    """Sign, make durable, then hand out. Verdicts come in the order in which they are to be kept."""

    verdict: Verdict
    encoded: bytes
    rounds: tuple[tuple[SignedReport, ...], ...]
    heads: tuple[tuple[NetworkId, bytes], ...]
    """Hash of the block after the height, of each rollup whose report counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNotice:
    """Sign, make durable, then submit to the sequencer until it is read back."""

    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class PostNotice:
    """A notice that is in the log begins to hold: tell every follower."""

    signed: SignedNotice
    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishEvidence:
    """A rollup signed what contradicts itself, and counts as silent for ever: make durable, then publish."""

    network_id: NetworkId
    detail: str
    reports: tuple[SignedReport, ...]
    """What it signed: the report that contradicts itself, or the two that contradict each other."""


Instruction = CloseRound | SignVerdict | LogNotice | PostNotice | PublishEvidence


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVerdict:
    """What `restore` needs of a verdict that was signed."""

    epoch: int
    height: Height
    hash: bytes
    heads: tuple[tuple[NetworkId, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNotice:
    """A notice that was read in the log."""

    signed: SignedNotice
    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRound:
    """A round that was closed, of the height that has no verdict yet."""

    epoch: int
    height: Height
    reports: tuple[SignedReport, ...]


Kept = KeptVerdict | KeptNotice | KeptRound
