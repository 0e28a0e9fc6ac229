"""The dev node's ledger: one append-only file from which a chain is made again by doing everything once more.

An entry is in the file (`os.write`) before anybody hears of what it says, so a killed process loses only the open slot.
It is not synced: a machine that loses power may lose the newest blocks of a development chain.

Format: a magic, then records of u32 length | u32 CRC-32 of the body | body (little endian). The body is one byte of
kind and the entry; the first record is the chain's configuration. A record that the file's end cuts short is of a
write that did not finish, and is cut off; one that is damaged elsewhere is an error.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import orjson

from nodes import node_file
from nodes.model.errors import InvalidInput
from nodes.model.json_form import from_json, to_json
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.values import ClockEntry, ExpireEntry, ForkEntry, LedgerEntry, SlotEntry, TimingEntry

LEDGER_FILE = "ledger"
LOCK_FILE = "lock"
_MAGIC = b"LSLEDGER\x01\x00\x00\x00"
_FRAME = struct.Struct("<II")
_SLOT = struct.Struct("<QQ32sI")
_LENGTH = struct.Struct("<I")
_MAX_RECORD_BYTES = 1 << 30
_READ_BYTES = 1 << 20

_CONFIG_KIND, _SLOT_KIND = 0, 1
_JSON_KINDS: dict[int, type[Any]] = {2: ForkEntry, 3: ExpireEntry, 4: TimingEntry, 5: ClockEntry}
_KIND_OF = {kind: number for number, kind in _JSON_KINDS.items()}
_IDENTITY = ("seed", "first_slot", "validators", "faucet_lamports", "is_v1_enabled")
"""Settings that cannot change during the life of a chain; `genesis_time_s` belongs to them where it is not 0."""


class Ledger:
    """The file, opened by one process. Close it."""

    def __init__(self, directory: Path, config: ChainConfig) -> None:
        """Open or create the ledger of a directory. `genesis_time_s` must not be 0 where it is created.

        Raises Unavailable where another process has it, InvalidInput where it is damaged or of another chain.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = node_file.lock(directory / LOCK_FILE)
        self.path = directory / LEDGER_FILE
        self.torn_bytes = 0
        """Cut off an unfinished record at the end, once `entries` was read to its end."""
        try:
            is_new = not self.exists(directory)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if is_new:
                assert config.genesis_time_s, "the time of genesis is decided by whoever creates the chain"
                self._write(_MAGIC + _framed(_CONFIG_KIND, orjson.dumps(to_json(config))))
            self.config = self._config_of(config)
        except BaseException:
            self._lock.close()
            raise

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether a chain was begun in a directory."""
        path = directory / LEDGER_FILE
        return path.exists() and path.stat().st_size > 0

    def entries(self) -> Iterator[LedgerEntry]:
        """What was recorded, oldest first; read it to its end before anything is recorded.

        Raises InvalidInput where the file is damaged.
        """
        with self.path.open("rb") as file:
            records = self._records(file)
            next(records)
            for kind, body in records:
                yield _entry_of(kind, body, self.path)

    def record(self, entry: LedgerEntry) -> None:
        """Append an entry. Raises OSError where the disk refuses it: the chain must not go on then."""
        if isinstance(entry, SlotEntry):
            self._write(_framed(_SLOT_KIND, _slot_to_bytes(entry)))
        else:
            self._write(_framed(_KIND_OF[type(entry)], orjson.dumps(to_json(entry))))

    def close(self) -> None:
        """Close file and lock."""
        os.close(self._file)
        self._lock.close()

    def _config_of(self, wanted: ChainConfig) -> ChainConfig:
        """The configuration to replay with: identity and first timing of the file, the rest as wanted now."""
        with self.path.open("rb") as file:
            first = next(self._records(file), None)
        if first is None or first[0] != _CONFIG_KIND:
            raise InvalidInput(f"{self.path} does not begin with a chain's configuration; delete it for a new chain")
        found = from_json(ChainConfig, orjson.loads(first[1]), where=str(self.path))
        names = _IDENTITY + (("genesis_time_s",) if wanted.genesis_time_s else ())
        for name in names:
            if getattr(found, name) != getattr(wanted, name):
                raise InvalidInput(
                    f"{self.path} is of a chain with {name} {getattr(found, name)}, this node has "
                    f"{getattr(wanted, name)}; give the node a directory of its own, or delete the old ledger"
                )
        return replace(wanted, genesis_time_s=found.genesis_time_s, timing=found.timing)

    def _records(self, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(_MAGIC)) != _MAGIC:
            raise InvalidInput(f"{self.path} is not a dev node's ledger of this version")
        offset = len(_MAGIC)
        while offset < size:
            frame = file.read(_FRAME.size)
            length, checksum = _FRAME.unpack(frame) if len(frame) == _FRAME.size else (0, 0)
            end = offset + _FRAME.size + length
            body = file.read(length) if 0 < length <= _MAX_RECORD_BYTES else b""
            if len(body) != length or not body or zlib.crc32(body) != checksum:
                if end < size and not self._is_zero_from(file, offset):
                    raise InvalidInput(
                        f"{self.path} is damaged at byte {offset:,} of {size:,}; "
                        "restore it, or delete it for a new chain"
                    )
                self._cut(offset, size)
                return
            yield body[0], body[1:]
            offset = end

    def _is_zero_from(self, file: IO[bytes], offset: int) -> bool:
        """Whether nothing but zeros follows: what a file system leaves of a write that a power cut ended."""
        file.seek(offset)
        while part := file.read(_READ_BYTES):
            if part.count(0) != len(part):
                return False
        return True

    def _cut(self, offset: int, size: int) -> None:
        os.ftruncate(self._file, offset)
        self.torn_bytes = size - offset

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]


def _framed(kind: int, payload: bytes) -> bytes:
    body = bytes((kind,)) + payload
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _slot_to_bytes(entry: SlotEntry) -> bytes:
    parts = [_SLOT.pack(entry.slot, entry.parent_slot, entry.blockhash, len(entry.transactions))]
    for raw in entry.transactions:
        parts += (_LENGTH.pack(len(raw)), raw)
    return b"".join(parts)


def _slot_from_bytes(payload: bytes) -> SlotEntry:
    slot, parent_slot, blockhash, count = _SLOT.unpack_from(payload)
    offset = _SLOT.size
    transactions = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(payload, offset)
        offset += _LENGTH.size
        transactions.append(payload[offset : offset + length])
        offset += length
    return SlotEntry(slot=slot, parent_slot=parent_slot, blockhash=blockhash, transactions=tuple(transactions))


def _entry_of(kind: int, payload: bytes, path: Path) -> LedgerEntry:
    if kind == _SLOT_KIND:
        return _slot_from_bytes(payload)
    if kind not in _JSON_KINDS:
        raise InvalidInput(f"{path} has an entry of kind {kind}, which this version does not know")
    entry: LedgerEntry = from_json(_JSON_KINDS[kind], orjson.loads(payload), where=str(path))
    return entry
