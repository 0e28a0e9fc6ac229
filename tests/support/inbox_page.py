"""The tables of docs/inbox.md, recomputed from the code and measured on the SVM.

`python -m tests.support.inbox_page` writes them into the page, between its marks; the test compares.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from solders.keypair import Keypair
from solders.transaction_metadata import TransactionMetadata

from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import RpcError
from nodes.model.ids import LegHash, RollupId, rollup_id_of
from nodes.model.solana import PACKET_BYTES, Pubkey
from nodes.rules import inbox as codec
from nodes.solana.deploy import deploy_inbox
from nodes.solana.keypairs import base58, derived_keypair, key_of, keypair_from_bytes
from nodes.solana.program import (
    INBOX_ERRORS,
    LOADED_BYTES_LIMIT,
    MEMO_ID,
    Inbox,
    memo_cu_limit,
    memo_inbox,
    posting_call,
    posting_cu_limit,
    read_elf,
)
from nodes.solana.system_calls import BUFFER_HEAD_BYTES, PROGRAM_BYTES, PROGRAM_DATA_HEAD_BYTES, table_bytes
from nodes.solana.transactions import Budget, Call, LookupTable, draft, fee_lamports
from tests.support.inbox_svm import PROGRAM_ID, InboxSvm, address_of, solders_key
from tests.support.solana_chain import InProcessRpc, new_chain

PAGE = Path(__file__).parents[2] / "docs" / "inbox.md"
PAYER = Pubkey(b"\x01" * 32)
IDS = [rollup_id_of(number) for number in range(1, 17)]
COUNTS = (1, 2, 4, 8, 16)
LEG_BYTES = (110, 150, 250, 400)
PRICE_MICRO_LAMPORTS = 100_000
MIB = 1 << 20
INBOX = Inbox(
    program_id=PROGRAM_ID,
    accounts={rollup_id: address_of(rollup_id) for rollup_id in IDS},
    rollup_ids=tuple(IDS),
    lookup_table=None,
    origin_slot=memo_inbox((), origin_slot=0).origin_slot,
)
MEMOS = memo_inbox(IDS, origin_slot=0)
TABLE = LookupTable(Pubkey(b"\x0a" * 32), tuple(INBOX.accounts.values()))


def row(*cells: object) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |"


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([row(*head), row(*["---"] * len(head)), *rows])


def room(
    rollups: int,
    *,
    tables: Sequence[LookupTable] = (),
    inbox: Inbox = INBOX,
    rollup_ids: Sequence[RollupId] = tuple(IDS),
) -> int:
    """Most instruction data that a transaction with all limits and one posting takes, in bytes."""
    budget = Budget(cu_limit=1, cu_price_micro_lamports=1, loaded_bytes_limit=LOADED_BYTES_LIMIT)
    call = posting_call(PAYER, inbox, rollup_ids[:rollups], b"")._replace(data=b"")
    # Its length takes a second byte from 128 on, as all of these do.
    return PACKET_BYTES - draft(PAYER, [call], budget=budget, tables=tables).size - 1


def memo_room(rollups: int) -> int:
    """Most posting bytes that a memo takes."""
    length = room(0, inbox=MEMOS)
    return next(size for size in range(length, 0, -1) if len(codec.encode_memo(bytes(size), range(rollups))) <= length)


def bundle_bytes(leg_bytes: int) -> int:
    """Of an entry with two legs."""
    legs = tuple([Leg(rollup_id=IDS[i], payload=bytes(leg_bytes), leg_hash=LegHash(bytes(32))) for i in (0, 1)])
    return codec.entry_bytes(Bundle(version=1, expiry=0, legs=legs))


def units() -> str:
    svm = InboxSvm(rollups=16)

    def used(rollup_ids: Sequence[RollupId], data: bytes) -> int:
        outcome = svm.post(data, rollup_ids)
        assert isinstance(outcome, TransactionMetadata), outcome
        return outcome.compute_units_consumed()

    init = svm.init(rollup_id_of(77))
    assert isinstance(init, TransactionMetadata)
    rows = [row("INIT, with the transfer of its rent", 1, "-", init.compute_units_consumed())]
    for rollups, length in [(1, 12), (1, 100), (1, 500), (1, 900), (2, 900), (4, 800), (8, 650), (16, 350)]:
        rows.append(row("POST", rollups, length, used(svm.rollup_ids[:rollups], codec.post([bytes(length)]))))
    rows.append(row("COMMIT", 2, "-", used(svm.rollup_ids[:2], codec.commit(b"", chunks=2))))
    rows.append(row("CHUNK", 0, 900, used([], codec.chunks_of(bytes(900), size=900)[0])))
    memo = svm.send([Call(MEMO_ID, (), b"a" * 900)])
    assert isinstance(memo, TransactionMetadata)
    rows.append(row("memo, with LiteSVM's p-memo", "-", 900, memo.compute_units_consumed()))
    return table(("instruction", "rollups", "bytes posted", "compute units"), rows)


def errors() -> str:
    return table(("code", "what it says"), [row(str(code), text) for code, text in sorted(INBOX_ERRORS.items())])


def packing() -> str:
    kinds: list[tuple[str, tuple[LookupTable, ...]]] = [("legacy", ()), ("lookup table", (TABLE,))]
    rows = [row("instruction data, bytes", kind, *[room(k, tables=t) for k in COUNTS]) for kind, t in kinds]
    for leg_bytes in LEG_BYTES:
        size = bundle_bytes(leg_bytes)
        for kind, tables in kinds:
            fit = [(room(k, tables=tables) - codec.POST_HEAD_BYTES) // size for k in COUNTS[1:]]
            rows.append(row(f"two legs of {leg_bytes} B ({size} B an entry)", kind, "-", *fit))
    rows.append(row("in a memo: posting bytes", "legacy", *[memo_room(k) for k in COUNTS]))
    return table(("", "transaction", *[f"{k} rollup{'s' * (k > 1)}" for k in COUNTS]), rows)


def capacity() -> str:
    overhead = bundle_bytes(1) - 2
    rows = [
        row("largest plain payload of one POST", room(1) - codec.POST_HEAD_BYTES - 5),
        row("largest sum of two payloads of a bundle in one POST", room(2) - codec.POST_HEAD_BYTES - overhead),
        row("bytes of an entry in one CHUNK", room(0) - codec.CHUNK_HEAD_BYTES),
        row("largest plain payload of one memo", memo_room(1) - codec.POST_HEAD_BYTES - 5),
    ]
    return table(("", "bytes"), rows)


def costs() -> str:
    """Lamports of one transaction for each kind, for one bundle and for one MiB of what is posted."""
    rows = []
    bundle = bundle_bytes(150)

    def add(name: str, posted: int, cu_limit: int, bundles: int) -> None:
        cells: list[object] = [name, cu_limit]
        for price in (0, PRICE_MICRO_LAMPORTS):
            fee = fee_lamports(Budget(cu_limit=cu_limit, cu_price_micro_lamports=price))
            cells += [f"{fee / bundles:,.0f}" if bundles else "-", f"{-(-MIB // posted) * fee / 1e9:.4f}"]
        rows.append(row(*cells))

    for name, rollups, tables in [("POST, legacy", 2, ()), ("POST, lookup table", 16, (TABLE,))]:
        data = room(rollups, tables=tables)
        posted = data - codec.POST_HEAD_BYTES
        add(f"{name}, {rollups} rollups", posted, posting_cu_limit(data, rollups=rollups), posted // bundle)
    chunk = room(0)
    add("CHUNK", chunk - codec.CHUNK_HEAD_BYTES, posting_cu_limit(chunk, rollups=0), 0)
    posted = memo_room(2) - codec.POST_HEAD_BYTES
    add("memo, 2 rollups", posted, memo_cu_limit(room(0, inbox=MEMOS)), posted // bundle)
    price = f"at {PRICE_MICRO_LAMPORTS:,}"
    head = (
        "transaction",
        "unit limit",
        "lamports a bundle",
        "SOL a MiB",
        f"lamports a bundle {price}",
        f"SOL a MiB {price}",
    )
    return table(head, rows)


def rents() -> str:
    svm = InboxSvm()
    elf = {version: len(read_elf(version)) for version in ("v3", "v0")}
    sizes = [("account of a rollup", codec.STATE_BYTES), ("program", PROGRAM_BYTES)]
    for version, length in elf.items():
        sizes.append((f"data of the program, {version}", PROGRAM_DATA_HEAD_BYTES + length))
    sizes.append(("buffer while deploying, v3 (given back)", BUFFER_HEAD_BYTES + elf["v3"]))
    sizes += [(f"lookup table of {count} accounts", table_bytes(count)) for count in (5, 256)]
    rows = [row(name, size, svm.svm.minimum_balance_for_rent_exemption(size)) for name, size in sizes]
    return table(("account", "bytes", "lamports"), rows)


class _Counting(InProcessRpc):
    """Counts what is sent."""

    sends = 0

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        self.sends += sum([method == "sendTransaction" for method, _ in requests])
        return await super().batch(requests)


def deployment() -> str:
    """Over the dev node's RPC, through its loader."""
    payer = keypair_from_bytes(b"\x31" * 32)
    rows = []
    for rollups in (4, 64, 1_024):
        rpc = _Counting(new_chain())
        rpc.chain.airdrop(solders_key(key_of(payer)), 10**11)
        rpc.tick(4)
        before = rpc.ask("getBalance", base58(key_of(payer)), {"commitment": "processed"})["value"]
        first = rpc.chain.slot("processed")
        asyncio.run(_deploy(rpc, payer, rollups))
        spent = before - rpc.ask("getBalance", base58(key_of(payer)), {"commitment": "processed"})["value"]
        rows.append(row(rollups, rpc.sends, rpc.chain.slot("processed") - first, f"{spent / 1e9:.4f}"))
    return table(("rollups", "transactions", "slots", "SOL, rent included"), rows)


async def _deploy(rpc: InProcessRpc, payer: Keypair, rollups: int) -> None:
    async def tick() -> None:
        rpc.tick()

    ids = [rollup_id_of(number) for number in range(1, rollups + 1)]
    program = derived_keypair(payer, "inbox")
    with TemporaryDirectory() as folder:
        record = Path(folder, "table.json")
        await deploy_inbox(rpc, payer, ids, program_keypair=program, lookup_table_record=record, tick=tick)


TABLES: dict[str, Callable[[], str]] = {
    "units": units,
    "errors": errors,
    "packing": packing,
    "capacity": capacity,
    "costs": costs,
    "rents": rents,
    "deployment": deployment,
}


def found_in(page: str) -> dict[str, str]:
    """The tables that stand in the page, by name."""
    return dict(re.findall(r"<!-- table: (\w+) -->\n\n(.*?)\n\n<!-- end -->", page, re.DOTALL))


def rewritten(page: str) -> str:
    """The page with every table computed anew."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n\n).*?(\n\n<!-- end -->)",
        lambda match: match[1] + TABLES[match[2]]() + match[3],
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
