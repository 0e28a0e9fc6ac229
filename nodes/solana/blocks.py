"""The answer to getBlock as a `SolanaBlock`: what the inbox was sent, and which transactions the block holds.

Only transactions whose bytes contain the program's address are taken apart; of the others nothing but the signature is
read. An invoked program stands among the keys of the message itself (never in a lookup table), so none is overlooked.
Top-level instructions only: the inbox refuses to be called by other programs. Answers that make no sense raise
Unavailable: the node that gave them is of no use, and the chain says nothing.
"""

import struct
from binascii import Error as BadBase64
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from solders.pubkey import Pubkey as Address

from nodes.model.errors import Unavailable
from nodes.model.solana import InboxInstruction, Pubkey, Signature, Slot, SolanaBlock

MAX_TRANSACTION_VERSION = 0
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32
_BLOCKHASH_BYTES = 32
_VERSIONED = 0x80
_SIGNATURE_TEXT = 4 * 22
"""Base64 characters that hold the count and the first signature."""


def block_options(*, commitment: str, details: str = "full") -> dict[str, Any]:
    """The options of getBlock for `block_from_answer`; with `details` "none", for `blockhash_of`."""
    return {
        "encoding": "base64",
        "transactionDetails": details,
        "rewards": False,
        "maxSupportedTransactionVersion": MAX_TRANSACTION_VERSION,
        "commitment": commitment,
    }


def blockhash_of(slot: int, answer: Any) -> bytes:
    """The hash of an answer to getBlock, also of one without transactions. Raises Unavailable."""
    try:
        return bytes(Address.from_string(answer["blockhash"]))
    except (TypeError, KeyError, ValueError) as error:
        raise _nonsense(slot, error) from error


def block_from_answer(slot: int, answer: Any, *, program_id: bytes) -> SolanaBlock:
    """The block that `getBlock` answered for a slot. Raises Unavailable where the answer makes no sense."""
    try:
        return _block(slot, answer, program_id)
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, BadBase64, struct.error) as error:
        raise _nonsense(slot, error) from error


def _nonsense(slot: int, error: Exception) -> Unavailable:
    detail = f"{type(error).__name__}: {error}"
    return Unavailable(
        f"the Solana node's answer to getBlock of slot {slot} makes no sense ({detail}); ask another node"
    )


def _block(slot: int, answer: Mapping[str, Any], program_id: bytes) -> SolanaBlock:
    signatures: list[Signature] = []
    failed: list[Signature] = []
    instructions: list[InboxInstruction] = []
    for index, item in enumerate(answer["transactions"]):
        encoded, encoding = item["transaction"]
        meta = item["meta"]
        if encoding != "base64":
            raise ValueError(f"transaction {index} is encoded as {encoding!r}, not as base64")
        head = a2b_base64(encoded[:_SIGNATURE_TEXT])
        signature = Signature(head[1 : 1 + _SIGNATURE_BYTES])
        if not 1 <= head[0] < _VERSIONED or len(signature) != _SIGNATURE_BYTES:
            raise ValueError(f"transaction {index} has no signature")
        signatures.append(signature)
        # Without it nobody knows whether the transaction had an effect: a missing key is an error.
        if meta["err"] is not None:
            failed.append(signature)
            continue
        raw = a2b_base64(encoded)
        if program_id in raw:
            instructions += _instructions(raw, meta, program_id, index, signature)
    height, time_s = answer["blockHeight"], answer.get("blockTime")
    if not isinstance(height, int) or not (time_s is None or isinstance(time_s, int)):
        raise ValueError(f"blockHeight is {height!r}, blockTime is {time_s!r}")
    parent_slot = answer["parentSlot"]
    if not isinstance(parent_slot, int) or not 0 <= parent_slot < max(slot, 1):
        raise ValueError(f"parentSlot is {parent_slot!r}")
    return SolanaBlock(
        slot=Slot(slot),
        blockhash=bytes(Address.from_string(answer["blockhash"])),
        parent_slot=Slot(parent_slot),
        previous_blockhash=bytes(Address.from_string(answer["previousBlockhash"])),
        block_height=height,
        block_time_s=time_s,
        signatures=tuple(signatures),
        failed=frozenset(failed),
        instructions=tuple(instructions),
    )


def _instructions(
    raw: bytes, meta: Mapping[str, Any], program_id: bytes, transaction_index: int, signature: Signature
) -> list[InboxInstruction]:
    """The top-level instructions of one transaction that invoke the program."""
    message = _Cursor(raw, 1 + raw[0] * _SIGNATURE_BYTES)
    version = raw[message.at]
    if version & _VERSIONED:
        if version & ~_VERSIONED > MAX_TRANSACTION_VERSION:
            raise ValueError(f"transaction {transaction_index} is of version {version & ~_VERSIONED}")
        message.at += 1
    message.at += 3  # how many keys sign and are read-only
    keys = [message.take(_KEY_BYTES) for _ in range(message.count())]
    if program_id not in keys:
        return []
    program = keys.index(program_id)
    if version & _VERSIONED:
        loaded = meta["loadedAddresses"]
        keys += [bytes(Address.from_string(text)) for text in (*loaded["writable"], *loaded["readonly"])]
    message.take(_BLOCKHASH_BYTES)
    found = []
    for instruction_index in range(message.count()):
        invoked = message.take(1)[0]
        accounts = message.take(message.count())
        data = message.take(message.count())
        if invoked == program:
            resolved = tuple([Pubkey(keys[account]) for account in accounts])
            found.append(InboxInstruction(transaction_index, instruction_index, signature, resolved, data))
    return found


class _Cursor:
    """Reads the message of a transaction. Raises IndexError where it ends early."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes, at: int) -> None:
        self._data: Final = data
        self.at = at

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            raise IndexError(f"the transaction ends at byte {len(self._data)}, byte {end} was expected")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def count(self) -> int:
        """A "compact-u16": seven bits a byte, lowest first."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < _VERSIONED:
                return value
            shift += 7
            if shift > 14:
                raise ValueError("a count has more than three bytes")


def states_from_answer(accounts: Sequence[bytes], answer: Any) -> tuple[int, list[bytes | None]]:
    """Context slot and data of each account (None: it does not exist) of getMultipleAccounts. Raises Unavailable."""
    try:
        values = answer["value"]
        if len(values) != len(accounts):
            raise ValueError(f"{len(values)} answers for {len(accounts)} accounts")
        return int(answer["context"]["slot"]), [
            None if value is None else a2b_base64(value["data"][0]) for value in values
        ]
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, BadBase64) as error:
        detail = f"{type(error).__name__}: {error}"
        raise Unavailable(f"the Solana node's answer to getMultipleAccounts makes no sense ({detail})") from error
