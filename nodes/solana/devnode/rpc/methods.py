"""The table of every method that the dev node answers. What stands in no table is not there."""

from dataclasses import dataclass

from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.rpc.blocks import BlockEncoder
from nodes.solana.devnode.rpc.cluster import ClusterMethods
from nodes.solana.devnode.rpc.ledger import LedgerMethods
from nodes.solana.devnode.rpc.state import StateMethods
from nodes.solana.devnode.rpc.submission import SubmissionMethods
from nodes.solana.devnode.rpc.subscriptions import Publisher
from nodes.solana.devnode.rpc.view import Handlers, RpcView


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """What one chain answers, and what it announces."""

    table: Handlers
    publisher: Publisher


def build_methods(chain: Chain) -> Methods:
    """The methods over one chain."""
    view = RpcView(chain)
    blocks = BlockEncoder(view.lookup("processed"))
    submission = SubmissionMethods(view)
    groups = (
        LedgerMethods(view, blocks),
        StateMethods(view),
        submission,
        ClusterMethods(view, submission),
    )
    table = {name: handler for group in groups for name, handler in group.table().items()}
    return Methods(table=table, publisher=Publisher(view, blocks))
