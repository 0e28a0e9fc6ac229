"""The table of cases of the architecture, on the wire: submitted to a real sequencer, followed, verified, derived.

Every row has exactly the result that the table states. What an engine decides after derivation (a skipped or reverted
leg) is tested where an engine runs; such rows are tested here up to derivation and say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nodes.model.bundle import Bundle, Trailer
from nodes.model.ids import BundleHash
from nodes.rules import rlp
from nodes.rules.bundle import bundle_hash
from nodes.rules.lazy import placed_bytes
from nodes.rules.payload import SECP256K1_N, sign
from nodes.wire.bundles import bundle_from_bytes, bundle_to_bytes
from tests.support.crafting import CHAINS, KEYS, ROLLUPS, LegPlan, bundle, lone, make_testnet, plain, signed_legs
from tests.support.sequencers import Reader, fates_of, make_node, sequenced_height, serving

A, B, C, _ = CHAINS
OTHER_BYTES = b"\x78\x01"
"""A field that no reader knows: the same bundle in other bytes, which the sequencer takes for another submission."""
LEG_A, LEG_B = LegPlan(chain=A), LegPlan(chain=B)
PAIR = (LEG_A, LEG_B)
ADMITTED = "admitted"


def trailer_of(plans: Sequence[LegPlan], index: int, *, count: int | None = None) -> Trailer:
    wanted = bundle_hash(version=1, expiry=0, leg_hashes=[plan.leg_hash() for plan in plans])
    return Trailer(BundleHash(wanted), index, len(plans) if count is None else count)


def signed(plan: LegPlan, trailer: Trailer | None = None) -> bytes:
    return sign(plan.unsigned(), KEYS[plan.key], trailer)


def with_signature(payload: bytes, *, r: int | None = None, s: int | None = None, flip: bool = False) -> bytes:
    """A type 2 payload with other signature values."""
    fields = rlp.decode(payload[1:])
    assert not isinstance(fields, bytes)
    parity, old_r, old_s = (int.from_bytes(bytes(value), "big") for value in fields[9:12])  # type: ignore[arg-type]
    changed = (parity ^ flip, old_r if r is None else r, old_s if s is None else s)
    items = [rlp.encode(item) for item in fields[:9]] + [rlp.encode_int(value) for value in changed]
    return payload[:1] + rlp.encode_list(items)


def high_s(payload: bytes) -> bytes:
    """The other valid signature of the same digest, which Ethereum refuses."""
    fields = rlp.decode(payload[1:])
    return with_signature(payload, s=SECP256K1_N - int.from_bytes(bytes(fields[11]), "big"), flip=True)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row, or one of the things that a row names."""

    steps: Sequence[Sequence[Bundle | bytes]]
    """Submissions; each step is one call, and the next waits until it is sequenced."""
    fates: Mapping[int, Sequence[str]]
    """By chain, what derivation makes of each payload in order."""
    options: Mapping[str, Any] = field(default_factory=dict)
    testnet: Mapping[str, Any] = field(default_factory=dict)
    sequencer_testnet: Mapping[str, Any] = field(default_factory=dict)
    """What the sequencer takes for the testnet's parameters, where that differs."""


LEGS = signed_legs(PAIR)
SHARED = (LegPlan(chain=A), LegPlan(chain=C))
TWO_ON_A = (LegPlan(chain=A), LegPlan(chain=A, nonce=1), LegPlan(chain=B))
WRONG_CHAIN = LegPlan(chain=99)
BLOB_TYPE = b"\x03" + LEGS[1][1:]
SYSTEM_TYPE = b"\x7e" + LEGS[1][1:]

CASES: Mapping[str, Case] = {
    "a leg missing": Case(
        steps=[[bundle(PAIR, replace={1: b"\xff"})]],
        fates={A: ["incomplete"], B: ["malformed"]},
    ),
    "a leg at the next height": Case(
        steps=[[bundle(PAIR, replace={1: b"\xff"})], [bundle(PAIR, replace={0: b"\xff"})]],
        fates={A: ["incomplete", "malformed"], B: ["malformed", "incomplete"]},
    ),
    "legs reordered against the row": Case(
        steps=[[bundle(TWO_ON_A, replace=dict(enumerate([signed_legs(TWO_ON_A)[at] for at in (1, 0, 2)])))]],
        fates={A: ["void_row", "void_row"], B: ["void_row"]},
    ),
    "a wrong index": Case(
        steps=[[bundle(PAIR, replace={1: signed(LEG_B, trailer_of(PAIR, 0))})]],
        fates={A: ["void_row"], B: ["void_row"]},
    ),
    "a wrong count": Case(
        steps=[[bundle(PAIR, replace={1: signed(LEG_B, trailer_of(PAIR, 1, count=3))})]],
        fates={A: ["void_row"], B: ["void_row"]},
    ),
    "the bundle submitted twice in one block": Case(
        steps=[[bundle(PAIR), bundle_to_bytes(bundle(PAIR)) + OTHER_BYTES]],
        fates={A: [ADMITTED, "duplicate"], B: [ADMITTED, "duplicate"]},
    ),
    "the bundle submitted again within the replay window": Case(
        steps=[[bundle(PAIR)], [bundle_to_bytes(bundle(PAIR)) + OTHER_BYTES]],
        fates={A: [ADMITTED, "duplicate"], B: [ADMITTED, "duplicate"]},
        testnet={"replay_window": 1_000},
    ),
    "one leg copied as a plain payload, before the bundle": Case(
        steps=[[lone(A, LEGS[0]), bundle(PAIR)]],
        fates={A: ["stray_leg", ADMITTED], B: [ADMITTED]},
    ),
    "one leg copied as a plain payload, behind the bundle": Case(
        steps=[[bundle(PAIR), lone(B, LEGS[1])]],
        fates={A: [ADMITTED], B: [ADMITTED, "stray_leg"]},
    ),
    "a trailer put onto a foreign transaction": Case(
        steps=[[lone(B, signed(LegPlan(chain=B, key=3, value=9), trailer_of(PAIR, 1))), bundle(PAIR)]],
        fates={A: [ADMITTED], B: ["stray_leg", ADMITTED]},
    ),
    "another sender's equal content in a leg's place": Case(
        steps=[[bundle(PAIR, replace={1: signed(LegPlan(chain=B, key=3), trailer_of(PAIR, 1))})]],
        fates={A: ["incomplete"], B: ["incomplete"]},
    ),
    # The engine skips the leg on A in the second: tested with an engine.
    "two bundles sharing a nonce": Case(
        steps=[[bundle(PAIR), bundle(SHARED)]],
        fates={A: [ADMITTED, ADMITTED], B: [ADMITTED], C: [ADMITTED]},
    ),
    "a leg over the gas cap": Case(
        steps=[[bundle((LEG_A, LegPlan(chain=B, gas_limit=1_000_001)))]],
        fates={A: ["incomplete"], B: ["over_limit"]},
    ),
    "a leg at a position past max_payloads": Case(
        steps=[[plain(LegPlan(chain=B, key=1)), plain(LegPlan(chain=B, key=2)), bundle(PAIR)]],
        fates={A: ["incomplete"], B: [ADMITTED, ADMITTED, "over_limit"]},
        testnet={"max_payloads": 2},
        sequencer_testnet={"max_payloads": 3},  # one with the readers' own limit would not place it there
    ),
    "expired": Case(
        steps=[[plain(LegPlan(chain=C))], [bundle(PAIR, expiry=1)]],
        fates={A: ["expired"], B: ["expired"], C: [ADMITTED]},
    ),
    "wrong chain id": Case(
        steps=[[bundle(PAIR, replace={1: signed(WRONG_CHAIN, trailer_of(PAIR, 1))})]],
        fates={A: ["incomplete"], B: ["wrong_chain"]},
    ),
    "a bad signature": Case(
        steps=[[bundle(PAIR, replace={1: with_signature(LEGS[1], r=0)})]],
        fates={A: ["incomplete"], B: ["bad_signature"]},
    ),
    "a high-s signature": Case(
        steps=[[bundle(PAIR, replace={1: high_s(LEGS[1])})]],
        fates={A: ["incomplete"], B: ["bad_signature"]},
    ),
    "a blob transaction": Case(
        steps=[[bundle(PAIR, replace={1: BLOB_TYPE})]],
        fates={A: ["incomplete"], B: ["unsupported_type"]},
    ),
    "a system transaction, which would mint": Case(
        steps=[[bundle(PAIR, replace={1: SYSTEM_TYPE}), lone(C, SYSTEM_TYPE)]],
        fates={A: ["incomplete"], B: ["unsupported_type"], C: ["unsupported_type"]},
    ),
    # The engine skips the second, whose nonce has a gap: tested with an engine.
    "the sender's earlier leg was dropped": Case(
        steps=[[bundle(PAIR, replace={1: b"\xff"}), plain(LegPlan(chain=A, nonce=1))]],
        fates={A: ["incomplete", ADMITTED], B: ["malformed"]},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_row(tmp_path: Path, case: Case) -> None:
    testnet = make_testnet(**case.testnet)
    sequencer_testnet = make_testnet(**{**case.testnet, **case.sequencer_testnet})
    async with serving(make_node(tmp_path, testnet=sequencer_testnet, **case.options)) as client:
        height = 0
        for step in case.steps:
            data = [item if isinstance(item, bytes) else bundle_to_bytes(item) for item in step]
            tickets = await client.submit(data)
            assert all(ticket.accepted and not ticket.duplicate for ticket in tickets)
            last = bundle_from_bytes(data[-1]).legs[-1]
            height = await sequenced_height(client, last.rollup_id, last.payload, above=height)
        readers = {rollup_id: Reader(rollup_id, testnet=testnet) for rollup_id in ROLLUPS}
        for reader in readers.values():
            await reader.read_until(client, height)
    found = fates_of(readers)
    assert {chain: found[ROLLUPS[at]] for at, chain in enumerate(CHAINS)} == {
        chain: case.fates.get(chain, []) for chain in CHAINS
    }


async def test_a_bundle_larger_than_what_is_left_goes_to_the_next_block_whole(tmp_path: Path) -> None:
    small, large = bundle(PAIR), bundle([LegPlan(chain=A, nonce=1, calldata=bytes(600)), LegPlan(chain=B, nonce=1)])
    room = placed_bytes(small) + placed_bytes(large) - 1
    async with serving(make_node(tmp_path, block_bytes_max=room)) as client:
        await client.submit([bundle_to_bytes(small), bundle_to_bytes(large)])
        heights = [
            [await sequenced_height(client, leg.rollup_id, leg.payload) for leg in made.legs] for made in (small, large)
        ]
        readers = {rollup_id: Reader(rollup_id) for rollup_id in ROLLUPS[:2]}
        for reader in readers.values():
            await reader.read_until(client, max(heights[1]))
    (first,), (second,) = (set(legs) for legs in heights)
    assert second == first + 1
    assert fates_of(readers) == {rollup_id: [ADMITTED, ADMITTED] for rollup_id in readers}
