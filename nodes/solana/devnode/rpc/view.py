"""What every group of methods needs of the chain: contexts, minimum context slots, mints."""

from collections.abc import Callable, Generator, Mapping
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.rpc.errors import min_context_slot
from nodes.solana.devnode.rpc.params import Config, Params
from nodes.solana.devnode.values import Level

API_VERSION = "4.1.2"
"""Of Agave, whose answers these follow and whose runtime executes."""
FEATURE_SET = 3_345_198_602

Json = dict[str, Any]
Steps = Generator[None, None, Any]
"""An answer that takes long: it stops now and then, so that others get their turn, and returns the result."""
Handler = Callable[[Params], Any]
"""Result as JSON values, or as Steps. Raises RpcFault."""
Handlers = Mapping[str, Handler]


class RpcView:
    """One chain as the methods see it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def context(self, level: Level) -> Json:
        """What an answer was read from."""
        return {"slot": self.chain.slot(level), "apiVersion": API_VERSION}

    def with_context(self, level: Level, value: Any) -> Json:
        """An answer in the form that names its slot."""
        return {"context": self.context(level), "value": value}

    def level_of(self, config: Config) -> Level:
        """The commitment that is asked for, once this node has reached `minContextSlot`. Raises RpcFault."""
        level = config.level()
        self.check_min_context(config, level)
        return level

    def check_min_context(self, config: Config, level: Level) -> None:
        """Raises RpcFault where this node's view is older than the client's."""
        wanted = config.count("minContextSlot")
        slot = self.chain.slot(level)
        if wanted is not None and slot < wanted:
            raise min_context_slot(slot)

    def account(self, key: Pubkey, level: Level) -> Account | None:
        """An account as of a commitment."""
        return self.chain.account(key, level)

    def lookup(self, level: Level) -> Callable[[Pubkey], Account | None]:
        """Reads other accounts at the same commitment."""
        return lambda key: self.chain.account(key, level)
