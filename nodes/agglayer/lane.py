"""One network's certificates that are not final, and the trees after each: in memory, without I/O.

A lane starts from the trees that the store keeps and holds what is built on them: certificates that wait, are proven or
are on their way to L1. The orchestrator moves them and writes what moved.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nodes.agglayer.admission import NOTHING, Tip
from nodes.agglayer.store import KeptState, StoredCertificate, TreeItems
from nodes.agglayer.tree_hashes import HashedTrees
from nodes.model.agglayer import (
    Certificate,
    CertificateHeight,
    CertificateStatus,
    NetworkId,
    NetworkParams,
)
from nodes.model.ids import ZERO_HASH
from nodes.rules.exit_tree import EMPTY_LER, ExitTree, leaf_hash
from nodes.rules.network_trees import NetworkTrees
from nodes.rules.pessimistic import moved_token
from nodes.rules.sparse_tree import balance_path, nullifier_path

KEPT_ROOTS = 4_096
"""Local exit roots of final certificates whose leaf counts are known."""
ON_ITS_WAY = frozenset({CertificateStatus.CANDIDATE, CertificateStatus.SETTLED})


@dataclass(slots=True)
class Entry:
    """A certificate that is not final."""

    row: StoredCertificate
    certificate: Certificate | None = None
    """Loaded when its turn comes."""
    after: NetworkTrees | None = None
    items: TreeItems | None = None

    @property
    def height(self) -> CertificateHeight:
        """Its place."""
        return self.row.header.height

    @property
    def status(self) -> CertificateStatus:
        """Where it stands."""
        return self.row.header.status


class Lane:
    """The certificates of one network."""

    def __init__(
        self,
        network: NetworkParams,
        *,
        final: StoredCertificate | None,
        kept: KeptState,
        hashed: Mapping[str, HashedTrees],
        final_roots: Sequence[tuple[bytes, int]],
    ) -> None:
        self.network = network
        self.final = final
        self.open: list[Entry] = []
        self.exit_tree: ExitTree = kept.exits
        """Leaves of the final certificates, then of those in batches."""
        self.hashed = dict(hashed)
        """Trees over other hashes, as of the final certificates."""
        self._trees = kept.trees
        self._counts: OrderedDict[bytes, int] = OrderedDict([(EMPTY_LER, 0), *final_roots])

    @property
    def network_id(self) -> NetworkId:
        """Whose certificates these are."""
        return self.network.network_id

    def add(self, entry: Entry) -> None:
        """Append the next certificate, or put one in the place of the one at its height."""
        index = entry.height - self._first_height
        assert 0 <= index <= len(self.open), "admission checked the height"
        self.open[index : index + 1] = [entry]

    def at(self, height: int) -> Entry | None:
        """The open certificate at a height."""
        index = height - self._first_height
        return self.open[index] if 0 <= index < len(self.open) else None

    def tip(self, height: int | None = None) -> Tip:
        """What a certificate at a height, by default the next one, must continue."""
        index = len(self.open) if height is None else height - self._first_height
        before = self.open[index - 1].row if index > 0 else self.final
        if before is None:
            return NOTHING
        return Tip(
            next_height=CertificateHeight(before.header.height + 1),
            local_exit_root=before.header.new_local_exit_root,
            settled_range=before.settled_range,
        )

    def ready(self) -> Entry | None:
        """The certificate whose turn it is to be proved; None while there is none, or while one before is in error."""
        for entry in self.open:
            if entry.status is CertificateStatus.PENDING:
                return entry
            if entry.status not in ON_ITS_WAY:
                return None
        return None

    def is_applied_before(self, entry: Entry) -> bool:
        """Whether the trees that the certificate starts from are known."""
        index = entry.height - self._first_height
        return not index or self.open[index - 1].after is not None

    def trees_before(self, entry: Entry) -> NetworkTrees:
        """The trees that the certificate starts from. Those before it must be on their way."""
        index = entry.height - self._first_height
        if not index:
            return self._trees
        after = self.open[index - 1].after
        assert after is not None, "what is on its way was applied"
        return after

    def root_before(self, entry: Entry) -> bytes:
        """The pessimistic root that L1 has once the certificate before is settled; zero for the first."""
        index = entry.height - self._first_height
        before = self.open[index - 1].row if index else self.final
        root = ZERO_HASH if before is None else before.pessimistic_root
        assert root is not None, "what is on its way was proven"
        return root

    def stands_on_settled(self, entry: Entry) -> bool:
        """Whether the certificate before is settled, so that L1 cannot have refused this one for its sake."""
        index = entry.height - self._first_height
        return not index or self.open[index - 1].status is CertificateStatus.SETTLED

    def proven(self, entry: Entry) -> None:
        """Its exits can be claimed once a root over them is on L1."""
        assert entry.items is not None, "it was applied"
        assert self.exit_tree.leaf_count == entry.items.first_leaf, "in the order of heights"
        self.exit_tree.append_many(entry.items.leaves)

    def taken_back(self, entry: Entry) -> None:
        """L1 refused it: its exits, and those of what was built on it, are not certified any more."""
        if entry.items is not None:
            self.exit_tree.truncate(min(self.exit_tree.leaf_count, entry.items.first_leaf))
        entry.after, entry.items = None, None

    def finish(self, entry: Entry) -> None:
        """The lowest open certificate is final."""
        assert self.open.index(entry) == 0, "in the order of heights"
        assert entry.after is not None, "it was applied"
        assert entry.items is not None, "likewise"
        self.open.pop(0)
        self.final, self._trees = entry.row, entry.after
        self._counts[entry.row.header.new_local_exit_root] = entry.after.leaf_count
        while len(self._counts) > KEPT_ROOTS:
            self._counts.popitem(last=False)
        for name, trees in self.hashed.items():
            self.hashed[name] = trees.advanced(entry.items)

    def leaf_count_of(self, local_exit_root: bytes) -> int | None:
        """Leaves of the tree when it had this root, after a certificate that is final or on its way."""
        for entry in reversed(self.open):
            if entry.row.header.new_local_exit_root == local_exit_root and entry.after is not None:
                return entry.after.leaf_count
        return self._counts.get(local_exit_root)

    # For those who ask how far the network is

    def latest(self) -> StoredCertificate | None:
        """The newest certificate, whatever its status."""
        return self.open[-1].row if self.open else self.final

    def settled(self) -> StoredCertificate | None:
        """The newest settled one."""
        return next((row for row in self._downwards() if row.header.status is CertificateStatus.SETTLED), None)

    def pending(self) -> StoredCertificate | None:
        """The newest one that is not settled."""
        return next((row for row in self._downwards() if row.header.status is not CertificateStatus.SETTLED), None)

    @property
    def _first_height(self) -> int:
        return 0 if self.final is None else self.final.header.height + 1

    def _downwards(self) -> Iterator[StoredCertificate]:
        yield from (entry.row for entry in reversed(self.open))
        if self.final is not None:
            yield self.final


def moved(row: StoredCertificate, status: CertificateStatus, *, error: str = "", **header: Any) -> StoredCertificate:
    """The certificate with another status, and with other fields of its header."""
    return replace(row, header=replace(row.header, status=status, error=error, **header))


def items_of(certificate: Certificate, before: NetworkTrees, after: NetworkTrees) -> TreeItems:
    """What the certificate changes in its network's trees."""
    exits, imports = certificate.bridge_exits, certificate.imported_bridge_exits
    tokens = {moved_token(bridge_exit) for bridge_exit in exits}
    tokens |= {moved_token(imported.bridge_exit) for imported in imports}
    paths = sorted(balance_path(token) for token in tokens if token.origin_network != certificate.network_id)
    return TreeItems(
        network_id=certificate.network_id,
        first_leaf=before.leaf_count,
        leaves=tuple(map(leaf_hash, exits)),
        balances=tuple((path, after.balances.get(path)) for path in paths),
        claimed=tuple(
            nullifier_path(imported.global_index.network_id, imported.global_index.leaf_index) for imported in imports
        ),
    )
