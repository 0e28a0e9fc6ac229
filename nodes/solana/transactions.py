"""Solana transactions: laid out once, signed for one blockhash after another.

Writes the wire form itself: a posting is signed more than a thousand times a second, and everything but blockhash and
signatures is known before. Limits of the packet are checked here. It does not know what the instructions mean, and it
sends nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from solders.keypair import Keypair

from nodes.model.errors import InvalidInput, LimitExceeded
from nodes.model.ids import HASH_BYTES
from nodes.model.solana import PACKET_BYTES, SIGNATURE_FEE_LAMPORTS, Pubkey, Signature
from nodes.solana.keypairs import key_of

COMPUTE_BUDGET_ID = Pubkey(bytes.fromhex("0306466fe5211732ffecadba72c39be7bc8ce5bbc5f7126b2c439b3a40000000"))
MAX_ACCOUNTS = 64
"""Accounts that one transaction may lock, those of its lookup tables included."""
TABLE_ADDRESSES_MAX = 256
SIGNATURE_BYTES = 64
_MICRO_LAMPORTS = 1_000_000
_V0 = b"\x80"


class AccountUse(NamedTuple):
    """One account in an instruction."""

    key: Pubkey
    is_signer: bool = False
    is_writable: bool = False


class Call(NamedTuple):
    """One instruction."""

    program_id: Pubkey
    accounts: tuple[AccountUse, ...]
    data: bytes


class LookupTable(NamedTuple):
    """An address lookup table on chain: an account in it costs one byte of the packet instead of 32."""

    address: Pubkey
    addresses: tuple[Pubkey, ...]
    """In the order of the table; active only from the slot after the one that added them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a transaction asks of a block, and what it pays above the signatures. None leaves Solana's default."""

    cu_limit: int | None = None
    """Compute units; the default is 200,000 for each instruction."""
    cu_price_micro_lamports: int = 0
    """Priority, per compute unit of the limit."""
    loaded_bytes_limit: int | None = None
    """Accounts and programs that may be loaded; the default of 64 MiB counts as 16,384 compute units."""

    def calls(self) -> list[Call]:
        """The instructions that say so."""
        said: list[bytes] = []
        if self.cu_limit is not None:
            said.append(b"\x02" + self.cu_limit.to_bytes(4, "little"))
        if self.cu_price_micro_lamports:
            said.append(b"\x03" + self.cu_price_micro_lamports.to_bytes(8, "little"))
        if self.loaded_bytes_limit is not None:
            said.append(b"\x04" + self.loaded_bytes_limit.to_bytes(4, "little"))
        return [Call(COMPUTE_BUDGET_ID, (), data) for data in said]


class Signed(NamedTuple):
    """What `sendTransaction` takes, and the transaction's id."""

    raw: bytes
    signature: Signature


NO_BUDGET = Budget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A transaction without blockhash and signatures; made by `draft`."""

    signers: tuple[Pubkey, ...]
    """Who must sign, the fee payer first."""
    head: bytes
    """The message up to its blockhash."""
    tail: bytes
    """The message after its blockhash."""
    size: int = field(init=False)
    """Bytes of the signed transaction."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "size", 1 + SIGNATURE_BYTES * len(self.signers) + len(self.head) + HASH_BYTES + len(self.tail)
        )

    def sign(self, keypairs: Sequence[Keypair], *, blockhash: bytes) -> Signed:
        """Sign with the keypairs of `signers`, in that order. Raises InvalidInput where they are others."""
        keys = tuple([key_of(keypair) for keypair in keypairs])
        if keys != self.signers:
            raise InvalidInput(
                f"the transaction is to be signed by {_names(self.signers)}, not by {_names(keys)}: "
                "give the fee payer first, then the other signers in the order of the instructions"
            )
        if len(blockhash) != HASH_BYTES:
            raise InvalidInput(f"a blockhash has {HASH_BYTES} bytes, this one has {len(blockhash)}")
        message = self.head + blockhash + self.tail
        signatures = [bytes(keypair.sign_message(message)) for keypair in keypairs]
        return Signed(bytes((len(signatures),)) + b"".join(signatures) + message, Signature(signatures[0]))


def draft(
    payer: Pubkey, calls: Sequence[Call], *, budget: Budget = NO_BUDGET, tables: Sequence[LookupTable] = ()
) -> Draft:
    """Lay out a transaction: version 0 where an account is taken from a lookup table, else legacy.

    Raises LimitExceeded above PACKET_BYTES, above MAX_ACCOUNTS accounts, and above 127 signers.
    """
    calls = (*budget.calls(), *calls)
    layout = _Layout(payer, calls, tables)
    parts = [_length(len(calls))]
    for call in calls:
        parts += (bytes((layout.index[call.program_id],)), _length(len(call.accounts)))
        parts += (bytes([layout.index[use.key] for use in call.accounts]), _length(len(call.data)), call.data)
    prefix = b""
    if layout.lookups:
        prefix = _V0
        parts += (_length(len(layout.lookups)), *layout.lookups)
    found = Draft(
        signers=layout.signers,
        head=prefix + bytes(layout.counts) + _length(len(layout.keys)) + b"".join(layout.keys),
        tail=b"".join(parts),
    )
    if found.size > PACKET_BYTES:
        raise LimitExceeded(limit="bytes of a Solana transaction", value=found.size, maximum=PACKET_BYTES)
    return found


def build(
    payer: Keypair,
    calls: Sequence[Call],
    *,
    blockhash: bytes,
    budget: Budget = NO_BUDGET,
    tables: Sequence[LookupTable] = (),
    signers: Sequence[Keypair] = (),
) -> Signed:
    """Lay out and sign. `signers` besides the payer, in the order in which the instructions first name them.

    Raises LimitExceeded and InvalidInput; see `draft` and `Draft.sign`.
    """
    laid_out = draft(key_of(payer), calls, budget=budget, tables=tables)
    return laid_out.sign((payer, *signers), blockhash=blockhash)


def fee_lamports(budget: Budget, *, signatures: int = 1) -> int:
    """What a transaction with this budget costs its payer, whether it succeeds or not. Needs a stated limit."""
    assert budget.cu_limit is not None or not budget.cu_price_micro_lamports, "the price is per unit of the limit"
    priority = -(-(budget.cu_limit or 0) * budget.cu_price_micro_lamports // _MICRO_LAMPORTS)
    return signatures * SIGNATURE_FEE_LAMPORTS + priority


class _Layout:
    """Which account has which index: signers, then other static keys, then those of tables; writable ones first."""

    def __init__(self, payer: Pubkey, calls: Sequence[Call], tables: Sequence[LookupTable]) -> None:
        # Two flags for each key, those of all its uses: [signs, is written].
        uses: dict[Pubkey, list[bool]] = {payer: [True, True]}
        programs = set()
        for call in calls:
            programs.add(call.program_id)
            for key, is_signer, is_writable in call.accounts:
                flags = uses.setdefault(key, [False, False])
                flags[0] |= is_signer
                flags[1] |= is_writable
        for program_id in programs:
            uses.setdefault(program_id, [False, False])
        if len(uses) > MAX_ACCOUNTS:
            raise LimitExceeded(limit="accounts of a Solana transaction", value=len(uses), maximum=MAX_ACCOUNTS)
        looked_up = self._look_up(uses, programs, tables)
        kinds: list[list[Pubkey]] = [[], [], [], []]
        for key, (is_signer, is_writable) in uses.items():
            if key not in looked_up:
                kinds[(0 if is_signer else 2) + (not is_writable)].append(key)
        self.signers = (*kinds[0], *kinds[1])
        self.counts = (len(self.signers), len(kinds[1]), len(kinds[3]))
        self.keys = [key for kind in kinds for key in kind]
        self.index = {key: i for i, key in enumerate((*self.keys, *looked_up))}

    def _look_up(
        self, uses: dict[Pubkey, list[bool]], programs: Iterable[Pubkey], tables: Sequence[LookupTable]
    ) -> list[Pubkey]:
        """Keys taken from the tables, in the order in which they are loaded; fills `lookups`, one for each table used.

        A signer and a called program must stand in the transaction itself.
        """
        taken: set[Pubkey] = set(programs)
        written: list[Pubkey] = []
        read: list[Pubkey] = []
        self.lookups: list[bytes] = []
        for table in tables:
            places: tuple[list[int], list[int]] = ([], [])
            for place, key in enumerate(table.addresses):
                flags = uses.get(key)
                if flags is not None and not flags[0] and key not in taken:
                    taken.add(key)
                    (written if flags[1] else read).append(key)
                    places[not flags[1]].append(place)
            if places[0] or places[1]:
                self.lookups.append(table.address + b"".join([_length(len(kind)) + bytes(kind) for kind in places]))
        return written + read


def _length(count: int) -> bytes:
    """Solana's compact-u16: seven bits a byte, low ones first."""
    if count < 0x80:
        return bytes((count,))
    assert count < 1 << 14, "nothing in a packet is so long"
    return bytes((count & 0x7F | 0x80, count >> 7))


def _names(keys: Sequence[bytes]) -> str:
    return ", ".join([key.hex()[:8] + ".." for key in keys]) or "nobody"
