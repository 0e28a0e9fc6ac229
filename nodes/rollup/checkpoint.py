"""Checkpoints of a rollup node: engine state, replay window and the place on the sequencer's chain, one file each.

A file `<height>.checkpoint` is `digest 32 | u32 length of the head | head (JSON) | bundle hashes | engine state`. It is
written under another name and renamed; by its digest one that is damaged is told from a good one, and the next older
one is used. Genesis is a checkpoint that needs no file. Nothing is fsynced, for the reason given in `journal`.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from nodes.model.errors import InvalidInput
from nodes.model.ids import HASH_BYTES, HeaderHash, Height
from nodes.model.sequenced_block import BlockRef
from nodes.telemetry.crash import CrashPoint, no_crash

KEPT_CHECKPOINTS = 3
_LENGTH = struct.Struct(">I")
_DIGEST_BYTES = 32
_FORMAT = 1
_SUFFIX = ".checkpoint"
_UNFINISHED = ".unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything a node needs to go on from a height."""

    ref: BlockRef
    """The sequenced block executed last."""
    time_ns: int
    """Its time; 0 at genesis."""
    number: int
    """The rollup's head there."""
    hash: bytes
    timestamp_s: int
    """Of the rollup's head."""
    replay_window: tuple[tuple[int, tuple[bytes, ...]], ...]
    """`nodes.rules.derivation.Derivation.snapshot`."""
    state: bytes | None
    """What the engine dumped; None at genesis."""


def encode(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint file."""
    assert checkpoint.state is not None, "genesis is not written"
    head = orjson.dumps(
        {
            "format": _FORMAT,
            "height": checkpoint.ref.height,
            "header_hash": checkpoint.ref.hash.hex(),
            "time_ns": checkpoint.time_ns,
            "number": checkpoint.number,
            "hash": checkpoint.hash.hex(),
            "timestamp_s": checkpoint.timestamp_s,
            "replay_window": [(height, len(hashes)) for height, hashes in checkpoint.replay_window],
        }
    )
    window = b"".join([b"".join(hashes) for _, hashes in checkpoint.replay_window])
    body = b"".join((_LENGTH.pack(len(head)), head, window, checkpoint.state))
    return hashlib.sha256(body).digest() + body


def decode(data: bytes) -> Checkpoint:
    """The checkpoint. Raises InvalidInput where the bytes are not a whole checkpoint of this format."""
    body = memoryview(data)[_DIGEST_BYTES:]
    if len(data) < _DIGEST_BYTES + _LENGTH.size or hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
        raise InvalidInput("the checkpoint is damaged: its digest does not match")
    (length,) = _LENGTH.unpack_from(body)
    head = orjson.loads(body[_LENGTH.size : _LENGTH.size + length])
    if head["format"] != _FORMAT:
        raise InvalidInput(f"the checkpoint has format {head['format']}; this build reads {_FORMAT}")
    at = _LENGTH.size + length
    replay_window = []
    for height, count in head["replay_window"]:
        stop = at + count * HASH_BYTES
        replay_window.append((height, tuple(bytes(body[i : i + HASH_BYTES]) for i in range(at, stop, HASH_BYTES))))
        at = stop
    return Checkpoint(
        ref=BlockRef(height=Height(head["height"]), hash=HeaderHash(bytes.fromhex(head["header_hash"]))),
        time_ns=head["time_ns"],
        number=head["number"],
        hash=bytes.fromhex(head["hash"]),
        timestamp_s=head["timestamp_s"],
        replay_window=tuple(replay_window),
        state=bytes(body[at:]),
    )


class CheckpointStore:
    """The checkpoint files of one node."""

    def __init__(self, directory: Path, *, crash: CrashPoint = no_crash) -> None:
        self._directory = directory
        self._crash = crash
        directory.mkdir(parents=True, exist_ok=True)
        for cut_short in directory.glob(f"*{_UNFINISHED}"):  # by a kill
            cut_short.unlink()

    def write(self, checkpoint: Checkpoint) -> int:
        """Keep a checkpoint, let the oldest beyond `KEPT_CHECKPOINTS` go, return its size in bytes. Blocking.

        Higher ones go as well: after a rewind they are of another branch, or are written again when it is their turn.
        """
        data = encode(checkpoint)
        path = self._directory / f"{checkpoint.ref.height}{_SUFFIX}"
        unfinished = path.with_suffix(_UNFINISHED)
        unfinished.write_bytes(data)
        self._crash("rollup.before_checkpoint")
        unfinished.replace(path)
        higher = [file for at, file in self._files() if at > checkpoint.ref.height]
        oldest = [file for at, file in self._files() if at <= checkpoint.ref.height][KEPT_CHECKPOINTS:]
        for old in higher + oldest:
            old.unlink()
        return len(data)

    def at_or_below(self, height: int | None) -> Iterator[tuple[Path, Checkpoint | InvalidInput]]:
        """Checkpoints of heights up to one (None: all), newest first; for a damaged one what is wrong with it."""
        for at, path in self._files():
            if height is not None and at > height:
                continue
            try:
                yield path, decode(path.read_bytes())
            except InvalidInput as error:
                yield path, error

    def _files(self) -> list[tuple[int, Path]]:
        files = [(int(path.stem), path) for path in self._directory.glob(f"*{_SUFFIX}") if path.stem.isdigit()]
        return sorted(files, reverse=True)
