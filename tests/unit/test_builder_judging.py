"""Which bundles of a batch a builder orders: a model of chains instead of engines, and the rule itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nodes.agglayer.builder_judging import ROUNDS_TOGETHER, Judging, LegResult, Ordered, PlannedLeg
from nodes.agglayer.builder_offers import Offer, OfferedLeg
from nodes.model.agglayer import AgglayerParams, NetworkId, NetworkParams
from nodes.model.execution import Status, Transaction
from nodes.model.ids import Address, BundleHash, ChainId, SubmissionHash, TxHash

ONE, TWO, THREE = NetworkId(1), NetworkId(2), NetworkId(3)
NAMES = {ONE: "red", TWO: "blue", THREE: "green"}
PARAMS = AgglayerParams(
    networks=tuple(
        NetworkParams(
            network_id=network, name=name, chain_id=ChainId(7000 + network), signer=Address(b""), reporter=Address(b"")
        )
        for network, name in NAMES.items()
    ),
    resolver=Address(b""),
    serial_rounds=8,
    abort_rule="all",
    has_verdicts=False,
    l1_chain_id=ChainId(900),
    attesters=(),
    attester_threshold=1,
)
OK = LegResult(Status.SUCCEEDED)
Simulate = Callable[[NetworkId, Sequence[PlannedLeg]], list[LegResult | None]]


def leg(network: NetworkId, calldata: bytes = b"") -> OfferedLeg:
    transaction = Transaction(
        tx_type=2,
        chain_id=7000 + network,
        nonce=0,
        gas_limit=21_000,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        to=bytes(20),
        value=0,
        calldata=calldata,
        sender=Address(bytes(20)),
        tx_hash=TxHash(bytes(32)),
        trailer=None,
        leg_hash=None,
    )
    return OfferedLeg(network, transaction, b"")


def offer(name: int, *legs: OfferedLeg, is_plain: bool = False) -> Offer:
    identity = BundleHash(name.to_bytes(32, "big"))
    return Offer(
        data=identity,
        submission_hash=SubmissionHash(identity),
        bundle_hash=identity,
        legs=legs or (leg(ONE), leg(TWO)),
        is_plain=is_plain,
    )


def judge(judging: Judging, simulate: Simulate) -> Judging:
    while True:
        for network in list(judging.stale):
            planned = judging.plan(network)
            judging.take(network, planned, simulate(network, planned))
        if judging.is_done():
            return judging


def judging_of(batch: Sequence[Offer], before: Sequence[Ordered] = (), **changes: object) -> Judging:
    return Judging(before, batch, params=replace(PARAMS, **changes), names=NAMES)  # type: ignore[arg-type]


def reserves(network: NetworkId, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
    """A chain with one thing to take per network: the first leg that takes it gets it."""
    results: list[LegResult | None] = []
    is_taken = False
    for entry in planned:
        wants = entry.leg.transaction.calldata == b"take" and not entry.is_burnt
        results.append(LegResult(Status.REVERTED, "Taken()") if wants and is_taken else OK)
        is_taken = is_taken or wants
    return results


def test_what_succeeds_is_ordered_in_its_order() -> None:
    batch = [offer(3), offer(1), offer(2)]
    judging = judge(judging_of(batch), lambda _, planned: [OK] * len(planned))
    assert judging.ordered == batch
    assert (judging.rounds, judging.refused, judging.put_off) == (0, {}, set())


def test_a_rival_of_a_failing_bundle_gets_its_chance() -> None:
    takes_both = offer(1, leg(ONE, b"take"), leg(TWO, b"take"), leg(THREE, b"fail"))
    rival = offer(2, leg(ONE, b"take"), leg(TWO))

    def simulate(network: NetworkId, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
        if network == THREE:
            return [LegResult(Status.REVERTED, "Broken()") for _ in planned]
        return reserves(network, planned)

    judging = judge(judging_of([takes_both, rival]), simulate)
    assert judging.ordered == [rival]
    assert judging.refused == {takes_both.bundle_hash: "leg 2 on green reverts: Broken()"}


def test_only_networks_of_a_struck_bundle_are_simulated_again() -> None:
    asked: list[NetworkId] = []

    def simulate(network: NetworkId, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
        asked.append(network)
        return [LegResult(Status.REVERTED, "x") if entry.ordinal == 0 else OK for entry in planned]

    judge(judging_of([offer(1, leg(ONE)), offer(2, leg(TWO)), offer(3, leg(THREE))]), simulate)
    assert asked[3:] == [ONE]


def test_a_mint_needs_its_burn_in_the_same_bundle() -> None:
    leaf = b"\x07" * 32

    def simulate(network: NetworkId, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
        burnt = LegResult(Status.SUCCEEDED, exits=(leaf,))
        minted = LegResult(Status.SUCCEEDED, mints=((ONE, leaf),))
        kinds = {b"burn": burnt, b"mint": minted}
        return [kinds.get(entry.leg.transaction.calldata, OK) for entry in planned]

    good = offer(1, leg(ONE, b"burn"), leg(TWO, b"mint"))
    alone = offer(2, leg(ONE), leg(TWO, b"mint"))
    twice = offer(3, leg(ONE, b"burn"), leg(TWO, b"mint"), leg(TWO, b"mint"))
    judging = judge(judging_of([alone, good, twice]), simulate)
    assert judging.ordered == [good]
    assert judging.refused == {
        alone.bundle_hash: "leg 1 mints what no leg of the bundle burns on red",
        twice.bundle_hash: "leg 2 mints what no leg of the bundle burns on red",
    }


def test_what_is_struck_together_is_put_off_and_not_refused() -> None:
    failing = [offer(number) for number in range(1, 6)]
    fine = offer(9)

    def simulate(_: NetworkId, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
        return [OK if entry.ordinal == len(failing) else LegResult(Status.REVERTED, "x") for entry in planned]

    judging = judge(judging_of([*failing, fine], serial_rounds=2), simulate)
    assert judging.ordered == [fine]
    assert set(judging.refused) == {made.bundle_hash for made in failing[:3]}
    assert judging.put_off == {made.bundle_hash for made in failing[3:]}


def test_what_fails_without_end_puts_the_rest_off() -> None:
    batch = [offer(number) for number in range(1, 60)]

    def simulate(_: NetworkId, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
        return [LegResult(Status.REVERTED, "x"), *[None] * (len(planned) - 1)]

    judging = judge(judging_of(batch, serial_rounds=2), simulate)
    assert judging.rounds == 2 + ROUNDS_TOGETHER
    assert judging.ordered == []
    assert len(judging.refused) == 2 + ROUNDS_TOGETHER
    assert len(judging.refused) + len(judging.put_off) == len(batch)


def test_a_plain_transaction_may_fail() -> None:
    plain = offer(1, leg(ONE), is_plain=True)
    judging = judge(judging_of([plain]), lambda _, planned: [LegResult(Status.REVERTED, "x")] * len(planned))
    assert judging.ordered == [plain]


def test_what_was_ordered_before_stands_in_front() -> None:
    before = offer(1, leg(ONE, b"take"), leg(TWO, b"take"))
    late = offer(2, leg(ONE, b"take"), leg(TWO))
    assert judge(judging_of([late], [Ordered(before, 0)]), reserves).ordered == []
    # Its leg on the first network is executed: what it took there is not the model's any more.
    assert judge(judging_of([late], [Ordered(before, 0b01)]), reserves).ordered == [late]


def test_an_ordered_bundle_that_fails_is_burnt_only_where_there_are_verdicts() -> None:
    before = offer(1, leg(ONE, b"take"), leg(TWO, b"fail"))
    late = offer(2, leg(ONE, b"take"), leg(TWO))

    def simulate(network: NetworkId, planned: Sequence[PlannedLeg]) -> list[LegResult | None]:
        if network == ONE:
            return reserves(network, planned)
        fails = [entry.leg.transaction.calldata == b"fail" and not entry.is_burnt for entry in planned]
        return [LegResult(Status.REVERTED, "x") if failing else OK for failing in fails]

    assert judge(judging_of([late], [Ordered(before, 0)]), simulate).ordered == []
    judging = judge(judging_of([late], [Ordered(before, 0)], has_verdicts=True), simulate)
    assert judging.ordered == [late]
    assert judging.refused == {}
    assert [entry.is_burnt for entry in judging.plan(ONE)] == [True, False]
    # Not simulated whole: nothing is concluded about it.
    alone = judge(judging_of([offer(3, leg(ONE, b"take"))], [Ordered(before, 0)], has_verdicts=True), simulate)
    assert alone.ordered == []


@given(
    st.lists(st.lists(st.tuples(st.sampled_from([ONE, TWO, THREE]), st.booleans()), min_size=1, max_size=3), max_size=7)
)
def test_it_orders_what_one_by_one_would_be_ordered(shapes: list[list[tuple[NetworkId, bool]]]) -> None:
    batch = [
        offer(number, *[leg(network, b"take" if takes else b"") for network, takes in shape])
        for number, shape in enumerate(shapes, start=1)
    ]
    expected, taken = [], set[NetworkId]()
    for made in batch:
        wanted = [part.network_id for part in made.legs if part.transaction.calldata == b"take"]
        if taken.isdisjoint(wanted) and len(set(wanted)) == len(wanted):
            taken |= set(wanted)
            expected.append(made)
    assert judge(judging_of(batch), reserves).ordered == expected
