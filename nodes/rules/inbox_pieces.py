"""Chunks that wait for their COMMIT, as every reader keeps them. Pure.

A place is one of a payer: a chunk fills the place of whoever signed it, and a COMMIT takes chunks of its own payer
only. So nobody occupies, spoils or releases what is somebody else's. A chunk that comes again is new again.
"""

from collections.abc import Iterable
from typing import NamedTuple

from nodes.model.solana import Pubkey
from nodes.rules.inbox import Commit

CHUNK_BLOCKS_MAX = 600
"""Block heights a chunk waits for its COMMIT: four lives of a blockhash."""
CHUNK_BYTES_MAX = 32 * 1024 * 1024
"""Of chunks kept, with CHUNK_OVERHEAD_BYTES for each; beyond, the oldest are forgotten. A rule, not a setting: all
readers forget the same ones."""
CHUNK_OVERHEAD_BYTES = 256


class Piece(NamedTuple):
    """A chunk that waits for its COMMIT."""

    payer: Pubkey
    """Who signed for it."""
    digest: bytes
    place: int
    data: bytes
    block_height: int
    """Of the newest Solana block that holds it."""


class PieceMemory:
    """The chunks of all payers, in order of arrival."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces = {(piece.payer, piece.digest, piece.place): piece for piece in pieces}
        self._bytes = sum([_kept_bytes(piece) for piece in self._pieces.values()])
        self._kept: tuple[Piece, ...] | None = None
        """As a snapshot has them; None since they changed."""

    def kept(self) -> tuple[Piece, ...]:
        """All of them; the same value while nothing changes."""
        if self._kept is None:
            self._kept = tuple(self._pieces.values())
        return self._kept

    def keep(self, piece: Piece) -> bool:
        """The newest of a place counts, as the newest of all; whether the place held other bytes before."""
        key = (piece.payer, piece.digest, piece.place)
        before = self._pieces.get(key)
        if before is not None:
            self._forget(key)
        self._pieces[key] = piece
        self._kept = None
        self._bytes += _kept_bytes(piece)
        return before is not None and before.data != piece.data

    def trim(self) -> int:
        """Forget the oldest beyond CHUNK_BYTES_MAX; how many."""
        count = 0
        while self._bytes > CHUNK_BYTES_MAX:
            self._forget(next(iter(self._pieces)))
            count += 1
        return count

    def forget_old(self, block_height: int) -> None:
        """Those that a COMMIT at this block height cannot take."""
        while self._pieces:
            key, oldest = next(iter(self._pieces.items()))
            if oldest.block_height + CHUNK_BLOCKS_MAX >= block_height:
                return
            self._forget(key)

    def joined(self, payer: Pubkey, commit: Commit) -> bytes | None:
        """What the payer's chunks give; None where one is missing. They stay until they are old."""
        pieces = [self._pieces.get((payer, commit.digest, place)) for place in range(commit.chunks)]
        found = [piece.data for piece in pieces if piece is not None]
        return b"".join(found) if found and len(found) == len(pieces) else None

    def _forget(self, key: tuple[Pubkey, bytes, int]) -> None:
        self._bytes -= _kept_bytes(self._pieces.pop(key))
        self._kept = None


def _kept_bytes(piece: Piece) -> int:
    return len(piece.data) + CHUNK_OVERHEAD_BYTES
