"""Exit trees of depth 32: the append-only tree of a bridge, and the trees and hashes that L1 builds over their roots.

Node = Keccak-256(left | right), empty leaf = 32 zero bytes; leaves and nodes are not told apart. It knows no claims and
no certificates. Sources: agglayer/interop `local_exit_tree`; AgglayerBridge `DepositContract` (the frontier is that of
the deposit contract of the beacon chain).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct

from sha3 import keccak_256 as _keccak_256

from nodes.model.agglayer import NETWORK_LIMIT, BridgeExit, GlobalIndex, MerkleProof
from nodes.model.ids import ZERO_HASH
from nodes.model.proof_errors import InvalidGlobalIndex, LeafIndexOverflow
from nodes.rules.hashes import keccak256

EXIT_TREE_DEPTH = 32
MAX_LEAVES = 2**EXIT_TREE_DEPTH - 1
EMPTY_METADATA_HASH = keccak256(b"")

_MAINNET_FLAG = 1 << 64
_KEPT_FOLDS = 64
_LEAF_HEAD = Struct(">BI20sI20s")


def _empty_roots(depth: int) -> tuple[bytes, ...]:
    roots = [ZERO_HASH]
    for _ in range(depth):
        roots.append(keccak256(roots[-1] * 2))
    return tuple(roots)


EMPTY_ROOTS = _empty_roots(EXIT_TREE_DEPTH)
"""Root of an empty subtree of each height, 0 to 32."""
EMPTY_LER = EMPTY_ROOTS[EXIT_TREE_DEPTH]
"""Local exit root of a network that never bridged."""


def zero_if_empty(local_exit_root: bytes) -> bytes:
    """The root as L1 keeps it and as public values state it: zero where nothing was ever bridged."""
    return ZERO_HASH if local_exit_root == EMPTY_LER else local_exit_root


def leaf_hash(bridge_exit: BridgeExit) -> bytes:
    """The leaf of an exit: Keccak-256 of its 113 packed bytes. Raises OverflowError if the amount exceeds 256 bits."""
    token = bridge_exit.token
    metadata_hash = bridge_exit.metadata_hash
    head = _LEAF_HEAD.pack(
        bridge_exit.leaf_type, token[0], token[1], bridge_exit.dest_network, bridge_exit.dest_address
    )
    tail = EMPTY_METADATA_HASH if metadata_hash is None else metadata_hash
    digest: bytes = _keccak_256(head + bridge_exit.amount.to_bytes(32, "big") + tail).digest()
    return digest


def root_of_path(leaf: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
    """The root that siblings, bottom-up, lead to from entry `index`."""
    node = leaf
    for sibling in siblings:
        node = _keccak_256(sibling + node if index & 1 else node + sibling).digest()
        index >>= 1
    return node


def exit_proof_holds(*, leaf: bytes, index: int, siblings: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is entry `index` of the tree under `root`; false unless there are exactly 32 siblings."""
    if len(siblings) != EXIT_TREE_DEPTH or not 0 <= index < 2**EXIT_TREE_DEPTH:
        return False
    return root_of_path(leaf, index, siblings) == root


class ExitFrontier:
    """The tree as its owner needs it to append: how many leaves, and the last complete left subtree of each height."""

    __slots__ = ("_nodes", "leaf_count")

    def __init__(self, leaf_count: int = 0, nodes: Sequence[bytes] = (ZERO_HASH,) * EXIT_TREE_DEPTH) -> None:
        if not 0 <= leaf_count <= MAX_LEAVES or len(nodes) != EXIT_TREE_DEPTH:
            raise ValueError(f"a frontier has {EXIT_TREE_DEPTH} nodes and at most {MAX_LEAVES} leaves")
        self.leaf_count = leaf_count
        self._nodes = list(nodes)

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """32 nodes; those of heights whose bit in `leaf_count` is 0 are left over and mean nothing."""
        return tuple(self._nodes)

    def copy(self) -> "ExitFrontier":
        """One that appends on its own."""
        return ExitFrontier(self.leaf_count, self._nodes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf. Raises LeafIndexOverflow where the tree is full."""
        if self.leaf_count >= MAX_LEAVES:
            raise LeafIndexOverflow()
        nodes, height, node = self._nodes, 0, leaf
        self.leaf_count = remaining = self.leaf_count + 1
        while not remaining & 1:
            node = _keccak_256(nodes[height] + node).digest()
            height += 1
            remaining >>= 1
        nodes[height] = node

    def root(self) -> bytes:
        """32 bytes; `EMPTY_LER` without leaves."""
        node, remaining = ZERO_HASH, self.leaf_count
        for left, empty in zip(self._nodes, EMPTY_ROOTS):
            node = _keccak_256(left + node if remaining & 1 else node + empty).digest()
            remaining >>= 1
        return node


class ExitTree:
    """All leaves and all complete subtrees, so that any leaf can be proven against the root at any earlier count.

    A complete subtree never changes, so an older tree differs in the subtrees along its right edge only: 32 hashes per
    count, which are kept for the counts asked for last. About 150 bytes of memory per leaf.
    """

    __slots__ = ("_folds", "_levels")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[] for _ in range(EXIT_TREE_DEPTH)]
        self._folds: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()
        self.append_many(leaves)

    @property
    def leaf_count(self) -> int:
        """Leaves so far."""
        return len(self._levels[0])

    @property
    def leaves(self) -> Sequence[bytes]:
        """The leaves in order; not to be changed."""
        return self._levels[0]

    def append_many(self, leaves: Iterable[bytes]) -> None:
        """Add leaves in order. Raises LeafIndexOverflow before the first that does not fit."""
        added = list(leaves)
        if self.leaf_count + len(added) > MAX_LEAVES:
            raise LeafIndexOverflow()
        self._levels[0].extend(added)
        for level, above in zip(self._levels, self._levels[1:]):
            if len(level) // 2 == len(above):
                break
            for at in range(2 * len(above), len(level) - 1, 2):
                above.append(_keccak_256(level[at] + level[at + 1]).digest())

    def truncate(self, leaf_count: int) -> None:
        """Forget the leaves from `leaf_count` on. Raises IndexError where there are fewer."""
        self._check_count(leaf_count)
        for height, level in enumerate(self._levels):
            del level[leaf_count >> height :]
        for count in [count for count in self._folds if count > leaf_count]:
            del self._folds[count]

    def root(self, leaf_count: int | None = None) -> bytes:
        """Root at a leaf count, by default the present one. Raises IndexError beyond the present one."""
        return self._fold(leaf_count)[EXIT_TREE_DEPTH]

    def frontier(self, leaf_count: int | None = None) -> ExitFrontier:
        """The frontier at a leaf count, equal to that of appending one leaf after another. Raises IndexError."""
        count = self._check_count(leaf_count)
        nodes = [
            level[((count >> height) - 1) & ~1] if count >> height else ZERO_HASH
            for height, level in enumerate(self._levels)
        ]
        return ExitFrontier(count, nodes)

    def siblings(self, index: int, leaf_count: int | None = None) -> tuple[bytes, ...]:
        """32 siblings, bottom-up, of leaf `index` under `root(leaf_count)`. Raises IndexError outside that tree."""
        fold = self._fold(leaf_count)
        count = self._check_count(leaf_count)
        if not 0 <= index < count:
            raise IndexError(f"leaf {index:,} of a tree of {count:,}")
        path = []
        for height, level in enumerate(self._levels):
            complete, sibling = count >> height, (index >> height) ^ 1
            if sibling < complete:
                path.append(level[sibling])
            else:
                path.append(fold[height] if sibling == complete else EMPTY_ROOTS[height])
        return tuple(path)

    def proof(self, index: int, leaf_count: int | None = None) -> MerkleProof:
        """The siblings with the root that they lead to. Raises IndexError outside that tree."""
        return MerkleProof(self.root(leaf_count), self.siblings(index, leaf_count))

    def _check_count(self, leaf_count: int | None) -> int:
        if leaf_count is None:
            return self.leaf_count
        if not 0 <= leaf_count <= self.leaf_count:
            raise IndexError(f"the tree at {leaf_count:,} leaves, while it has {self.leaf_count:,}")
        return leaf_count

    def _fold(self, leaf_count: int | None) -> tuple[bytes, ...]:
        """For each height the subtree that the count's right edge cuts; empty ones where it cuts none."""
        count = self._check_count(leaf_count)
        kept = self._folds.get(count)
        if kept is not None:
            self._folds.move_to_end(count)
            return kept
        node, fold = ZERO_HASH, [ZERO_HASH]
        for height, level in enumerate(self._levels):
            complete = count >> height
            node = _keccak_256(level[complete - 1] + node if complete & 1 else node + EMPTY_ROOTS[height]).digest()
            fold.append(node)
        self._folds[count] = kept = tuple(fold)
        if len(self._folds) > _KEPT_FOLDS:
            self._folds.popitem(last=False)
        return kept


def rollup_exit_root(local_exit_roots: Sequence[bytes]) -> bytes:
    """Root over the last local exit root of each rollup: entry `i` is that of network `i + 1`, zero if it has none.

    Without any rollup it is zero, as on L1, not the root of an empty tree.
    """
    if not local_exit_roots:
        return ZERO_HASH
    return _rollup_levels(tuple(local_exit_roots))[EXIT_TREE_DEPTH][0]


def rollup_exit_siblings(local_exit_roots: Sequence[bytes], rollup_index: int) -> tuple[bytes, ...]:
    """32 siblings, bottom-up, of the root of network `rollup_index + 1`. Raises IndexError if it is not registered."""
    if not 0 <= rollup_index < len(local_exit_roots):
        raise IndexError(f"rollup index {rollup_index} of {len(local_exit_roots)} rollups")
    levels = _rollup_levels(tuple(local_exit_roots))
    positions = [(rollup_index >> height) ^ 1 for height in range(EXIT_TREE_DEPTH)]
    return tuple(
        level[at] if at < len(level) else EMPTY_ROOTS[height]
        for height, (level, at) in enumerate(zip(levels, positions))
    )


@lru_cache(maxsize=16)
def _rollup_levels(local_exit_roots: tuple[bytes, ...]) -> list[list[bytes]]:
    """Not to be changed. Kept: all claims of one moment ask for the same."""
    level = [zero_if_empty(root) for root in local_exit_roots]
    levels = [level]
    for empty in EMPTY_ROOTS[:EXIT_TREE_DEPTH]:
        if len(level) % 2:
            level = [*level, empty]
        level = [_keccak_256(left + right).digest() for left, right in zip(level[::2], level[1::2])]
        levels.append(level)
    return levels


def global_exit_root(mainnet_exit_root: bytes, rollups_exit_root: bytes) -> bytes:
    """Commits to every exit on every network at one time."""
    return keccak256(mainnet_exit_root + rollups_exit_root)


def l1_info_leaf_hash(*, global_exit_root: bytes, block_hash: bytes, timestamp_s: int) -> bytes:
    """Leaf of the L1 info tree: a global exit root with the hash of the block before it and the time of its own."""
    return keccak256(global_exit_root + block_hash + timestamp_s.to_bytes(8, "big"))


def global_index_to_int(index: GlobalIndex) -> int:
    """The u256 that contracts and events use: bit 64 mainnet, then 32 bits of rollup index, 32 of leaf index."""
    return (_MAINNET_FLAG if index.is_mainnet else 0) | index.rollup_index << 32 | index.leaf_index


def global_index_from_int(value: int) -> GlobalIndex:
    """Only the canonical form: raises InvalidGlobalIndex for other bits, a rollup index beside the mainnet flag, or a
    rollup index whose network would not fit 32 bits."""
    is_mainnet, rollup_index = bool(value & _MAINNET_FLAG), (value >> 32) % NETWORK_LIMIT
    is_canonical = 0 <= value < 2 * _MAINNET_FLAG and not (is_mainnet and rollup_index)
    if not is_canonical or rollup_index + 1 == NETWORK_LIMIT:
        raise InvalidGlobalIndex(value=value)
    return GlobalIndex(is_mainnet, rollup_index, value % NETWORK_LIMIT)
