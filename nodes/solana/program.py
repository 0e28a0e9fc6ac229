"""The inbox program as its users see it: addresses, instructions, error codes, compute units, and which file to deploy.

The bytes of the instructions are `nodes.rules.inbox`. It sends nothing and signs nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nodes.model.errors import UnknownName
from nodes.model.ids import NOTICE_ROLLUP_ID, RollupId
from nodes.model.solana import Pubkey, Slot
from nodes.rules import inbox as codec
from nodes.solana.system_calls import SYSTEM_ID, derived_address, transfer_call
from nodes.solana.transactions import AccountUse, Call, LookupTable

MEMO_ID = Pubkey(bytes.fromhex("054a535a992921064d24e87160da387c7c35b5ddbc92bb81e41fa8404105448d"))
"""MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr."""

LOADED_BYTES_LIMIT = 32 * 1024
"""Enough for the program, a lookup table and as many rollups as a transaction may name; counts as 8 compute units."""

_CU_OF_POSTING = 259
_CU_OF_ROLLUP = 506
_CU_OF_CHUNK = 45
_CU_OF_BUDGET_CALL = 150
_CU_OF_MEMO = 20_000
_CU_OF_MEMO_BYTE = 400
_CU_LIMIT_MAX = 1_400_000
_SHA256_CU_MIN = 10
"""Hashing costs a unit for two bytes, and this much at least."""

_INBOX_DIRECTORY = Path(__file__).resolve().parent / "inbox"
ELF_FILES: Mapping[str, str] = {"v3": "inbox_v3.so", "v0": "inbox_v0.so"}
"""By version of SBPF. Version 0 is for chains on which version 3 is not active yet."""

INBOX_ERRORS: Mapping[int, str] = {
    100: "the instruction has an unknown tag",
    101: "the instruction has an unknown format",
    102: "the instruction data have a wrong length",
    103: "the first account is missing or has not signed",
    104: "no account of a rollup is given",
    105: "an account is given twice",
    106: "the account of a rollup is not writable",
    107: "an account is not owned by the inbox program; was the rollup initialized?",
    108: "an account is not the state of a rollup",
    109: "postings are taken from transactions only, not from other programs",
    110: "the account is not at the address of the rollup, or the bump is not its highest",
    111: "the rollup was initialized before",
}
"""Text by custom error code; the same codes stand in inbox.c."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """Where a testnet's postings stand on a Solana chain."""

    program_id: Pubkey
    """The inbox program, or SPL Memo in memo mode."""
    accounts: Mapping[RollupId, Pubkey]
    """The account of each rollup; empty in memo mode."""
    rollup_ids: tuple[RollupId, ...]
    """Of the testnet, ascending; memo mode counts them from 0."""
    lookup_table: LookupTable | None
    """Holds the first accounts of `rollup_ids`; None where it was not asked for."""
    origin_slot: Slot
    """What is posted counts from the next slot on: no account stands here yet, or, with memos, nobody started here."""
    is_memo: bool = False

    def rollups(self) -> Mapping[Pubkey, RollupId]:
        """Which rollup an account is."""
        return {account: rollup_id for rollup_id, account in self.accounts.items()}


def memo_inbox(rollup_ids: Collection[RollupId], *, origin_slot: int) -> Inbox:
    """An inbox without a program: postings are memos. `origin_slot` must be recorded by whoever starts the testnet."""
    ids = tuple(sorted({*rollup_ids, NOTICE_ROLLUP_ID}))
    return Inbox(
        program_id=MEMO_ID, accounts={}, rollup_ids=ids, lookup_table=None, origin_slot=Slot(origin_slot), is_memo=True
    )


def read_elf(version: str = "v3") -> bytes:
    """The committed program for SBPF `version`, a key of ELF_FILES. Raises UnknownName."""
    name = ELF_FILES.get(version)
    if name is None:
        raise UnknownName(kind="version of SBPF", name=version, known=ELF_FILES)
    return (_INBOX_DIRECTORY / name).read_bytes()


@lru_cache(maxsize=8192)
def inbox_address(program_id: Pubkey, rollup_id: RollupId) -> tuple[Pubkey, int]:
    """Account of a rollup, and its bump."""
    return derived_address(program_id, codec.SEED, rollup_id)


def init_calls(payer: Pubkey, program_id: Pubkey, rollup_id: RollupId, *, lamports: int) -> list[Call]:
    """Create the account of a rollup: pay `lamports` (its rent, see STATE_BYTES) to it, then INIT."""
    account, bump = inbox_address(program_id, rollup_id)
    accounts = (AccountUse(payer, is_signer=True, is_writable=True), AccountUse(account, is_writable=True))
    init = Call(program_id, (*accounts, AccountUse(SYSTEM_ID)), codec.init(rollup_id, bump=bump))
    if not lamports:
        return [init]
    return [transfer_call(payer, account, lamports=lamports), init]


def posting_call(payer: Pubkey, inbox: Inbox, rollup_ids: Sequence[RollupId], data: bytes) -> Call:
    """One POST, CHUNK or COMMIT with its data as `nodes.rules.inbox` encodes them; slots count `rollup_ids`.

    A CHUNK names no rollup. In memo mode the same data go into the text of a memo. Raises KeyError for a rollup that
    is not of the testnet.
    """
    if inbox.is_memo:
        indexes = [inbox.rollup_ids.index(rollup_id) for rollup_id in rollup_ids]
        return Call(inbox.program_id, (AccountUse(payer, is_signer=True),), codec.encode_memo(data, indexes))
    accounts = [AccountUse(payer, is_signer=True, is_writable=True)]
    accounts += [AccountUse(inbox.accounts[rollup_id], is_writable=True) for rollup_id in rollup_ids]
    return Call(inbox.program_id, tuple(accounts), data)


def posting_cu(data_bytes: int, *, rollups: int) -> int:
    """Compute units of one POST (or, within 10, COMMIT) with so many bytes of data; 0 rollups is a CHUNK."""
    if not rollups:
        return _CU_OF_CHUNK
    return _CU_OF_POSTING + _CU_OF_ROLLUP * rollups + max(_SHA256_CU_MIN, data_bytes // 2)


def posting_cu_limit(data_bytes: int, *, rollups: int) -> int:
    """The limit to ask for: one posting and three budget instructions, with a tenth to spare."""
    return (posting_cu(data_bytes, rollups=rollups) + 3 * _CU_OF_BUDGET_CALL) * 11 // 10


def memo_cu_limit(memo_bytes: int) -> int:
    """The limit to ask for with a memo of so many bytes, for the SPL Memo that checks its text character by character.

    Measured with the program as mainnet ran it for years: 15,000 units for a payer among the accounts, which it logs,
    and 350 for a byte; a seventh of that is to spare. A dev node holds the newer one, which takes a fraction. A limit
    that is too low fails the posting, one that is too high costs priority only.
    """
    return min(_CU_LIMIT_MAX, _CU_OF_MEMO + _CU_OF_MEMO_BYTE * memo_bytes)


def initialized_slot(state: bytes) -> Slot:
    """The slot of INIT, from the bytes of an account that `nodes.rules.inbox.decode_state` accepts."""
    return Slot(int.from_bytes(state[2:8], "little"))


def error_text(code: int) -> str:
    """What a custom error of the inbox program says."""
    return INBOX_ERRORS.get(code, f"custom error {code}, which is not one of the inbox program")
