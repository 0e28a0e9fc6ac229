"""What a host and its divergence process say to each other: one JSON document per line, both ways.

A private language between two processes of one host and one build; nothing of it is stored or sent further.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from nodes.divergence.values import Block, Entry, Found
from nodes.model.execution import Status
from nodes.model.ids import Address, ChainId
from nodes.rules.footprint import Difference

MAX_LINE_BYTES = 256 * 1024 * 1024
"""A block of 4,096 payloads of 30 kB."""
ALL, SAMPLE = "all", "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A rollup that the process shall check."""

    rollup: str
    mode: str
    """`ALL` or `SAMPLE`."""
    chain_id: ChainId
    coinbase: Address
    gas_limit: int
    genesis: str
    genesis_hash: bytes
    engine_directory: str
    """Where the engine's socket is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One block to check."""

    rollup: str
    block: Block
    chosen: tuple[int, ...] = ()
    """With samples: which transactions."""
    senders: Mapping[int, Address] | None = None
    """With samples: who sent the chosen ones that were skipped; the engine's replay does not name them."""
    is_history: bool = False
    """From the journal, after a restart: executed to come to the present state; the engine has nothing of it."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a divergence process did for one rollup since it was opened."""

    checked: int = 0
    """Transactions executed again and compared, skipped ones included."""
    history: int = 0
    """Executed again without anything to compare with, after a restart."""
    missed: int = 0
    """Not compared: the engine had forgotten them, or was gone."""
    replaced: int = 0
    """Not compared: their block was replaced before its turn came."""
    waiting: int = 0
    """In the queue."""
    busy_ns: int = 0
    """CPU time of the second EVM."""
    differing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a divergence process says of one rollup."""

    rollup: str
    counts: Counts
    found: tuple[Found, ...] = ()
    samples_from: int = 0
    """From this height on only samples can be checked; 0 = not so."""
    reason: str = ""
    """Why that is so."""


def opening_line(opening: Opening) -> bytes:
    """The line of an opening."""
    return _line({"open": {name.name: _plain(getattr(opening, name.name)) for name in fields(opening)}})


def task_line(task: Task) -> bytes:
    """The line of a task."""
    block = task.block
    return _line(
        {
            "task": {
                "rollup": task.rollup,
                "height": block.height,
                "number": block.number,
                "hash": block.hash.hex(),
                "parent_hash": block.parent_hash.hex(),
                "timestamp_s": block.timestamp_s,
                "entries": [[entry.payload.hex(), int(entry.status)] for entry in block.entries],
                "hashes": [one.hex() for one in block.block_hashes],
                "chosen": list(task.chosen),
                "senders": {str(index): sender.hex() for index, sender in (task.senders or {}).items()},
                "is_history": task.is_history,
            }
        }
    )


def request_of(line: bytes) -> Opening | Task:
    """What a host said."""
    message = orjson.loads(line)
    if "open" in message:
        raw = message["open"]
        return Opening(
            **raw
            | {
                "coinbase": Address(bytes.fromhex(raw["coinbase"])),
                "genesis_hash": bytes.fromhex(raw["genesis_hash"]),
            }
        )
    raw = message["task"]
    return Task(
        rollup=raw["rollup"],
        block=Block(
            height=raw["height"],
            number=raw["number"],
            hash=bytes.fromhex(raw["hash"]),
            parent_hash=bytes.fromhex(raw["parent_hash"]),
            timestamp_s=raw["timestamp_s"],
            entries=tuple([Entry(bytes.fromhex(payload), Status(status)) for payload, status in raw["entries"]]),
            block_hashes=tuple([bytes.fromhex(one) for one in raw["hashes"]]),
        ),
        chosen=tuple(raw["chosen"]),
        senders={int(index): Address(bytes.fromhex(sender)) for index, sender in raw["senders"].items()},
        is_history=raw["is_history"],
    )


def report_line(report: Report) -> bytes:
    """The line of a report."""
    found = [
        [one.height, one.number, one.position, one.tx_hash.hex(), one.difference.address.hex(), *one.difference[1:],
         one.engine_footprint.hex(), one.checker_footprint.hex()]
        for one in report.found
    ]  # fmt: skip
    return _line(
        {
            "rollup": report.rollup,
            "counts": asdict(report.counts),
            "found": found,
            "samples_from": report.samples_from,
            "reason": report.reason,
        }
    )


def report_of(line: bytes) -> Report:
    """What a divergence process said."""
    message = orjson.loads(line)
    found = tuple(
        [
            Found(
                height, number, index, bytes.fromhex(tx_hash),
                Difference(Address(bytes.fromhex(address)), field, engine, checker),
                bytes.fromhex(ours), bytes.fromhex(theirs),
            )
            for height, number, index, tx_hash, address, field, engine, checker, ours, theirs in message["found"]
        ]
    )  # fmt: skip
    return Report(
        rollup=message["rollup"],
        counts=Counts(**message["counts"]),
        found=found,
        samples_from=message["samples_from"],
        reason=message["reason"],
    )


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _line(document: Any) -> bytes:
    return orjson.dumps(document) + b"\n"
