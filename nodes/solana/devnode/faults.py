"""What goes wrong on a dev node's chain and for how long, and the admin methods that make it so."""

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from nodes.model.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from nodes.solana.devnode.chain import Chain


class Faults:
    """Faults that last for a number of slots. Pure state; the chain asks."""

    def __init__(self, random: Random) -> None:
        self.random = random
        """Chance of this chain's faults, seeded."""
        self.skips_left = 0
        """Slots that will have no block, the open one first."""
        self._drop_share = 0.0
        self._drop_slots_left = 0
        self._lag_slots = 0
        self._lag_slots_left = 0

    def drop(self, share: float, for_slots: int) -> None:
        """Lose this share of the submitted transactions for so many slots."""
        self._drop_share, self._drop_slots_left = share, for_slots

    def lag(self, slots: int, for_slots: int) -> None:
        """Show the chain so many slots late, for so many slots."""
        self._lag_slots, self._lag_slots_left = slots, for_slots

    @property
    def lag_slots(self) -> int:
        """How many slots the view is behind."""
        return self._lag_slots if self._lag_slots_left else 0

    def loses_transaction(self) -> bool:
        """Whether the transaction that has just come gets lost."""
        return bool(self._drop_slots_left) and self.random.random() < self._drop_share

    def pass_slots(self, slots: int) -> None:
        """So many slots are over."""
        self.skips_left = max(0, self.skips_left - slots)
        self._drop_slots_left = max(0, self._drop_slots_left - slots)
        self._lag_slots_left = max(0, self._lag_slots_left - slots)


class Admin(Protocol):
    """Carries out admin methods."""

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of a `devnode_` method. Raises UnknownName, and InvalidInput where the parameters are wrong."""
        ...


class ChainAdmin:
    """The admin methods that need no clock and no sockets.

    devnode_tick {slots}, devnode_fork {depth, reinclude}, devnode_skipSlots {slots}, devnode_dropTransactions {share,
    slots}, devnode_lag {slots, forSlots}, devnode_expireBlockhashes, devnode_status.
    """

    def __init__(self, chain: "Chain") -> None:
        self._chain = chain
        self._methods: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "devnode_tick": self._tick,
            "devnode_fork": self._fork,
            "devnode_skipSlots": self._skip_slots,
            "devnode_dropTransactions": self._drop_transactions,
            "devnode_lag": self._lag,
            "devnode_expireBlockhashes": self._expire_blockhashes,
            "devnode_status": self._status,
        }

    def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """See `Admin`."""
        handler = self._methods.get(method)
        if handler is None:
            raise UnknownName(kind="admin method", name=method, known=self._methods)
        return handler(params)

    def _tick(self, params: Mapping[str, Any]) -> int:
        slots = integer(params, "slots", default=1, minimum=1, maximum=1_000_000)
        self._chain.tick(slots)
        return self._chain.open_slot

    def _fork(self, params: Mapping[str, Any]) -> dict[str, Any]:
        reinclude = params.get("reinclude", "same")
        if reinclude not in ("same", "shuffled", "none"):
            raise InvalidInput(f"reinclude is {reinclude!r}, but must be same, shuffled or none")
        forked = self._chain.fork(integer(params, "depth", minimum=0), reinclude)
        return {
            "parentSlot": forked.parent_slot,
            "abandonedSlots": list(forked.abandoned_slots),
            "abandonedSignatures": list(forked.abandoned_signatures),
        }

    def _skip_slots(self, params: Mapping[str, Any]) -> bool:
        self._chain.skip(integer(params, "slots", default=1, minimum=1))
        return True

    def _drop_transactions(self, params: Mapping[str, Any]) -> bool:
        share = params.get("share", 1.0)
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise InvalidInput(f"share is {share!r}, but must be a number")
        self._chain.drop(float(share), integer(params, "slots", default=1, minimum=1))
        return True

    def _lag(self, params: Mapping[str, Any]) -> bool:
        self._chain.lag(integer(params, "slots", minimum=0), integer(params, "forSlots", default=1, minimum=1))
        return True

    def _expire_blockhashes(self, params: Mapping[str, Any]) -> bool:
        del params
        self._chain.expire_blockhashes()
        return True

    def _status(self, params: Mapping[str, Any]) -> dict[str, Any]:
        del params
        chain = self._chain
        return {
            "openSlot": chain.open_slot,
            "processed": chain.slot("processed"),
            "confirmed": chain.slot("confirmed"),
            "finalized": chain.slot("finalized"),
            "blockHeight": chain.tip.height,
            "firstSlot": chain.first_slot,
            "transactionCount": chain.transaction_count,
            "pendingTransactions": chain.pending_count,
            "droppedForRoom": chain.pending_dropped_count,
            "skipsLeft": chain.faults.skips_left,
            "lagSlots": chain.faults.lag_slots,
            "faucet": str(chain.faucet),
            "genesisHash": str(chain.genesis_hash),
        }


def integer(
    params: Mapping[str, Any], name: str, *, default: int | None = None, minimum: int, maximum: int = 2**31
) -> int:
    """A parameter. Raises InvalidInput naming it."""
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise InvalidInput(f"{name} is {value!r}, but must be a whole number from {minimum} to {maximum}")
    return value
