"""Execution: transactions into a real SVM (solders' LiteSVM), with what a node needs and the SVM alone does not have.

It enforces the size limits, keeps pre-images so that whoever owns a slot can take it back, survives panics of the VM,
and keeps removed programs removed. It knows no blocks, no forks and no blockhashes: `chain` checks those before.

Durable nonces are not offered: the VM's own blockhash stands still, so a nonce account never advances.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

import orjson
from solders.account import Account
from solders.clock import Clock
from solders.epoch_schedule import EpochSchedule
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.transaction import SanitizeError, VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from nodes.model.solana import PACKET_BYTES, SIGNATURE_FEE_LAMPORTS
from nodes.solana.devnode.values import INVALID_PARAMS, Decoded, Rejected, ResolvedKeys

V1_TRANSACTION_BYTES = 4_096
"""SIMD-0385."""
SLOTS_PER_EPOCH = 432_000
_TRANSACTION_TYPE = "solana_transaction::versioned::VersionedTransaction"
_LOOKUP_TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
_LOOKUP_TABLE_HEADER_BYTES = 56
_TOKEN_PROGRAMS = frozenset(
    Pubkey.from_string(text)
    for text in ("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
)
_NO_SIGNATURE = Signature.default()
_NO_ACCOUNT = Account(0, b"", SYSTEM_PROGRAM)
"""Setting it deletes an account."""
PreImages = MutableMapping[Pubkey, Account | None]
"""Accounts as they were before something wrote them; None = there was none."""


TokenAccounts = tuple[tuple[int, Account], ...]
"""Index among the accounts of a transaction, and account."""


class Refused(NamedTuple):
    """A transaction that failed before execution: no fee, no trace, never in a block."""

    error: Any
    """In its RPC form."""


class Landed(NamedTuple):
    """A transaction that was executed, well or badly; its fee is paid."""

    error: Any
    """None, or the error in its RPC form."""
    metadata: TransactionMetadata
    pre_balances: tuple[int, ...]
    post_balances: tuple[int, ...]
    token_accounts_before: TokenAccounts
    token_accounts_after: TokenAccounts


class Trial(NamedTuple):
    """A transaction that was executed without effect."""

    error: Any
    metadata: TransactionMetadata
    post_accounts: Mapping[Pubkey, Account]


def decode(raw: bytes, *, is_v1_enabled: bool) -> Decoded:
    """Read a transaction. Raises Rejected where it is too large, malformed or of a version that is not enabled."""
    is_v1 = bool(raw) and raw[0] >= 0x80
    limit = V1_TRANSACTION_BYTES if is_v1 and is_v1_enabled else PACKET_BYTES
    if len(raw) > limit:
        encoded = -(-len(raw) // 3) * 4
        sizes = f"{encoded} bytes (max: encoded/raw {-(-limit // 3) * 4}/{limit})"
        raise Rejected(INVALID_PARAMS, f"base64 encoded {_TRANSACTION_TYPE} too large: {sizes}")
    try:
        if is_v1 and not is_v1_enabled:
            raise ValueError("transaction version 1 is not enabled on this chain")
        transaction = VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise Rejected(INVALID_PARAMS, f"failed to deserialize {_TRANSACTION_TYPE}: {error}") from None
    try:
        transaction.sanitize()
    except SanitizeError as error:
        raise Rejected(INVALID_PARAMS, f"invalid transaction: {error}") from None
    message = transaction.message
    return Decoded(
        raw=bytes(transaction),  # bytes after its end would not survive being written and read again
        transaction=transaction,
        signature=str(transaction.signatures[0]),
        header=message.header,
        static_keys=tuple(message.account_keys),
        recent_blockhash=message.recent_blockhash,
    )


class Bank:
    """The accounts, and the VM that changes them."""

    def __init__(self, *, is_v1_enabled: bool = False) -> None:
        # No history and no blockhash check: the VM's own forget too much and know one blockhash only. No signature
        # check: it is half of the cost of a transaction, and callers do it once where the VM would do it twice.
        self._svm = (
            LiteSVM()
            .with_mainnet_features()
            .with_transaction_history(0)
            .with_blockhash_check(False)
            .with_sigverify(False)
        )
        self._svm.set_epoch_schedule(EpochSchedule.without_warmup())
        self._is_v1_enabled = is_v1_enabled
        self._removed_programs: set[Pubkey] = set()

    def decode(self, raw: bytes) -> Decoded:
        """`decode` under this bank's rules."""
        return decode(raw, is_v1_enabled=self._is_v1_enabled)

    def begin_slot(self, *, slot: int, time_s: int, slot_hashes: list[tuple[int, Hash]]) -> None:
        """Set the sysvars that programs see. `slot_hashes` are up to 512 blocks, newest first."""
        epoch = slot // SLOTS_PER_EPOCH
        self._svm.set_clock(Clock(slot, time_s, epoch, epoch + 1, time_s))
        self._svm.set_slot_hashes(slot_hashes)

    def resolve(self, decoded: Decoded) -> ResolvedKeys | Refused:
        """The accounts of the transaction, lookup tables read."""
        header, static = decoded.header, decoded.static_keys
        signers = header.num_required_signatures
        writable_signers = signers - header.num_readonly_signed_accounts
        writable_end = len(static) - header.num_readonly_unsigned_accounts
        writable = tuple(index < writable_signers or signers <= index < writable_end for index in range(len(static)))
        message = decoded.message
        if not isinstance(message, MessageV0) or not message.address_table_lookups:
            return ResolvedKeys(static, writable, (), ())
        loaded_writable: list[Pubkey] = []
        loaded_readonly: list[Pubkey] = []
        for lookup in message.address_table_lookups:
            table = self._svm.get_account(lookup.account_key)
            if table is None:
                return Refused("AddressLookupTableNotFound")
            if table.owner != _LOOKUP_TABLE_PROGRAM:
                return Refused("InvalidAddressLookupTableOwner")
            data = table.data
            for indexes, loaded in (
                (lookup.writable_indexes, loaded_writable),
                (lookup.readonly_indexes, loaded_readonly),
            ):
                for index in indexes:
                    start = _LOOKUP_TABLE_HEADER_BYTES + 32 * index
                    if start + 32 > len(data):
                        return Refused("InvalidAddressLookupTableIndex")
                    loaded.append(Pubkey(data[start : start + 32]))
        return ResolvedKeys(
            (*static, *loaded_writable, *loaded_readonly),
            writable + (True,) * len(loaded_writable) + (False,) * len(loaded_readonly),
            tuple(loaded_writable),
            tuple(loaded_readonly),
        )

    def execute(self, decoded: Decoded, accounts: ResolvedKeys, undo: PreImages) -> Landed | Refused:
        """Execute for good. What `undo` does not hold yet of the accounts that may be written is added to it."""
        if self._removed_programs and self._names_removed_program(accounts):
            return Refused("ProgramAccountNotFound")
        svm = self._svm
        before: PreImages = {}
        for key, is_writable in zip(accounts.keys, accounts.writable, strict=True):
            if is_writable and key not in undo:
                before[key] = svm.get_account(key)
        pre_balances = self.balances(accounts.keys)
        has_tokens = not _TOKEN_PROGRAMS.isdisjoint(accounts.keys)
        tokens_before = self._token_accounts(accounts.keys) if has_tokens else ()
        try:
            result = svm.send_transaction(decoded.transaction)
        except BaseException as panic:  # noqa: BLE001 - a panic of the VM is no Exception; all others are passed on
            _raise_unless_panic(panic)
            for key, account in before.items():
                svm.set_account(key, account or _NO_ACCOUNT)
            return Refused("InvalidProgramForExecution")
        error = None
        if isinstance(result, FailedTransactionMetadata):
            error, result = _error_of(result), result.meta()
            if result.signature() == _NO_SIGNATURE:
                return Refused(error)
        undo.update(before)
        tokens_after = self._token_accounts(accounts.keys) if has_tokens else ()
        return Landed(error, result, pre_balances, self.balances(accounts.keys), tokens_before, tokens_after)

    def simulate(self, decoded: Decoded, accounts: ResolvedKeys) -> Trial | Refused:
        """Execute without effect."""
        if self._removed_programs and self._names_removed_program(accounts):
            return Refused("ProgramAccountNotFound")
        try:
            result = self._svm.simulate_transaction(decoded.transaction)
        except BaseException as panic:  # noqa: BLE001 - a panic of the VM is no Exception; all others are passed on
            _raise_unless_panic(panic)
            return Refused("InvalidProgramForExecution")
        if isinstance(result, FailedTransactionMetadata):
            metadata = result.meta()
            if metadata.signature() == _NO_SIGNATURE:
                return Refused(_error_of(result))
            return Trial(_error_of(result), metadata, {})
        return Trial(None, result.meta(), dict(result.post_accounts()))

    def restore(self, pre_images: Mapping[Pubkey, Account | None]) -> None:
        """Put accounts back as they were."""
        programs: list[tuple[Pubkey, Account]] = []
        for key, account in pre_images.items():
            if account is None:
                current = self._svm.get_account(key)
                if current is not None and current.executable:
                    self._removed_programs.add(key)
                self._svm.set_account(key, _NO_ACCOUNT)
            elif account.executable:
                programs.append((key, account))
            else:
                self._svm.set_account(key, account)
        # Last, since the VM loads a program when its account is set, from the data account that must be there by then.
        for key, account in programs:
            self._svm.set_account(key, account)

    def account(self, address: Pubkey) -> Account | None:
        """The account now."""
        return self._svm.get_account(address)

    def set_account(self, address: Pubkey, account: Account) -> None:
        """Write an account without a transaction; for genesis only."""
        self._svm.set_account(address, account)

    def program_accounts(self, program: Pubkey) -> dict[Pubkey, Account]:
        """The accounts that a program owns now. Looks at every account."""
        return dict(self._svm.get_program_accounts(program))

    def minimum_balance(self, data_bytes: int) -> int:
        """Lamports that exempt an account of this size from rent."""
        return self._svm.minimum_balance_for_rent_exemption(data_bytes)

    def loaded_bytes(self, keys: Iterable[Pubkey]) -> int:
        """Size of the data of these accounts."""
        accounts = (self._svm.get_account(key) for key in keys)
        return sum(len(account.data) for account in accounts if account is not None)

    def balances(self, keys: tuple[Pubkey, ...]) -> tuple[int, ...]:
        """Lamports of each account; 0 where there is none."""
        balance = self._svm.get_balance
        return tuple([balance(key) or 0 for key in keys])

    def _token_accounts(self, keys: tuple[Pubkey, ...]) -> TokenAccounts:
        accounts = ((index, self._svm.get_account(key)) for index, key in enumerate(keys))
        return tuple((index, item) for index, item in accounts if item is not None and item.owner in _TOKEN_PROGRAMS)

    def _names_removed_program(self, accounts: ResolvedKeys) -> bool:
        # The VM's program cache still holds what a fork removed: it panics where such a program is called, and runs the
        # old code where another program calls it. Leaving a stub account in its place would prevent the first, but
        # then the program could never be deployed again at its address. To create it, its account must be writable.
        removed = self._removed_programs
        for key, is_writable in zip(accounts.keys, accounts.writable, strict=True):
            if key in removed:
                account = self._svm.get_account(key)
                if account is not None and account.executable:
                    removed.discard(key)
                elif not is_writable:
                    return True
        return False


def fee_of(message: Message | MessageV0) -> int:
    """Base fee in lamports; a priority fee comes on top, see `Bank.simulate`."""
    return SIGNATURE_FEE_LAMPORTS * message.header.num_required_signatures


def _error_of(result: FailedTransactionMetadata) -> Any:
    # `err()` has no usable JSON form of its own.
    return orjson.loads(result.to_json())["err"]


def _raise_unless_panic(error: BaseException) -> None:
    """A Rust panic arrives as an exception beside `Exception`; the VM stays usable. All else is passed on."""
    if type(error).__name__ != "PanicException":
        raise error
