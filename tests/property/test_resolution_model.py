"""The barrier protocol against a naive serial reference: whatever the order of messages, the verdict is the same."""

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.model.ids import Height
from nodes.model.verdict import SignedNotice, VoidedBundle
from nodes.rules.verdict import decode_notice, decode_verdict
from tests.support.verdict_model import Block, Item, LegPlan, Node, Op, Reference, bundle_hash_of, make_params
from tests.support.verdict_world import World

NETWORKS = 3
SENDERS = 3
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Maker:
    """Makes heights whose bundles meet at hot keys, empty accounts and stale nonces."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.nonces: dict[tuple[int, int], int] = {}
        self.hot = 0

    def leg(self, network: int, op: Op, sender: int | None = None) -> LegPlan:
        random = self.random
        sender = random.randrange(SENDERS) if sender is None else sender
        nonce = self.nonces.get((network, sender), 0)
        chance = random.random()
        if chance < 0.85:
            self.nonces[network, sender] = nonce + 1
        elif nonce and chance < 0.93:
            nonce -= 1  # an old one again
        return LegPlan(network, sender, nonce, op)

    def op(self) -> Op:
        kind = self.random.choice(["send", "spend", "burn", "expect", "expect", "fail", "send"])
        if kind == "expect":
            self.hot += self.random.random() < 0.7
            return Op("expect", max(0, self.hot - 1))
        if kind == "fail" and self.random.random() < 0.6:
            kind = "send"
        return Op(kind, self.random.choice([1, 2, 7]), self.random.randint(1, NETWORKS))

    def bundle(self) -> Item:
        random = self.random
        networks = [random.randint(1, NETWORKS) for _ in range(random.randint(2, 3))]
        if random.random() < 0.4:
            return self.hop(*networks[:2])
        return Item(tuple(self.leg(network, self.op()) for network in networks))

    def hop(self, source: int, dest: int) -> Item:
        """Burn and mint; sometimes the mint is of more than was burnt."""
        sender, amount = self.random.randrange(SENDERS), self.random.choice([1, 3, 7])
        minted = amount + (self.random.random() < 0.2)
        burn = self.leg(source, Op("burn", amount, dest), sender)
        return Item((burn, self.leg(dest, Op("mint", minted, source), sender)))

    def block(self, items: int) -> Block:
        return tuple(
            Item((self.leg(self.random.randint(1, NETWORKS), self.op()),), is_plain=True)
            if self.random.random() < 0.25
            else self.bundle()
            for _ in range(self.random.randint(0, items))
        )


def aborts_of(world: World, height: int) -> tuple[object, ...]:
    return decode_verdict(world.verdicts[Height(height)].signed.verdict).aborts.aborts


def check_late_follower(world: World) -> None:
    """Somebody who reads nothing but verdicts ends where every node stands."""
    for network, node in world.nodes.items():
        late = Node(network, world.params, depth=0)
        world.post(late)
        world.post(node)
        assert late.height == node.height == world.resolver.lowest - 1
        assert late.states[-1] == node.states[-1]
        assert late.reader.hash == node.reader.hash


def run_in_any_order(world: World, random: Random, heights: list[Block]) -> None:
    """Heights, reports, repeats, restarts, in an order by chance; then everything that is left."""
    delivered = []
    waiting = list(heights)
    for _ in range(12 * len(heights) + 20):
        step = random.random()
        if step < 0.2 and waiting:
            world.sequence(waiting.pop(0))
        elif step < 0.4:
            world.read_height()
        elif step < 0.6:
            # A node may see less of the log than there is, and more than the resolver has read.
            node = random.choice(list(world.nodes.values()))
            world.post(node)
            world.report(node, visible=max(node.height, random.randint(0, len(world.log))))
        elif step < 0.85 and world.mail:
            signed = world.mail.pop(random.randrange(len(world.mail)))
            world.deliver(signed)
            delivered.append(signed)
        elif step < 0.95 and delivered:
            world.deliver(random.choice(delivered))
        elif step > 0.97:
            world.restart()
    for block in waiting:
        world.sequence(block)
    world.settle(random)


@SLOW
@given(seed=st.integers(0, 2**32), heights=st.integers(1, 4), items=st.integers(1, 6), depth=st.integers(0, 3))
def test_serial_rounds_give_the_verdict_of_the_serial_reference(
    seed: int, heights: int, items: int, depth: int
) -> None:
    random = Random(seed)
    maker = Maker(random)
    blocks = [maker.block(items) for _ in range(heights)]
    world = World(make_params(NETWORKS, serial_rounds=items), depth=depth)
    run_in_any_order(world, random, blocks)
    reference = Reference(range(1, NETWORKS + 1))
    for at, block in enumerate(blocks):
        reference.height(block, at + 1)
        assert aborts_of(world, at + 1) == reference.struck[at]
    check_late_follower(world)
    for network, node in world.nodes.items():
        assert node.states[-1].state == reference.states[network]
    assert not world.accused
    assert not world.resolver.evicted


@SLOW
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(1, 12),
    rounds=st.integers(0, 2),
    rule=st.sampled_from(["serial", "all"]),
)
def test_every_mode_ends_and_nothing_that_stands_has_failed(seed: int, items: int, rounds: int, rule: str) -> None:
    random = Random(seed)
    maker = Maker(random)
    blocks = [maker.block(items) for _ in range(2)]
    world = World(make_params(NETWORKS, serial_rounds=rounds, abort_rule=rule))
    run_in_any_order(world, random, blocks)
    check_late_follower(world)
    for height, verdict in world.verdicts.items():
        aborts = decode_verdict(verdict.signed.verdict).aborts
        # The last round is an execution without exactly this set, and nothing in it failed: `take_verdict` has checked
        # that. What is struck alone was the failing bundle of lowest ordinal; collateral is counted.
        assert len({abort.bundle_hash for abort in aborts.aborts}) == len(aborts.aborts)
        assert len(aborts.aborts) <= len(blocks[height - 1]) if height <= len(blocks) else not aborts.aborts
    exits = sum(len(node.states[-1].exits) for node in world.nodes.values())
    mints = sum(len(node.states[-1].mints) for node in world.nodes.values())
    assert mints <= exits
    assert not world.accused


@settings(SLOW, max_examples=25)
@given(seed=st.integers(0, 2**32), silent=st.integers(1, NETWORKS), depth=st.integers(0, 3))
def test_a_silent_rollup_is_evicted_and_comes_back(seed: int, silent: int, depth: int) -> None:
    random = Random(seed)
    maker = Maker(random)
    world = World(make_params(NETWORKS, serial_rounds=8), depth=depth)
    for _ in range(2):
        world.sequence(maker.block(4))
    world.settle(random)
    for _ in range(3):
        world.sequence((*maker.block(3), Item((maker.leg(silent, Op("spend", 0)),), is_plain=True)))
    world.settle(random, silent=[silent])
    assert list(world.resolver.evicted) == [silent]
    if random.random() < 0.5:
        world.restart()
    for _ in range(14):
        world.sequence((*maker.block(2), Item((maker.leg(silent, Op("spend", 0)),), is_plain=True)))
        if random.random() < 0.3:
            world.settle(random)
    world.settle(random)
    for _ in range(10):  # a notice to rejoin lies ahead of what is sequenced
        world.sequence((Item((maker.leg(silent, Op("spend", 0)),), is_plain=True),))
    world.settle(random)
    assert not world.resolver.evicted
    check_against_reference(world)
    check_late_follower(world)


def check_against_reference(world: World) -> None:
    """The reference with the same rollups evicted and bundles voided gives the same verdicts and states."""
    reference = Reference(range(1, NETWORKS + 1))
    voided: dict[bytes, VoidedBundle] = {}
    for point in world.resolver.voids:
        voided |= {bundle.bundle_hash: bundle for bundle in decode_void(point.signed.notice)}
    for at, block in enumerate(world.log):
        aborts = decode_verdict(world.verdicts[Height(at + 1)].signed.verdict).aborts
        reference.height(
            block, at + 1, left_out=[bundle.bundle_hash for bundle in voided.values()], evicted=aborts.evicted
        )
        assert tuple(abort for abort in aborts.aborts if abort.bundle_hash not in voided) == reference.struck[at]
    for network, node in world.nodes.items():
        world.post(node)
        assert node.states[-1].state == reference.states[network]


def decode_void(notice: bytes) -> tuple[VoidedBundle, ...]:
    return decode_notice(notice).voided


@settings(SLOW, max_examples=25)
@given(seed=st.integers(0, 2**32), depth=st.integers(0, 3), times=st.integers(1, 3))
def test_voided_bundles_leave_and_everything_is_resolved_again(seed: int, depth: int, times: int) -> None:
    random = Random(seed)
    maker = Maker(random)
    world = World(make_params(NETWORKS, serial_rounds=8), depth=depth)
    for _ in range(4):
        world.sequence(maker.block(4))
    world.settle(random)
    for _ in range(times):
        bundles = bundles_of(world)
        if bundles:
            world.void(random.sample(bundles, min(len(bundles), random.randint(1, 2))))
        if random.random() < 0.3:
            world.restart()
        world.sequence(maker.block(3))
        world.settle(random, silent=[1] if random.random() < 0.2 else [])
        if random.random() < 0.3:
            world.restart()
    world.settle(random)
    check_against_reference(world)
    check_late_follower(world)


class Busy:
    """Heights in which everybody has something, so that whoever is silent is missed."""

    def __init__(self, random: Random) -> None:
        self.maker = Maker(random)

    def block(self, items: int) -> Block:
        own = [Item((self.maker.leg(at, Op("spend", 0)),), is_plain=True) for at in range(1, NETWORKS + 1)]
        return (*self.maker.block(items), *own)


@settings(SLOW, max_examples=15)
@given(seed=st.integers(0, 2**32), depth=st.integers(0, 2), steps=st.integers(3, 7))
def test_voids_before_amid_and_after_evictions_and_returns(seed: int, depth: int, steps: int) -> None:
    """Silence, returns, voids, restarts in any order; who follows live and who comes late agree with the reference."""
    random = Random(seed)
    busy, world = Busy(random), World(make_params(NETWORKS, serial_rounds=8), depth=depth)
    silent: list[int] = []
    for _ in range(steps):
        for _ in range(random.choice([1, 2, 12])):
            world.sequence(busy.block(2))
            if random.random() < 0.4:
                world.settle(random, silent=silent)
        if random.random() < 0.5:
            silent = [] if silent else [random.randint(1, NETWORKS)]
        world.settle(random, silent=silent)
        bundles = bundles_of(world)
        for _ in range(random.choice([0, 1, 1, 2])):
            if bundles:
                # The second one waits for the first.
                world.void(random.sample(bundles, min(len(bundles), random.randint(1, 3))))
        if random.random() < 0.3:
            world.restart()
        world.settle(random, silent=silent)
        check_against_reference(world)
        check_late_follower(world)
    for _ in range(24):  # a notice to rejoin lies ahead of what is sequenced
        world.sequence(busy.block(0))
        world.settle(random)
    assert not world.resolver.evicted
    check_against_reference(world)
    check_late_follower(world)


def bundles_of(world: World) -> list[VoidedBundle]:
    return [
        VoidedBundle(Height(at + 1), ordinal, bundle_hash_of(at + 1, ordinal, item))
        for at, block in enumerate(world.log)
        for ordinal, item in enumerate(item for item in block if not item.is_plain)
    ]


def test_a_node_that_starts_after_a_void_knows_of_an_earlier_rejoin() -> None:
    random = Random(1)
    busy, world = Busy(random), World(make_params(NETWORKS), depth=1)
    for _ in range(2):
        world.sequence(busy.block(0))
        world.settle(random)
    world.sequence(busy.block(0))
    world.settle(random, silent=[3])
    assert list(world.resolver.evicted) == [3]
    pair = Item((busy.maker.leg(1, Op("spend", 0), 7), busy.maker.leg(2, Op("spend", 0), 7)))
    for _ in range(24):
        world.sequence((pair, *busy.block(0)))
        world.settle(random)
    assert not world.resolver.evicted
    height = 6  # between its eviction and its return
    world.void([VoidedBundle(Height(height), 0, bundle_hash_of(height, 0, pair))])
    world.settle(random)
    assert (world.resolver.epoch, world.resolver.lowest) == (1, len(world.log) + 1)
    assert [decode_notice(signed.notice).kind.name for signed in notices_at(world, height)] == ["VOID", "REJOIN"]
    check_late_follower(world)


def notices_at(world: World, height: int) -> tuple[SignedNotice, ...]:
    return decode_verdict(world.verdicts[Height(height)].signed.verdict).notices


def test_a_ring_in_one_height_strikes_nothing() -> None:
    """A to B, B to C, C to A, each in a bundle of its own, all in one height: nobody waits for anybody."""
    ring = tuple(
        Item((LegPlan(source, 0, at, Op("burn", 5, dest)), LegPlan(dest, 0, first, Op("mint", 5, source))))
        for source, dest, at, first in ((1, 2, 0, 0), (2, 3, 1, 0), (3, 1, 1, 1))
    )
    world = World(make_params(NETWORKS))
    world.sequence(ring)
    world.settle(Random(1))
    assert aborts_of(world, 1) == ()
    assert decode_verdict(world.verdicts[Height(1)].signed.verdict).rounds == 1


def test_a_bundle_built_to_make_rivals_fail_takes_nobody_with_it() -> None:
    """It moves the hot key under its rivals, and fails itself: they stand, for up to `serial_rounds` such bundles."""
    rivals = 6
    poison = tuple(Item((LegPlan(1, 0, at, Op("expect", at)), LegPlan(2, 0, at, Op("fail")))) for at in range(3))
    good = tuple(Item((LegPlan(1, 1, at, Op("expect", at)), LegPlan(3, 1, at, Op("spend", 1)))) for at in range(rivals))
    world = World(make_params(NETWORKS, serial_rounds=3))
    world.sequence(poison + good)
    world.settle(Random(1))
    struck = aborts_of(world, 1)
    assert [abort.ordinal for abort in struck] == [0, 1, 2]  # type: ignore[attr-defined]
    assert not any(abort.struck_together for abort in struck)  # type: ignore[attr-defined]
    assert world.nodes[make_params(1).networks[0].network_id].states[-1].state.hot == rivals


def test_a_replayed_bundle_moves_no_nonce() -> None:
    """Its legs are skipped, so they are left out, not burnt: the victim's nonce stays."""
    first = Item((LegPlan(1, 0, 0, Op("spend", 1)), LegPlan(2, 0, 0, Op("spend", 1))))
    world = World(make_params(NETWORKS))
    world.sequence((first,))
    world.sequence((first,))
    world.settle(Random(1))
    (abort,) = aborts_of(world, 2)
    assert abort.removed == 0b11  # type: ignore[attr-defined]
    assert world.nodes[make_params(1).networks[0].network_id].states[-1].state.nonces == {0: 1}
