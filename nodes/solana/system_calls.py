"""Instructions of Solana's own programs that a set-up needs, and their accounts: system, loader, lookup tables.

Encodings only. Sources: Agave's `system_instruction`, `loader_upgradeable_instruction` and `address_lookup_table`
(bincode: u32 number of the variant, then its fields, little-endian).
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from solders.pubkey import Pubkey as SoldersPubkey

from nodes.model.solana import Pubkey, Slot
from nodes.solana.transactions import AccountUse, Call

SYSTEM_ID = Pubkey(bytes(32))
LOADER_ID = Pubkey(bytes.fromhex("02a8f6914e88a1b0e210153ef763ae2b00c2b93d16c124d2c0537a1004800000"))
"""BPFLoaderUpgradeab1e11111111111111111111111."""
LOOKUP_TABLE_ID = Pubkey(bytes.fromhex("0277a6af97339b7ac88d1892c90446f50002309266f62e53c118244982000000"))
"""AddressLookupTab1e1111111111111111111111111."""
RENT_SYSVAR_ID = Pubkey(bytes.fromhex("06a7d517192c5c51218cc94c3d4af17f58daee089ba1fd44e3dbd98a00000000"))
CLOCK_SYSVAR_ID = Pubkey(bytes.fromhex("06a7d51718c774c928566398691d5eb68b5eb8a39b4b6d5c73555b2100000000"))

PROGRAM_BYTES = 36
BUFFER_HEAD_BYTES = 37
PROGRAM_DATA_HEAD_BYTES = 45
TABLE_HEAD_BYTES = 56
TABLE_ACTIVE = (1 << 64) - 1
"""`deactivation_slot` of a table in use."""
_BUFFER, _PROGRAM, _PROGRAM_DATA = 1, 2, 3
_TABLE = 1


class ProgramData(NamedTuple):
    """The account of a deployed program that holds its bytes."""

    slot: Slot
    """Of the last deployment; the program can be called in later slots."""
    code: bytes
    """With zeros behind it where more room was asked for."""


class Table(NamedTuple):
    """The account of a lookup table."""

    deactivation_slot: int
    extended_slot: Slot
    """Addresses added in this slot can be used in later ones."""
    authority: Pubkey | None
    addresses: tuple[Pubkey, ...]


def derived_address(program_id: Pubkey, *seeds: bytes) -> tuple[Pubkey, int]:
    """The program-derived address of the seeds, and its bump."""
    key, bump = SoldersPubkey.find_program_address(list(seeds), SoldersPubkey.from_bytes(program_id))
    return Pubkey(bytes(key)), bump


# System program


def transfer_call(payer: Pubkey, to: Pubkey, *, lamports: int) -> Call:
    """Pay `lamports` from `payer` to `to`."""
    return Call(SYSTEM_ID, (_payer(payer), AccountUse(to, is_writable=True)), struct.pack("<IQ", 2, lamports))


def create_account_call(payer: Pubkey, key: Pubkey, *, lamports: int, size: int, owner: Pubkey) -> Call:
    """Create an account of `size` bytes; both sign."""
    return Call(SYSTEM_ID, (_payer(payer), _payer(key)), struct.pack("<IQQ32s", 0, lamports, size, owner))


# Loader


def program_data_address(program_id: Pubkey) -> Pubkey:
    """Where the loader keeps the bytes of a program."""
    return derived_address(LOADER_ID, program_id)[0]


def initialize_buffer_call(buffer: Pubkey, authority: Pubkey) -> Call:
    """Make a new account a buffer of the authority."""
    return Call(LOADER_ID, (AccountUse(buffer, is_writable=True), AccountUse(authority)), struct.pack("<I", 0))


def write_call(buffer: Pubkey, authority: Pubkey, *, at: int, piece: bytes) -> Call:
    """Write a piece of the program into the buffer."""
    accounts = (AccountUse(buffer, is_writable=True), AccountUse(authority, is_signer=True))
    return Call(LOADER_ID, accounts, struct.pack("<IIQ", 1, at, len(piece)) + piece)


def deploy_call(payer: Pubkey, program_id: Pubkey, buffer: Pubkey, *, code_bytes: int) -> Call:
    """Make the buffer's content the program, with room for `code_bytes`; the payer keeps the right to upgrade it."""
    accounts = (
        _payer(payer),
        AccountUse(program_data_address(program_id), is_writable=True),
        AccountUse(program_id, is_writable=True),
        AccountUse(buffer, is_writable=True),
        AccountUse(RENT_SYSVAR_ID),
        AccountUse(CLOCK_SYSVAR_ID),
        AccountUse(SYSTEM_ID),
        AccountUse(payer, is_signer=True),
    )
    return Call(LOADER_ID, accounts, struct.pack("<IQ", 2, code_bytes))


def is_buffer(owner: Pubkey, data: bytes, *, authority: Pubkey, code_bytes: int) -> bool:
    """Whether an account is a buffer of the authority for so many bytes."""
    head = struct.pack("<IB32s", _BUFFER, 1, authority)
    return owner == LOADER_ID and data[:BUFFER_HEAD_BYTES] == head and len(data) == BUFFER_HEAD_BYTES + code_bytes


def is_program(owner: Pubkey, data: bytes) -> bool:
    """Whether an account is a program of the loader."""
    return owner == LOADER_ID and len(data) == PROGRAM_BYTES and _variant(data) == _PROGRAM


def decode_program_data(owner: Pubkey, data: bytes) -> ProgramData | None:
    """None for what is not, or no longer, the bytes of a program."""
    if owner != LOADER_ID or len(data) < PROGRAM_DATA_HEAD_BYTES or _variant(data) != _PROGRAM_DATA:
        return None
    return ProgramData(Slot(int.from_bytes(data[4:12], "little")), data[PROGRAM_DATA_HEAD_BYTES:])


# Lookup tables


def table_address(authority: Pubkey, slot: int) -> tuple[Pubkey, int]:
    """Where the table stands that the authority makes with a recent slot, and its bump."""
    return derived_address(LOOKUP_TABLE_ID, authority, slot.to_bytes(8, "little"))


def create_table_call(authority: Pubkey, *, slot: int) -> Call:
    """Make a table; `slot` must have a block and be one of the last 512 before. Harmless where it exists already."""
    address, bump = table_address(authority, slot)
    return Call(LOOKUP_TABLE_ID, _table_accounts(address, authority), struct.pack("<IQB", 0, slot, bump))


def extend_table_call(table: Pubkey, authority: Pubkey, keys: Sequence[Pubkey]) -> Call:
    """Add accounts at the end of a table."""
    return Call(LOOKUP_TABLE_ID, _table_accounts(table, authority), struct.pack("<IQ", 2, len(keys)) + b"".join(keys))


def decode_table(owner: Pubkey, data: bytes) -> Table | None:
    """None for what is no lookup table."""
    if owner != LOOKUP_TABLE_ID or len(data) < TABLE_HEAD_BYTES or _variant(data) != _TABLE:
        return None
    deactivation_slot, extended_slot, _, has_authority, authority = struct.unpack_from("<QQBB32s", data, 4)
    addresses = [Pubkey(data[at : at + 32]) for at in range(TABLE_HEAD_BYTES, len(data), 32)]
    return Table(deactivation_slot, Slot(extended_slot), Pubkey(authority) if has_authority else None, tuple(addresses))


def table_bytes(addresses: int) -> int:
    """Size of a table of so many accounts."""
    return TABLE_HEAD_BYTES + 32 * addresses


def _table_accounts(table: Pubkey, authority: Pubkey) -> tuple[AccountUse, ...]:
    return (
        AccountUse(table, is_writable=True),
        AccountUse(authority, is_signer=True),
        _payer(authority),
        AccountUse(SYSTEM_ID),
    )


def _payer(key: Pubkey) -> AccountUse:
    return AccountUse(key, is_signer=True, is_writable=True)


def _variant(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")
