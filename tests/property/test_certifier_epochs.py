"""Whatever is voided, refused or restarted: settled certificates agree with the chain, or the certifier has stopped."""

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.model.agglayer import MAINNET, BridgeExit
from nodes.model.bridge_activity import SafeHeight
from nodes.model.ids import Height
from nodes.ports import ClaimProofs
from nodes.rollup.certifier_build import Built, CertificateBuilder
from nodes.rollup.certifier_store import CertifierStore
from nodes.rules.certificate import unpack_chain_data
from nodes.rules.outcomes import outcome_root
from tests.support.certifier import KEY, OTHER, OWN, claims_of, exit_to, safe

STEPS = 60


class World:
    """A rollup's chain, its certifier's store and builder, and what was settled."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.random = Random(seed)
        self.chain: list[SafeHeight] = []
        self.again: list[SafeHeight] = []
        """Heights of the epoch before, which come again equal or otherwise."""
        self.highest_void = 0
        """Exits that are certified were made here at the latest, as the epochs before had it."""
        self.delivered = 0
        self.epoch = 0
        self.settled: list[Built] = []
        self.pending: Built | None = None
        self.open()

    def open(self) -> None:
        self.store = CertifierStore(self.path)
        self.builder = CertificateBuilder(self.store, network_id=OWN, signers=[KEY], max_exits=3)

    def restart(self) -> None:
        self.store.close()
        self.open()
        have = self.store.height
        assert have <= max((entry.height for entry in self.chain), default=0)
        self.delivered = sum(entry.height <= have for entry in self.chain)

    def grow(self) -> None:
        height = self.chain[-1].height + 1 if self.chain else 1
        leaves = sum(len(entry.activity.exits) for entry in self.chain)
        before = [entry for entry in self.again if entry.height == height]
        if before and self.random.random() < 0.9:
            exits = [made._replace(leaf_index=leaves + at) for at, made in enumerate(before[0].activity.exits)]
            activity = replace(before[0].activity, exits=tuple(exits))
            self.chain.append(replace(before[0], epoch=self.epoch, activity=activity))
            return
        if height <= max((entry.height for entry in self.again), default=0) and self.random.random() < 0.5:
            height += 1
        self.chain.append(
            safe(
                height,
                epoch=self.epoch,
                block=self.random.randrange(200),
                exits=[(leaves + at, exit_to(self.random.randrange(3))) for at in range(self.random.randrange(3))],
                mints=[(OTHER, height, 2)] if self.random.random() < 0.3 else [],
                claims=[(MAINNET, height, 3, True)] if self.random.random() < 0.3 else [],
            )
        )

    def deliver(self) -> None:
        count = self.random.randrange(4)
        self.store.add(self.chain[self.delivered : self.delivered + count])
        self.delivered = min(len(self.chain), self.delivered + count)

    def void(self) -> None:
        height = self.random.randrange(1, 2 + (self.chain[-1].height if self.chain else 0))
        self.epoch += 1
        self.store.begin_epoch(self.epoch, Height(height))
        self.again = [entry for entry in self.chain if entry.height >= height]
        self.highest_void = max([self.highest_void, *(entry.height for entry in self.again)])
        self.chain = [entry for entry in self.chain if entry.height < height]
        self.delivered = min(self.delivered, len(self.chain))

    def certify(self) -> None:
        if self.pending is not None or self.store.contested:
            return
        wanted = self.builder.wanted()
        known = {entry.global_index: entry.exit for entry in wanted if self.random.random() < 0.5}
        built = self.builder.build(wanted, ClaimProofs(l1_info_tree_leaf_count=1, claims=claims_of(known)))
        if built is not None:
            built.keep(self.store)
            self.pending = built

    def end(self) -> None:
        if self.pending is None:
            return
        if self.random.random() < 0.5:
            self.settled.append(self.pending)
        else:
            self.store.drop_certificates(self.pending.row.height)
        self.pending = None

    def check(self) -> None:
        """What is settled continues itself always, and is the chain's unless the store says that it is not."""
        ends = [(built.row.first_height, built.row.last_height) for built in self.settled]
        assert all(first == last_before + 1 for (_, last_before), (first, _) in pairwise(ends))
        imports = [made.global_index for built in self.settled for made in built.certificate.imported_bridge_exits]
        assert len(imports) == len(set(imports))
        if self.store.contested or self.delivered < len(self.chain):
            return
        exits = [made.exit for entry in self.chain for made in entry.activity.exits]
        for built in [*self.settled, *([] if self.pending is None else [self.pending])]:
            first, last, leaves = built.row.first_height, built.row.last_height, built.row.leaf_count
            certified = list(built.certificate.bridge_exits)
            if self.chain and self.chain[-1].height >= self.highest_void:
                assert plain(exits[leaves - len(certified) : leaves]) == plain(certified)
            data = unpack_chain_data(built.certificate.custom_chain_data)
            within = [entry for entry in self.chain if first <= entry.height <= last]
            if data is None or not self.chain or self.chain[-1].height < last:
                continue
            assert within[-1].block_hash == data.settled.last_block_hash
            assert outcome_root([fate for entry in within for fate in entry.outcomes]) == data.settled.outcome_root


def plain(exits: list[BridgeExit]) -> list[int]:
    return [made.amount for made in exits]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_settled_is_the_chains(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as directory:
        world = World(Path(directory) / "certifier.sqlite", seed)
        steps = [world.grow, world.deliver, world.certify, world.end, world.restart, world.void]
        for _ in range(STEPS):
            world.random.choices(steps, weights=[8, 9, 5, 5, 1, 2])[0]()
            world.check()
        world.store.close()
