"""What goes into the next certificate of a rollup: the exits that its proven balance covers, the imports whose claims
hold, and which leaf an import stands for. Pure; storage and sending are `nodes.rollup.certifier`.

A certificate carries exits in the order of their leaves and only imports that are already under a settled root. So
imports lag and exits never wait for imports of the same certificate but by balance: the cut is the longest prefix of
exits that the balance covers, and may lie inside a block. Nothing that another rollup reported is believed: an import
whose claim does not hold is left out, since it would have the whole certificate refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.agglayer import BridgeExit, GlobalIndex, ImportedBridgeExit, NetworkId, TokenInfo, global_index_of
from nodes.model.bridge_activity import MadeClaim
from nodes.model.proof_errors import BridgeError, InvalidMerklePathLeafToLER
from nodes.rules.claims import KnownNodes, check_claim
from nodes.rules.pessimistic import U256_LIMIT, moved_token

Balances = dict[TokenInfo, int]
"""What a network can prove to hold of each foreign token. Its own tokens are not in it: they leave without limit."""


def credit(balances: Balances, imports: Iterable[BridgeExit], *, network_id: NetworkId) -> None:
    """Add imports."""
    for bridge_exit in imports:
        token = moved_token(bridge_exit)
        if token.origin_network != network_id:
            balances[token] = balances.get(token, 0) + bridge_exit.amount


def covered_exits(exits: Sequence[BridgeExit], balances: Balances, *, network_id: NetworkId, maximum: int) -> int:
    """How many of the exits, from the first on, the balances cover; these are taken from `balances`."""
    for count, bridge_exit in enumerate(exits[:maximum]):
        token = moved_token(bridge_exit)
        if token.origin_network == network_id:
            continue
        left = balances.get(token, 0) - bridge_exit.amount
        if left < 0:
            return count
        balances[token] = left
    return min(len(exits), maximum)


def missing_amount(bridge_exit: BridgeExit, balances: Mapping[TokenInfo, int], expected: Iterable[BridgeExit]) -> int:
    """What the exit that is not covered will lack even once all `expected` imports are proven; 0 = it only waits."""
    token = moved_token(bridge_exit)
    coming = sum(entry.amount for entry in expected if moved_token(entry) == token)
    return max(0, bridge_exit.amount - balances.get(token, 0) - coming)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedImports:
    """Which imports may go into one certificate, by their positions in the list that was checked."""

    good: tuple[int, ...]
    flaws: Mapping[int, str]
    """Those that will never do as they are: the settled tree of their network has another leaf in their place, or an
    equal index was taken. Whoever said where the leaf is was wrong."""


def checked_imports(
    imports: Sequence[ImportedBridgeExit], balances: Mapping[TokenInfo, int], *, network_id: NetworkId
) -> CheckedImports:
    """Check claims as the pessimistic program will, against one L1 info root. Never raises for what is claimed.

    A claim that fails in another way than by its leaf (stale proofs after a reorg of L1, for example) is neither good
    nor flawed: it is asked for again.
    """
    known, taken, good, flaws = KnownNodes(), set[GlobalIndex](), list[int](), dict[int, str]()
    sums = dict(balances)
    for position, imported in enumerate(imports):
        token, amount = moved_token(imported.bridge_exit), imported.bridge_exit.amount
        if imported.global_index.network_id == network_id:
            flaws[position] = "an exit of the network itself cannot be imported"
        elif imported.global_index in taken:
            flaws[position] = "this leaf is imported already"
        elif sums.get(token, 0) + amount >= U256_LIMIT:
            continue  # until exits have made room
        else:
            try:
                check_claim(imported, imports[0].claim.ger_to_l1_root.root, known)
            except InvalidMerklePathLeafToLER:
                flaws[position] = "the settled exit tree has another leaf there"
                continue
            except BridgeError:
                continue
            taken.add(imported.global_index)
            sums[token] = sums.get(token, 0) + amount
            good.append(position)
    return CheckedImports(good=tuple(good), flaws=flaws)


class Import(NamedTuple):
    """A leaf that a certificate must import, because its value was minted."""

    network_id: NetworkId
    leaf_index: int
    exit: BridgeExit

    @property
    def global_index(self) -> GlobalIndex:
        """As certificates name it."""
        return global_index_of(self.network_id, self.leaf_index)


def import_of_claim(claim: MadeClaim, *, is_imported: bool, spare: int | None) -> Import | None:
    """The import that a claim stands for; None for one that paid nothing.

    Equal leaves are interchangeable on the contract: a claim of leaf 7 may pay although a contingent mint was matched
    with 7, if the equal leaf 9 was claimed without payment. Then 9 is imported for it: each minted amount has one leaf,
    and no leaf counts twice. `is_imported`: an equal leaf was imported at the claim's own index; `spare`: the lowest
    index of an equal leaf of that network whose claim paid nothing and that is not imported.

    Where there is no spare one, a rollup reported a leaf index that is not true. The claim's own index is taken then:
    the contract has checked it, so it is the mint's import that will not hold.
    """
    if not claim.pays:
        return None
    index = claim.global_index
    leaf_index = spare if is_imported and spare is not None else index.leaf_index
    return Import(index.network_id, leaf_index, claim.exit)
