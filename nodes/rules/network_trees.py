"""The trees of one network, and the witness they give for a certificate: what the pessimistic program is fed.

`NetworkTrees` is a value. Applying a certificate gives new trees; keeping them is the commit, dropping them the
rollback. It knows nothing of L1 but the two roots it is told, and leaves every check that the program makes to it,
except those without which no witness exists. Source: agglayer/agglayer `agglayer-types` `local_network_state`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from nodes.model.agglayer import Certificate, EcdsaSignature, NetworkId, NetworkState, TokenInfo
from nodes.model.ids import ZERO_HASH, Address
from nodes.model.proof_errors import (
    BalanceOverflow,
    BalanceUnderflow,
    ExitTreeError,
    ExitTreeOperationFailed,
    InconsistentGlobalExitRoot,
    InvalidChainData,
    L1InfoRootIncorrect,
    MismatchNewLocalExitRoot,
    MismatchPrevLocalExitRoot,
    MultipleL1InfoRoot,
    NullifierPathGenerationFailed,
    SparseTreeError,
)
from nodes.rules.certificate import certificate_id
from nodes.rules.claims import computed_global_exit_root
from nodes.rules.exit_tree import ExitFrontier, leaf_hash
from nodes.rules.pessimistic import (
    EMPTY_STATE,
    U256_LIMIT,
    BalanceWitness,
    Committee,
    ProgramInput,
    SingleSigner,
    moved_token,
)
from nodes.rules.sparse_tree import (
    BALANCE_DEPTH,
    NULLIFIER_DEPTH,
    NULLIFIER_SET,
    HashPair,
    SparseTree,
    balance_path,
    keccak_pair,
    nullifier_path,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTrees:
    """State of one network between certificates."""

    leaf_count: int = 0
    frontier: tuple[bytes, ...] = EMPTY_STATE.frontier
    balances: SparseTree = field(default_factory=lambda: SparseTree(BALANCE_DEPTH))
    nullifiers: SparseTree = field(default_factory=lambda: SparseTree(NULLIFIER_DEPTH))

    @property
    def state(self) -> NetworkState:
        """What the program starts from."""
        return NetworkState(self.leaf_count, self.frontier, self.balances.root, self.nullifiers.root)

    @property
    def local_exit_root(self) -> bytes:
        """True root, `EMPTY_LER` before the first exit."""
        return ExitFrontier(self.leaf_count, self.frontier).root()

    def balance(self, token: TokenInfo) -> int:
        """What the network may still let out of a token that is not its own, in the token's smallest unit."""
        return int.from_bytes(self.balances.get(balance_path(token)), "big")

    def is_claimed(self, network_id: NetworkId, leaf_index: int) -> bool:
        """Whether an exit of another network was imported."""
        return self.nullifiers.get(nullifier_path(network_id, leaf_index)) != ZERO_HASH

    def snapshot(self) -> "TreesSnapshot":
        """All that is needed to restore these trees, in plain values."""
        return TreesSnapshot(
            leaf_count=self.leaf_count,
            frontier=self.frontier,
            balances=tuple(self.balances.items()),
            claimed=tuple(path for path, _ in self.nullifiers.items()),
        )

    @classmethod
    def restored(cls, snapshot: "TreesSnapshot", hash_pair: HashPair = keccak_pair) -> "NetworkTrees":
        """The inverse of `snapshot`; over another hash the trees that a prover needs beside the canonical ones.

        Such trees follow by `applied`. Their exit frontier is the canonical one, which the bridge contract fixes.
        """
        return cls(
            leaf_count=snapshot.leaf_count,
            frontier=snapshot.frontier,
            balances=SparseTree(BALANCE_DEPTH, hash_pair).updated(snapshot.balances),
            nullifiers=SparseTree(NULLIFIER_DEPTH, hash_pair).updated(
                (path, NULLIFIER_SET) for path in snapshot.claimed
            ),
        )

    def applied(self, certificate: Certificate) -> "NetworkTrees":
        """The trees after a certificate, each hashed once. Raises the WitnessErrors of exits, balances and claims.

        For certificates that are proven already, as when settled ones are replayed: it makes no proofs and compares no
        roots.
        """
        frontier = _appended(self, certificate)
        before, after = _balances_around(self, certificate)
        changed = ((balance_path(token), after[token].to_bytes(32, "big")) for token in before)
        claimed = []
        for imported in certificate.imported_bridge_exits:
            path = nullifier_path(imported.global_index.network_id, imported.global_index.leaf_index)
            claimed.append((path, NULLIFIER_SET))
        nullifiers = self.nullifiers.updated(claimed)
        if len(dict(claimed)) < len(claimed) or any(self.nullifiers.get(path) != ZERO_HASH for path, _ in claimed):
            # The slow way finds the exit to name.
            _claim_each(self.nullifiers, certificate)
        return NetworkTrees(
            leaf_count=frontier.leaf_count,
            frontier=frontier.nodes,
            balances=self.balances.updated(changed),
            nullifiers=nullifiers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TreesSnapshot:
    """`NetworkTrees` as plain values, ascending by path."""

    leaf_count: int
    frontier: tuple[bytes, ...]
    balances: tuple[tuple[int, bytes], ...]
    claimed: tuple[int, ...]


def witness(
    trees: NetworkTrees,
    certificate: Certificate,
    *,
    prev_pessimistic_root: bytes,
    l1_info_root: bytes,
    signers: Sequence[Address],
    threshold: int,
) -> tuple[ProgramInput, NetworkTrees]:
    """The program's input for a certificate, and the trees after it: they have the roots that the program computes.

    `prev_pessimistic_root` and `l1_info_root` (at the certificate's L1 info leaf count), signers and threshold are what
    L1 has; a single legacy signature needs a single signer. Raises the first WitnessError.
    """
    _check_l1_leaves(certificate, l1_info_root)
    prev_local_exit_root = trees.local_exit_root
    if certificate.prev_local_exit_root != prev_local_exit_root:
        raise MismatchPrevLocalExitRoot(declared=certificate.prev_local_exit_root, computed=prev_local_exit_root)
    frontier = _appended(trees, certificate)
    witnesses, balances = _balance_witnesses(trees, certificate)
    nullifier_siblings, nullifiers = _claim_each(trees.nullifiers, certificate)
    if certificate.new_local_exit_root != (computed := frontier.root()):
        raise MismatchNewLocalExitRoot(declared=certificate.new_local_exit_root, computed=computed)
    program = ProgramInput(
        state=trees.state,
        network_id=certificate.network_id,
        height=certificate.height,
        prev_pessimistic_root=prev_pessimistic_root,
        l1_info_root=l1_info_root,
        bridge_exits=certificate.bridge_exits,
        imported_bridge_exits=certificate.imported_bridge_exits,
        nullifier_siblings=nullifier_siblings,
        balances=witnesses,
        authorization=_authorization(certificate, tuple(signers), threshold),
        certificate_id=certificate_id(certificate),
    )
    after = NetworkTrees(
        leaf_count=frontier.leaf_count, frontier=frontier.nodes, balances=balances, nullifiers=nullifiers
    )
    return program, after


def l1_info_leaf_count(certificate: Certificate) -> int | None:
    """L1 info leaves that a certificate needs: as stated, else up to its highest claim; None leaves it to L1."""
    if certificate.l1_info_tree_leaf_count is not None:
        return certificate.l1_info_tree_leaf_count
    indexes = [imported.claim.l1_leaf.l1_info_tree_index for imported in certificate.imported_bridge_exits]
    return max(indexes) + 1 if indexes else None


def _check_l1_leaves(certificate: Certificate, l1_info_root: bytes) -> None:
    claims = [imported.claim for imported in certificate.imported_bridge_exits]
    roots = {claim.ger_to_l1_root.root for claim in claims}
    if len(roots) > 1:
        raise MultipleL1InfoRoot()
    for root in roots - {l1_info_root}:
        leaf_count = l1_info_leaf_count(certificate)
        assert leaf_count is not None, "a claim states its leaf"
        raise L1InfoRootIncorrect(declared=root, retrieved=l1_info_root, leaf_count=leaf_count)
    for leaf in {claim.l1_leaf for claim in claims}:
        if leaf.global_exit_root != computed_global_exit_root(leaf):
            raise InconsistentGlobalExitRoot()


def _appended(trees: NetworkTrees, certificate: Certificate) -> ExitFrontier:
    frontier = ExitFrontier(trees.leaf_count, trees.frontier)
    try:
        for bridge_exit in certificate.bridge_exits:
            frontier.append(leaf_hash(bridge_exit))
    except ExitTreeError as fault:
        raise ExitTreeOperationFailed(source=fault) from fault
    return frontier


def _balances_around(
    trees: NetworkTrees, certificate: Certificate
) -> tuple[dict[TokenInfo, int], dict[TokenInfo, int]]:
    """Balances before and after, in the order of tokens, of the tokens that move and are not the network's own."""
    exits, imports = certificate.bridge_exits, certificate.imported_bridge_exits
    moves = chain(
        ((moved_token(imported.bridge_exit), imported.bridge_exit.amount) for imported in imports),
        ((moved_token(bridge_exit), -bridge_exit.amount) for bridge_exit in exits),
    )
    before: dict[TokenInfo, int] = {}
    after: dict[TokenInfo, int] = {}
    for token, amount in moves:
        if token.origin_network == certificate.network_id:
            continue
        if token not in before:
            before[token] = after[token] = trees.balance(token)
        after[token] += amount
        if after[token] < 0:
            raise BalanceUnderflow(token=token, missing=-after[token])
    tokens = sorted(before)
    for token in tokens:
        if after[token] >= U256_LIMIT:
            raise BalanceOverflow(token=token)
    return {token: before[token] for token in tokens}, after


def _balance_witnesses(trees: NetworkTrees, certificate: Certificate) -> tuple[tuple[BalanceWitness, ...], SparseTree]:
    """Each token's proof is against the tree in which the tokens before it have their new balances."""
    before, after = _balances_around(trees, certificate)
    tree, witnesses = trees.balances, []
    for token, balance in before.items():
        path = balance_path(token)
        witnesses.append(BalanceWitness(token=token, balance=balance, siblings=tree.inclusion_siblings(path)))
        tree = tree.updated([(path, after[token].to_bytes(32, "big"))])
    return tuple(witnesses), tree


def _claim_each(tree: SparseTree, certificate: Certificate) -> tuple[tuple[tuple[bytes, ...], ...], SparseTree]:
    proofs = []
    for imported in certificate.imported_bridge_exits:
        index = imported.global_index
        path = nullifier_path(index.network_id, index.leaf_index)
        try:
            proofs.append(tree.non_inclusion_siblings(path))
        except SparseTreeError as fault:
            raise NullifierPathGenerationFailed(global_index=index, source=fault) from fault
        tree = tree.updated([(path, NULLIFIER_SET)])
    return tuple(proofs), tree


def _authorization(certificate: Certificate, signers: tuple[Address, ...], threshold: int) -> SingleSigner | Committee:
    data = certificate.aggchain_data
    if isinstance(data, EcdsaSignature):
        if len(signers) != 1:
            raise InvalidChainData(signer_count=len(signers))
        return SingleSigner(signer=signers[0], signature=data.signature)
    return Committee(signatures=data.signatures, signers=signers, threshold=threshold)
