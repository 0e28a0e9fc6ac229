"""Instructions of every parsable program in every form, whole, cut short and with too much, to be parsed by two nodes.

None needs to succeed: a node parses what a failed transaction holds too.
"""

import struct
from collections.abc import Iterator, Sequence

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from nodes.solana.devnode.rpc import programs
from tests.support.solana_clients.world import key

_U64, _U32 = struct.Struct("<Q"), struct.Struct("<I")


def _key(name: str) -> bytes:
    return bytes(key(name).pubkey())


def _u64(value: int) -> bytes:
    return _U64.pack(value)


def _text(value: str) -> bytes:
    return _u64(len(value)) + value.encode()


_OWNER, _SEED = _key("owner"), _text("a seed")
# Number to the rest of the data and the number of accounts.
_SYSTEM = {
    0: (_u64(5) + _u64(6) + _OWNER, 2),
    1: (_OWNER, 1),
    2: (_u64(2**63), 2),
    3: (_OWNER + _SEED + _u64(7) + _u64(8) + _OWNER, 2),
    4: (b"", 3),
    5: (_u64(9), 5),
    6: (_OWNER, 3),
    7: (_OWNER, 2),
    8: (_u64(10), 1),
    9: (_OWNER + _SEED + _u64(11) + _OWNER, 2),
    10: (_OWNER + _SEED + _OWNER, 2),
    11: (_u64(12) + _SEED + _OWNER, 3),
    12: (b"", 1),
    13: (_u64(13) + _u64(14) + _OWNER, 2),
    14: (b"", 1),
}
_SOME, _NONE = b"\1" + _OWNER, b"\0"
_TOKEN = {
    0: (b"\6" + _OWNER + _SOME, 2),
    1: (b"", 4),
    2: (b"\2", 4),
    3: (_u64(1), 3),
    4: (_u64(2), 3),
    5: (b"", 2),
    6: (b"\2" + _SOME, 2),
    7: (_u64(3), 3),
    8: (_u64(4), 3),
    9: (b"", 3),
    10: (b"", 3),
    11: (b"", 3),
    12: (_u64(1_500_000) + b"\6", 4),
    13: (_u64(20) + b"\0", 4),
    14: (_u64(2**64 - 1) + b"\x09", 3),
    15: (_u64(0) + b"\6", 3),
    16: (_OWNER, 3),
    17: (b"", 1),
    18: (_OWNER, 2),
    19: (b"\1", 3),
    20: (b"\6" + _OWNER + _NONE, 1),
    21: (b"\7\0", 1),
    22: (b"", 1),
    23: (_u64(5), 1),
    24: (b"1.5", 1),
}
_ASSOCIATED = {0: (b"", 6), 1: (b"", 6), 2: (b"", 7)}
_TABLE = {
    0: (_u64(77) + b"\xfe", 4),
    1: (b"", 2),
    2: (_u64(2) + _OWNER + _key("other"), 4),
    3: (b"", 2),
    4: (b"", 3),
}
_UPGRADEABLE = {
    0: (b"", 2),
    1: (_U32.pack(16) + _text("code"), 2),
    2: (_u64(1_000), 8),
    3: (b"", 7),
    4: (b"", 3),
    5: (b"", 4),
    6: (_U32.pack(8), 4),
}
_ALL = (
    (programs.SYSTEM, 4, _SYSTEM),
    (programs.TOKEN, 1, _TOKEN),
    (programs.TOKEN_2022, 1, _TOKEN),
    (programs.ASSOCIATED_TOKEN, 1, _ASSOCIATED),
    (programs.LOOKUP_TABLE, 4, _TABLE),
    (programs.LOADER_UPGRADEABLE, 4, _UPGRADEABLE),
)


def every_instruction(signer: Pubkey) -> Iterator[tuple[str, Instruction]]:
    """Each with a name. `signer` is the only account that signs."""
    for program, number_bytes, forms in _ALL:
        for number, (rest, accounts) in forms.items():
            data = number.to_bytes(number_bytes, "little") + rest
            name = f"{program} {number}"
            yield name, _instruction(program, data, signer, accounts)
            yield f"{name}, an account more", _instruction(program, data, signer, accounts + 1)
            yield f"{name}, an account less", _instruction(program, data, signer, accounts - 1)
            yield f"{name}, cut short", _instruction(program, data[:-1], signer, accounts)
            yield f"{name}, with more", _instruction(program, data + b"\0", signer, accounts)
    free = (13).to_bytes(4, "little") + _u64(0) + _u64(14) + _OWNER
    for accounts in (1, 2):
        yield f"prefunded with {accounts} accounts", _instruction(programs.SYSTEM, free, signer, accounts)
    for accounts in (2, 3):
        yield (
            f"table with {accounts} accounts",
            _instruction(programs.LOOKUP_TABLE, b"\2\0\0\0" + _u64(0), signer, accounts),
        )
        yield (
            f"growing with {accounts} accounts",
            _instruction(programs.LOADER_UPGRADEABLE, b"\6\0\0\0\1\0\0\0", signer, accounts),
        )
    yield "no data", _instruction(programs.ASSOCIATED_TOKEN, b"", signer, 6)
    for kind in range(17):
        yield f"authority {kind}", _instruction(programs.TOKEN, bytes((6, kind)) + _NONE, signer, 2)
    yield "extensions", _instruction(programs.TOKEN_2022, bytes((21, 7, 0, 9, 0)), signer, 1)
    for program in (programs.MEMO_V1, programs.MEMO):
        yield f"memo of {program}", _instruction(program, "Grüße".encode(), signer, 0)
        yield f"no memo of {program}", _instruction(program, b"\xff", signer, 0)
    yield "compute budget", _instruction(programs.COMPUTE_BUDGET, b"\2" + _U32.pack(999_999), signer, 0)


def _instruction(program: str, data: bytes, signer: Pubkey, accounts: int) -> Instruction:
    names: Sequence[str] = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    keys = [signer, *(key(name).pubkey() for name in names)][:accounts]
    metas = [AccountMeta(item, is_signer=item == signer, is_writable=True) for item in keys]
    return Instruction(Pubkey.from_string(program), data, metas)
