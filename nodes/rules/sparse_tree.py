"""Sparse Merkle trees: balances by token (depth 192) and claimed exits (depth 64), over any hash of two nodes.

A tree is a value: an update gives a new tree that shares what did not change, so a certificate is tried on the new one
and dropping it costs nothing; nodes that no tree refers to any more are gone. A subtree with one leaf is kept as that
leaf, and a run of one-sided nodes as the hash at its top: a leaf costs about two nodes of memory at any depth (a map
from node hash to node needs 192 per balance), and is paid for with the hashes of the run when a new key splits it.

A path is an integer of `depth` bits whose highest bit is taken at the root, 1 for right. Height counts from the leaves.
An empty leaf is 32 zero bytes and cannot be told from one that was never set; an empty subtree has the root of a full
tree of empty leaves. It knows no tokens' meaning and no certificates. Source: agglayer/agglayer `agglayer-tries`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from sha3 import keccak_256 as _keccak_256

from nodes.model.agglayer import NetworkId, TokenInfo
from nodes.model.ids import ZERO_HASH
from nodes.model.proof_errors import KeyPresent

HashPair = Callable[[bytes, bytes], bytes]
"""(left, right) to their parent; 32 bytes each."""

BALANCE_DEPTH = 192
NULLIFIER_DEPTH = 64
NULLIFIER_SET = b"\x01" + bytes(31)
"""Leaf of a claimed exit."""

_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def balance_path(token: TokenInfo) -> int:
    """Path of a token: 32 bits of its network, then the bytes of its address, each lowest bit first."""
    network, address = token
    return int.from_bytes((network.to_bytes(4, "little") + address).translate(_REVERSED_BITS), "big")


def nullifier_path(network_id: NetworkId, leaf_index: int) -> int:
    """Path of an exit of a network: 32 bits of the network, then 32 of its leaf index, each lowest bit first."""
    key = network_id.to_bytes(4, "little") + leaf_index.to_bytes(4, "little")
    return int.from_bytes(key.translate(_REVERSED_BITS), "big")


def keccak_pair(left: bytes, right: bytes) -> bytes:
    """The hash of the canonical trees."""
    digest: bytes = _keccak_256(left + right).digest()
    return digest


@lru_cache(maxsize=16)
def empty_roots(hash_pair: HashPair, depth: int) -> tuple[bytes, ...]:
    """Root of an empty subtree of each height, 0 to `depth`."""
    roots = [ZERO_HASH]
    for _ in range(depth):
        roots.append(hash_pair(roots[-1], roots[-1]))
    return tuple(roots)


@lru_cache(maxsize=16)
def _claimed_spine(hash_pair: HashPair, depth: int) -> tuple[bytes, ...]:
    """The leaf of a claimed exit below nothing but left turns, by height: all small leaf indexes end in them."""
    spine = [NULLIFIER_SET]
    for empty in empty_roots(hash_pair, depth)[:depth]:
        spine.append(hash_pair(spine[-1], empty))
    return tuple(spine)


class _Node:
    """A subtree that is not empty: a leaf (height 0), or a fork whose two sides hold leaves.

    `base` is its hash at its own height, `top_hash` that at height `top`, one below the fork above it.
    """

    __slots__ = ("base", "height", "left", "path", "right", "top", "top_hash")

    def __init__(
        self,
        *,
        path: int,
        height: int,
        base: bytes,
        top: int,
        top_hash: bytes,
        left: "_Node | None",
        right: "_Node | None",
    ) -> None:
        self.path: Final = path
        """Path of any leaf below."""
        self.height: Final = height
        self.base: Final = base
        self.top: Final = top
        self.top_hash: Final = top_hash
        self.left: Final = left
        self.right: Final = right


_Items = Sequence[tuple[int, bytes]]


class SparseTree:
    """An immutable tree; see the module."""

    __slots__ = ("_empty", "_hash_pair", "_node", "depth")

    def __init__(self, depth: int, hash_pair: HashPair = keccak_pair, *, _node: _Node | None = None) -> None:
        self.depth: Final = depth
        self._hash_pair: Final = hash_pair
        self._empty: Final = empty_roots(hash_pair, depth)
        self._node: Final = _node

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._empty[self.depth] if self._node is None else self._node.top_hash

    def get(self, path: int) -> bytes:
        """The leaf at a path, 32 zero bytes where there is none. Raises IndexError beyond the depth."""
        self._check(path)
        node = self._node
        while node is not None and not (path ^ node.path) >> node.height:
            if not node.height:
                return node.base
            node = node.right if path >> node.height - 1 & 1 else node.left
        return ZERO_HASH

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Every leaf that is set, in ascending order of paths: all that is needed to build the tree again."""
        waiting = [self._node]
        while waiting:
            node = waiting.pop()
            if node is None:
                continue
            if not node.height:
                yield node.path, node.base
            waiting += (node.right, node.left)

    def updated(self, items: Iterable[tuple[int, bytes]]) -> "SparseTree":
        """The tree with these leaves; zero removes one, and of two values for a path the last counts.

        Each node above several changed leaves is hashed once. Raises IndexError beyond the depth, ValueError unless
        every value has 32 bytes.
        """
        changed = []
        for path, value in sorted(dict(items).items()):
            if len(value) != len(ZERO_HASH):
                raise ValueError(f"a leaf has {len(ZERO_HASH)} bytes, not {len(value)}")
            if self.get(path) != value:
                changed.append((path, value))
        if not changed:
            return self
        node = self._merged(self._node, changed, self.depth)
        return SparseTree(self.depth, self._hash_pair, _node=node)

    def inclusion_siblings(self, path: int) -> tuple[bytes, ...]:
        """`depth` siblings of the leaf at a path, bottom-up, set or not. Raises IndexError beyond the depth."""
        return tuple(self._siblings(path)[0])

    def non_inclusion_siblings(self, path: int) -> tuple[bytes, ...]:
        """Siblings from the root down to the first empty subtree on the way to a path that is not set.

        None for an empty tree. Raises KeyPresent if the path is set, IndexError beyond the depth.
        """
        siblings, empty_height = self._siblings(path)
        if empty_height is None:
            raise KeyPresent(path=path)
        return tuple(siblings[empty_height:][::-1])

    def _siblings(self, path: int) -> tuple[list[bytes], int | None]:
        """Siblings bottom-up, and the height of the highest empty subtree on the path, None if the leaf is set."""
        self._check(path)
        siblings = list(self._empty[: self.depth])
        node, empty_height = self._node, self.depth if self._node is None else None
        while node is not None:
            split = (path ^ node.path).bit_length()
            if split > node.height:
                siblings[split - 1] = self._lifted(node, split - 1).top_hash
                return siblings, split - 1
            if not node.height:
                break
            to_right = path >> node.height - 1 & 1
            beside, node_below = (node.left, node.right) if to_right else (node.right, node.left)
            assert beside is not None, "both sides of a fork hold leaves"
            siblings[node.height - 1] = beside.top_hash
            node = node_below
        return siblings, empty_height

    def _check(self, path: int) -> None:
        if path < 0 or path >> self.depth:
            raise IndexError(f"path {path:#x} in a tree of depth {self.depth}")

    def _merged(self, node: _Node | None, items: _Items, top: int) -> _Node | None:
        """The subtree of height `top` after the items, which are sorted, lie in it and differ from what it holds."""
        if not items:
            return None if node is None else self._lifted(node, top)
        first, last = items[0][0], items[-1][0]
        # Sorted, so that no path between the ends forks off higher than they do.
        split = (first ^ last).bit_length()
        if node is not None:
            split = max(split, node.height, (first ^ node.path).bit_length(), (last ^ node.path).bit_length())
        if not split:
            value = items[0][1]
            return None if value == ZERO_HASH else self._topped(first, 0, value, top, None, None)
        bit = split - 1
        middle = next((at for at, (path, _) in enumerate(items) if path >> bit & 1), len(items))
        left, right = (None, None) if node is None else (node.left, node.right)
        if node is not None and split > node.height:
            left, right = (None, node) if node.path >> bit & 1 else (node, None)
        left = self._merged(left, items[:middle], bit)
        right = self._merged(right, items[middle:], bit)
        if left is None or right is None:
            alone = left or right
            return None if alone is None else self._lifted(alone, top)
        return self._topped(left.path, split, self._hash_pair(left.top_hash, right.top_hash), top, left, right)

    def _lifted(self, node: _Node, top: int) -> _Node:
        if node.top == top:
            return node
        if node.top < top:
            top_hash = self._climbed(node.top_hash, node.path, node.top, top)
        else:
            top_hash = self._climbed(node.base, node.path, node.height, top)
        return _Node(
            path=node.path,
            height=node.height,
            base=node.base,
            top=top,
            top_hash=top_hash,
            left=node.left,
            right=node.right,
        )

    def _topped(self, path: int, height: int, base: bytes, top: int, left: _Node | None, right: _Node | None) -> _Node:
        top_hash = self._climbed(base, path, height, top)
        return _Node(path=path, height=height, base=base, top=top, top_hash=top_hash, left=left, right=right)

    def _climbed(self, digest: bytes, path: int, height: int, top: int) -> bytes:
        """From `height` up to `top` where every sibling is empty."""
        hash_pair, empty = self._hash_pair, self._empty
        if digest == NULLIFIER_SET and not height:
            turn = path & -path
            height = min(top, turn.bit_length() - 1 if turn else self.depth)
            digest = _claimed_spine(hash_pair, self.depth)[height]
        for at in range(height, top):
            digest = hash_pair(empty[at], digest) if path >> at & 1 else hash_pair(digest, empty[at])
        return digest
