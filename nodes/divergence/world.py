"""The state that the second EVM works on, in the form its library (EELS) expects, without that library's copying.

EELS copies every trie at each message call. Here a trie holds only what the transaction under way wrote, before a
backing store that is not copied, so a call costs what it touches and not what the chain has. The backing store is
either the whole state of a chain (`WholeState`, with an undo journal per block) or the few accounts that one
transaction was seen to touch (`PartialState`, which refuses to make up others).

It knows neither blocks nor transactions, only accounts and words.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ethereum.forks.prague.fork_types import Account
from ethereum.forks.prague.state import State
from ethereum.forks.prague.trie import Trie
from ethereum_types.bytes import Bytes, Bytes20, Bytes32
from ethereum_types.numeric import U256, Uint

from nodes.model.ids import Address
from nodes.rules.footprint import NO_ACCOUNT, PRECOMPILES, AccountAfter, Effects

_ZERO = U256(0)
_WORD_BYTES = 32


class UntouchedState(Exception):
    """The second EVM read what the engine's execution of the same transaction did not, and the given state lacks it."""

    def __init__(self, address: Address, slot: int | None) -> None:
        """`slot` is None where the account itself was read."""
        super().__init__(f"0x{address.hex()}" + ("" if slot is None else f" slot {slot:#x}"))
        self.address = address
        self.slot = slot


class Backing(Protocol):
    """Where a transaction starts from."""

    def account(self, address: bytes) -> Account | None:
        """An account, None where there is none."""
        ...

    def word(self, address: bytes, key: bytes) -> U256:
        """A storage word, 0 where none was set."""
        ...

    def has_storage(self, address: bytes) -> bool:
        """Some word of the account is not 0."""
        ...


class WholeState:
    """Every account of a chain. What a block changed can be taken back, for the newest blocks."""

    def __init__(self, accounts: Mapping[Address, AccountAfter]) -> None:
        """`accounts` is the genesis; slots that are 0 are left out."""
        self._accounts: dict[bytes, Account] = {}
        self._storage: dict[bytes, dict[bytes, U256]] = {}
        self.apply(accounts)

    def __len__(self) -> int:
        return len(self._accounts)

    def account(self, address: bytes) -> Account | None:
        """As `Backing`."""
        return self._accounts.get(address)

    def word(self, address: bytes, key: bytes) -> U256:
        """As `Backing`."""
        words = self._storage.get(address)
        return _ZERO if words is None else words.get(key, _ZERO)

    def has_storage(self, address: bytes) -> bool:
        """As `Backing`."""
        return address in self._storage

    def accounts(self) -> dict[Address, AccountAfter]:
        """Every account, without its storage."""
        return {Address(bytes(address)): _plain(account) for address, account in self._accounts.items()}

    def apply(self, effects: Effects) -> dict[Address, AccountAfter]:
        """Take over what a transaction left; what stood there before, which undoes it."""
        return {address: self._apply_one(address, after) for address, after in effects.items()}

    def _apply_one(self, address: Address, after: AccountAfter) -> AccountAfter:
        key = Bytes20(address)
        before = _plain(self._accounts.get(key))
        if after.nonce or after.balance_wei or after.code:
            self._accounts[key] = Account(Uint(after.nonce), U256(after.balance_wei), Bytes(after.code))
        else:
            self._accounts.pop(key, None)
        old: dict[int, int] = {}
        if after.slots:
            words = self._storage.setdefault(key, {})
            for slot, value in after.slots.items():
                name = Bytes32(slot.to_bytes(_WORD_BYTES, "big"))
                old[slot] = int(words.get(name, _ZERO))
                if value:
                    words[name] = U256(value)
                else:
                    words.pop(name, None)
            if not words:
                del self._storage[key]
        return before._replace(slots=old)


class PartialState:
    """The accounts and words that one transaction touched, as they stood before it."""

    def __init__(self, accounts: Mapping[Address, AccountAfter]) -> None:
        self._known = accounts
        self._accounts = {
            Bytes20(address): Account(Uint(one.nonce), U256(one.balance_wei), Bytes(one.code))
            for address, one in accounts.items()
            if one.nonce or one.balance_wei or one.code
        }

    def account(self, address: bytes) -> Account | None:
        """As `Backing`. Raises UntouchedState."""
        if address not in self._known and address not in PRECOMPILES:
            raise UntouchedState(Address(bytes(address)), None)
        return self._accounts.get(Bytes20(address))

    def word(self, address: bytes, key: bytes) -> U256:
        """As `Backing`. Raises UntouchedState."""
        slot = int.from_bytes(key, "big")
        one = self._known.get(Address(bytes(address)))
        if one is None or slot not in one.slots:
            raise UntouchedState(Address(bytes(address)), slot)
        return U256(one.slots[slot])

    def has_storage(self, address: bytes) -> bool:
        """As `Backing`, as far as it was touched: a creation that met storage is not told from one that did not."""
        one = self._known.get(Address(bytes(address)))
        return one is not None and any(one.slots.values())


def _plain(account: Account | None) -> AccountAfter:
    if account is None:
        return NO_ACCOUNT
    return AccountAfter(int(account.nonce), int(account.balance), bytes(account.code), {})


class _Accounts(dict[Any, Any]):
    """What a trie of accounts holds: those that were written, before the backing store. None = deleted."""

    __slots__ = ("_backing",)

    def __init__(self, backing: Backing, written: Mapping[Any, Any]) -> None:
        super().__init__(written)
        self._backing = backing

    def get(self, key: Any, default: Any = None) -> Any:
        if key in self.keys():
            return self[key]
        return self._backing.account(key)

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None

    def __delitem__(self, key: Any) -> None:
        self[key] = None

    def __copy__(self) -> "_Accounts":
        return _Accounts(self._backing, self)


class _Words(dict[Any, Any]):
    """What a trie of one account's storage holds: the words that were written, before the backing store."""

    __slots__ = ("_address", "_backing")

    def __init__(self, backing: Backing | None, address: bytes, written: Mapping[Any, Any]) -> None:
        """Without `backing` what was not written is 0: the storage was destroyed."""
        super().__init__(written)
        self._backing = backing
        self._address = address

    def get(self, key: Any, default: Any = None) -> Any:
        if key in self.keys():
            return self[key]
        return _ZERO if self._backing is None else self._backing.word(self._address, key)

    def __contains__(self, key: object) -> bool:
        return bool(self.get(key) != _ZERO)

    def __delitem__(self, key: Any) -> None:
        self[key] = _ZERO

    def __eq__(self, other: object) -> bool:
        return False  # EELS drops a trie that equals {}; this one does not know whether it is empty

    __hash__ = None

    def __copy__(self) -> "_Words":
        return _Words(self._backing, self._address, self)


class _Storages(dict[Any, Any]):
    """Storage tries by account, made when they are first asked for."""

    __slots__ = ("_backing", "destroyed")

    def __init__(self, backing: Backing, tries: Mapping[Any, Any], destroyed: frozenset[bytes]) -> None:
        super().__init__(tries)
        self._backing = backing
        self.destroyed = destroyed
        """Accounts whose storage was destroyed; their words in the backing store do not count."""

    def get(self, key: Any, default: Any = None) -> Any:
        if key not in self.keys():
            backing = None if key in self.destroyed else self._backing
            self[key] = Trie(secured=True, default=_ZERO, _data=_Words(backing, key, {}))
        return self[key]

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes), "accounts are the keys"
        if key in self.keys() and any(self[key]._data.values()):
            return True
        return key not in self.destroyed and self._backing.has_storage(key)

    def __delitem__(self, key: Any) -> None:
        self.pop(key, None)
        self.destroyed |= {key}


class _Snapshots(list[Any]):
    """Copies that EELS takes at each call; it copies storages into a plain dict, which would forget the backing."""

    __slots__ = ("_state",)

    def __init__(self, state: "WorkingState") -> None:
        super().__init__()
        self._state = state

    def append(self, snapshot: Any) -> None:
        accounts, tries = snapshot
        storages = self._state._storage_tries
        assert isinstance(storages, _Storages), "only these are ever put there"
        super().append((accounts, _Storages(storages._backing, tries, storages.destroyed)))


class WorkingState(State):
    """EELS' state for one transaction (or one system call) on a backing store, which it never changes."""

    def __init__(self, backing: Backing) -> None:
        super().__init__(
            _main_trie=Trie(secured=True, default=None, _data=_Accounts(backing, {})),
            _storage_tries=_Storages(backing, {}, frozenset()),
        )
        self._snapshots = _Snapshots(self)
        self._backing = backing

    def effects(self) -> dict[Address, AccountAfter]:
        """What differs from the backing store now."""
        effects = {}
        written: dict[Any, Account | None] = {**self._main_trie._data}
        slots = {bytes(address): dict(self._changed_slots(address)) for address in self._storage_tries}
        for address in [*written, *(address for address, changed in slots.items() if changed)]:
            before = _plain(self._backing.account(address))
            after = _plain(written[address]) if address in written else before
            changed = slots.get(bytes(address), {})
            if changed or after != before:
                effects[Address(bytes(address))] = after._replace(slots=changed)
        return effects

    def _changed_slots(self, address: Bytes20) -> Iterator[tuple[int, int]]:
        for key, value in dict(self._storage_tries[address]._data).items():
            if value != self._backing.word(address, key):
                yield int.from_bytes(key, "big"), int(value)
