"""Bonds of builders on a real anvil: when a promise is paid, and when it is not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from coincurve import PrivateKey

from nodes.evm.agglayer_contracts import BOND_VAULT
from nodes.evm.agglayer_l1_calls import (
    BondPromise,
    OutcomeProof,
    bond_claim_call,
    bond_deposit_call,
    bond_release_call,
    bond_request_withdrawal_call,
    bond_reserve_call,
    bond_withdraw_call,
)
from nodes.evm.anvil import find_anvil
from nodes.model.agglayer import NetworkId
from nodes.model.execution import LegOutcome, Status
from nodes.model.ids import Address, BundleHash, Height, hex_of
from nodes.rules.outcomes import outcome_proof, outcome_root
from nodes.rules.signing import address_of_key, sign_digest
from tests.integration.agglayer_chain import AgglayerChain, Sent
from tests.integration.agglayer_l1 import BUILDER, DELAY, L1_CHAIN, STRANGER, Ledger, running_l1
from tests.integration.anvil_chain import BOB, CAROL

BUILDER_ADDRESS = address_of_key(BUILDER)
BOND, AMOUNT = 1_000, 400
SPLIT, WHOLE, FAILED = (BundleHash(bytes([first]) * 32) for first in (0x51, 0x52, 0x53))
AT = Height(2)
FIRST, SECOND = NetworkId(1), NetworkId(2)


def outcomes(leg_index: int, *statuses: Status) -> list[LegOutcome]:
    """Of one rollup: the legs of three bundles in height 2, then those of the split one sent again, skipped."""
    legs = [LegOutcome(bundle, leg_index, AT, status) for bundle, status in zip((SPLIT, WHOLE, FAILED), statuses)]
    return [*legs, LegOutcome(SPLIT, leg_index, Height(3), Status.SKIPPED)]


# SPLIT succeeded on the first rollup alone, WHOLE on both, FAILED on neither.
LEGS = {
    FIRST: outcomes(0, Status.SUCCEEDED, Status.SUCCEEDED, Status.REVERTED),
    SECOND: outcomes(1, Status.REVERTED, Status.SUCCEEDED, Status.SKIPPED),
}


@pytest.fixture(scope="module")
def anvil() -> Path:
    return find_anvil()


@pytest.fixture
def chain(anvil: Path) -> Iterator[AgglayerChain]:
    """Both rollups have settled heights 1 to 3, and the builder has a bond."""
    with running_l1(anvil, rollups=2) as started:
        ledger, items = Ledger(), []
        for network, legs in LEGS.items():
            item = ledger.next(network)
            items.append(replace(item, range=replace(item.range, outcome_root=outcome_root(legs))))
        assert ledger.settle(started, *items).succeeded
        assert started.transact(BUILDER_ADDRESS, BOND_VAULT, bond_deposit_call(), value=BOND).succeeded
        yield started


def promise(bundle: BundleHash = SPLIT, **changes: object) -> BondPromise:
    made = BondPromise(
        builder=BUILDER_ADDRESS,
        bundle_hash=bundle,
        user=CAROL,
        amount=AMOUNT,
        expiry_block=30,
        placements=((FIRST, 0), (SECOND, 1)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def signature(made: BondPromise, *, key: PrivateKey = BUILDER) -> bytes:
    return sign_digest(made.digest(l1_chain_id=L1_CHAIN), key)


def proof(placement: int, position: int, **changes: object) -> OutcomeProof:
    """Of leaf `position` of the rollup of a placement, as it is."""
    legs = LEGS[(FIRST, SECOND)[placement]]
    made = OutcomeProof(
        placement=placement,
        settled_height=Height(3),
        height=legs[position].height,
        status=legs[position].status,
        position=position,
        siblings=outcome_proof(legs, position),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def claim(
    chain: AgglayerChain,
    made: BondPromise | None = None,
    *,
    failed: OutcomeProof | None = None,
    succeeded: OutcomeProof | None = None,
    key: PrivateKey = BUILDER,
    sender: Address = BOB,
) -> Sent:
    made = made or promise()
    call = bond_claim_call(
        made, signature(made, key=key), failed=failed or proof(1, 0), succeeded=succeeded or proof(0, 0)
    )
    return chain.transact(sender, BOND_VAULT, call)


def bond(chain: AgglayerChain) -> list[int]:
    """The bond, and what of it is reserved."""
    return [chain.read(BOND_VAULT, name, BUILDER_ADDRESS)[0] for name in ("bondOf(address)", "reservedOf(address)")]


def test_a_partly_succeeded_bundle_is_paid_once(chain: AgglayerChain) -> None:
    sent = claim(chain)
    assert sent.succeeded, sent.reason
    assert (chain.wei(CAROL), bond(chain)) == (AMOUNT, [BOND - AMOUNT, 0])
    assert claim(chain).reason == "WrongState(state=3)"
    assert chain.wei(CAROL) == AMOUNT
    print(f"bond claim: {sent.gas_used} gas")


def test_a_bundle_with_one_fate_is_not_paid(chain: AgglayerChain) -> None:
    whole = promise(WHOLE)
    assert claim(chain, whole, failed=proof(1, 1), succeeded=proof(0, 1)).reason == "LegSucceeded(placement=1)"
    lied = proof(1, 1, status=Status.REVERTED)
    assert claim(chain, whole, failed=lied, succeeded=proof(0, 1)).reason == (
        "OutcomeNotProved(rollupID=2, legIndex=1)"
    )
    failed = promise(FAILED)
    assert claim(chain, failed, failed=proof(1, 2), succeeded=proof(0, 2)).reason == "LegNotSucceeded(placement=0)"
    lied = proof(0, 2, status=Status.SUCCEEDED)
    assert claim(chain, failed, failed=proof(1, 2), succeeded=lied).reason == (
        "OutcomeNotProved(rollupID=1, legIndex=0)"
    )
    # Another bundle's failure proves nothing about this one.
    assert claim(chain, failed=proof(1, 2)).reason == "OutcomeNotProved(rollupID=2, legIndex=1)"


def test_a_replay_of_a_bundle_does_not_count_against_it(chain: AgglayerChain) -> None:
    whole_again = proof(0, 3)
    assert claim(chain, failed=whole_again).reason == "HeightsDiffer(one=3, other=2)"


def test_proofs_must_lead_to_a_settled_root(chain: AgglayerChain) -> None:
    assert claim(chain, failed=proof(1, 0, settled_height=Height(4))).reason == (
        "RangeNotSettled(rollupID=2, lastHeight=4)"
    )
    unproved = "OutcomeNotProved(rollupID=2, legIndex=1)"
    genuine = proof(1, 0)
    for changed in (
        replace(genuine, position=1),
        replace(genuine, position=4),
        replace(genuine, siblings=genuine.siblings[:-1]),
        replace(genuine, siblings=(*genuine.siblings, bytes(32))),
        replace(genuine, status=Status.ABORTED),
    ):
        assert claim(chain, failed=changed).reason == unproved
    assert claim(chain, failed=replace(genuine, placement=2)).reason == "PlacementUnknown(placement=2)"
    # The same leaf under the other rollup's name.
    assert claim(chain, failed=replace(genuine, placement=0)).reason == "OutcomeNotProved(rollupID=1, legIndex=0)"


def test_a_promise_is_the_builders_and_as_he_signed_it(chain: AgglayerChain) -> None:
    stranger = hex_of(address_of_key(STRANGER))
    assert claim(chain, key=STRANGER).reason == (
        f"NotSignedByBuilder(signer={stranger}, builder={hex_of(BUILDER_ADDRESS)})"
    )
    made = promise()
    for changed in (
        replace(made, amount=AMOUNT + 1),
        replace(made, user=BOB),
        replace(made, expiry_block=31),
        replace(made, placements=((FIRST, 0), (SECOND, 1), (SECOND, 0))),
    ):
        call = bond_claim_call(changed, signature(made), failed=proof(1, 0), succeeded=proof(0, 0))
        assert chain.transact(BOB, BOND_VAULT, call).reason.startswith("NotSignedByBuilder(")


def test_a_promise_ends(chain: AgglayerChain) -> None:
    made = promise(expiry_block=chain.block_number() + 2)
    assert claim(chain, made, failed=proof(1, 2)).reason.startswith("OutcomeNotProved(")
    assert claim(chain, made).succeeded
    over = promise(expiry_block=chain.block_number(), amount=1)
    assert claim(chain, over).reason == f"PromiseExpired(expiryBlock={over.expiry_block})"


def test_a_reserved_promise_comes_before_others(chain: AgglayerChain) -> None:
    made = promise(amount=700, expiry_block=chain.block_number() + 6)
    forged = bond_reserve_call(made, signature(made, key=STRANGER))
    assert chain.transact(CAROL, BOND_VAULT, forged).reason.startswith("NotSignedByBuilder(")
    assert chain.transact(CAROL, BOND_VAULT, bond_reserve_call(made, signature(made))).succeeded
    assert bond(chain) == [BOND, 700]
    again = chain.transact(CAROL, BOND_VAULT, bond_reserve_call(made, signature(made)))
    assert again.reason.startswith("WrongState(")
    assert claim(chain).reason == f"BondTooSmall(available=300, needed={AMOUNT})"
    assert chain.transact(BOB, BOND_VAULT, bond_release_call(made)).reason.startswith("PromiseNotExpired(")
    assert claim(chain, made).succeeded
    assert (chain.wei(CAROL), bond(chain)) == (700, [300, 0])


def test_an_expired_reservation_is_released(chain: AgglayerChain) -> None:
    made = promise(amount=700, expiry_block=chain.block_number() + 2)
    assert chain.transact(BOB, BOND_VAULT, bond_release_call(made)).reason.startswith("WrongState(")
    assert chain.transact(CAROL, BOND_VAULT, bond_reserve_call(made, signature(made))).succeeded
    assert claim(chain, made).reason.startswith("PromiseExpired(")
    assert chain.transact(BOB, BOND_VAULT, bond_release_call(made)).succeeded
    assert bond(chain) == [BOND, 0]
    assert chain.transact(CAROL, BOND_VAULT, bond_reserve_call(made, signature(made))).reason.startswith("WrongState(")


def test_a_bond_is_withdrawn_after_the_delay(chain: AgglayerChain) -> None:
    def withdraw() -> Sent:
        return chain.transact(BUILDER_ADDRESS, BOND_VAULT, bond_withdraw_call())

    assert withdraw().reason == "WithdrawalNotRequested()"
    request = chain.transact(BUILDER_ADDRESS, BOND_VAULT, bond_request_withdrawal_call(amount=BOND))
    allowed = request.block_number + DELAY
    assert withdraw().reason == f"WithdrawalNotBefore(blockNumber={allowed})"
    # Until then the bond still answers.
    made = promise(amount=1)
    assert claim(chain, made).succeeded
    held = promise(amount=600)
    assert chain.transact(CAROL, BOND_VAULT, bond_reserve_call(held, signature(held))).succeeded
    chain.mine(allowed - chain.block_number())
    assert withdraw().reason == "BondTooSmall(available=399, needed=1000)"
    chain.transact(BUILDER_ADDRESS, BOND_VAULT, bond_request_withdrawal_call(amount=399))
    chain.mine(DELAY)
    before = chain.wei(BUILDER_ADDRESS)
    assert withdraw().succeeded
    assert (chain.wei(BUILDER_ADDRESS), bond(chain)) == (before + 399, [600, 600])
    assert withdraw().reason == "WithdrawalNotRequested()"
