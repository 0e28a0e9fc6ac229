"""Every judgement of derivation that needs no engine, on crafted blocks: one test per row of the table of cases."""

from dataclasses import replace
from typing import Any

import pytest

from nodes.model.bundle import Row, RowLeg, Trailer
from nodes.model.errors import EvidenceMissing, InvalidBlock
from nodes.model.execution import Derived, DropReason
from nodes.model.ids import NOTICE_ROLLUP_ID, BundleHash, Height, RollupId
from nodes.model.sequenced_block import NO_ITEMS, FilteredBlock, RollupContent, SiblingEvidence
from nodes.rules import sequenced_block as blocks
from nodes.rules.bundle import bundle_hash, decode_row, encode_row
from nodes.rules.payload import sign
from tests.support.crafting import CHAINS, KEYS, ROLLUPS, Chain, LegPlan, bundle, lone, make_testnet, plain, signed_legs

A, B, C = CHAINS[:3]
RA, RB, RC = ROLLUPS[:3]
PAIR = (LegPlan(chain=A), LegPlan(chain=B))


def reasons(derived: Derived) -> list[DropReason]:
    return [leg.reason for leg in derived.dropped]


def admitted(derived: Derived) -> int:
    return len(derived.admitted)


def test_a_complete_bundle_is_admitted_on_both_rollups() -> None:
    derived = Chain().step([bundle(PAIR)])
    assert (admitted(derived[RA]), admitted(derived[RB]), admitted(derived[RC])) == (1, 1, 0)
    assert derived[RA].bundles == derived[RB].bundles != ()


def test_a_height_names_who_is_touched_and_each_bundles_ordinal_and_rollups() -> None:
    derived = Chain().step([bundle(PAIR), plain(LegPlan(chain=C)), bundle((LegPlan(chain=B, key=1), LegPlan(chain=A)))])
    assert {entry.touched for entry in derived.values()} == {(RA, RB, RC)}
    assert [(entry.ordinal, entry.rollup_ids) for entry in derived[RA].bundles] == [(0, (RA, RB)), (1, (RB, RA))]
    assert derived[RC].bundles == ()


def test_notices_are_read_by_everybody_in_order_and_touch_nobody() -> None:
    contents = dict(blocks.place([bundle(PAIR)]))
    contents[NOTICE_ROLLUP_ID] = RollupContent(payloads=(b"first", b"", b"third"), rows=())
    derived = Chain().step(contents=contents)
    assert {entry.notices for entry in derived.values()} == {(b"first", b"", b"third")}
    assert {entry.touched for entry in derived.values()} == {(RA, RB)}


def test_a_withheld_notice_is_missing_and_never_read_as_absent() -> None:
    contents = {NOTICE_ROLLUP_ID: RollupContent(payloads=(b"first", b"second"), rows=())}

    def without_payloads(block: FilteredBlock) -> FilteredBlock:
        return replace(block, siblings=tuple(replace(sibling, payloads=NO_ITEMS) for sibling in block.siblings))

    with pytest.raises(EvidenceMissing):
        Chain().step(contents=contents, tamper=without_payloads)
    with pytest.raises(EvidenceMissing):
        Chain().step(contents=contents, tamper=lambda block: replace(block, siblings=()))


def test_a_plain_transaction_travels_alone() -> None:
    derived = Chain().step([plain(LegPlan(chain=A))])
    assert admitted(derived[RA]) == 1
    assert derived[RA].bundles == ()


def test_a_missing_leg_drops_the_others_as_incomplete() -> None:
    derived = Chain().step([bundle(PAIR, replace={1: b"\xff garbage"})])
    assert reasons(derived[RA]) == [DropReason.INCOMPLETE]
    assert reasons(derived[RB]) == [DropReason.MALFORMED]


def test_a_leg_at_the_next_height_comes_too_late() -> None:
    chain = Chain()
    legs = signed_legs(PAIR)
    first = chain.step([bundle(PAIR, replace={1: sign(LegPlan(chain=B, key=3).unsigned(), KEYS[3])})])
    second = chain.step([lone(B, legs[1])])
    assert reasons(first[RA]) == [DropReason.INCOMPLETE]
    assert admitted(first[RB]) == 1  # the plain transaction that stood in the leg's place
    assert reasons(second[RB]) == [DropReason.STRAY_LEG]


def test_legs_reordered_against_the_row_make_it_void() -> None:
    plans = (LegPlan(chain=A, nonce=0), LegPlan(chain=A, nonce=1), LegPlan(chain=B))
    legs = signed_legs(plans)
    derived = Chain().step([bundle(plans, replace={0: legs[1], 1: legs[0]})])
    assert set(reasons(derived[RA])) == {DropReason.VOID_ROW}
    assert reasons(derived[RB]) == [DropReason.VOID_ROW]


@pytest.mark.parametrize("trailer", [(1, 2), (0, 3)], ids=["wrong index", "wrong count"])
def test_a_wrong_index_or_count_makes_the_row_void(trailer: tuple[int, int]) -> None:
    wanted = bundle_hash(version=1, expiry=0, leg_hashes=[plan.leg_hash() for plan in PAIR])
    false_leg = sign(PAIR[0].unsigned(), KEYS[0], Trailer(wanted, *trailer))
    derived = Chain().step([bundle(PAIR, replace={0: false_leg})])
    assert reasons(derived[RA]) == reasons(derived[RB]) == [DropReason.VOID_ROW]


def test_the_same_bundle_twice_in_one_block_executes_once() -> None:
    derived = Chain().step([bundle(PAIR), bundle(PAIR)])
    for rollup in (RA, RB):
        assert admitted(derived[rollup]) == 1
        assert reasons(derived[rollup]) == [DropReason.DUPLICATE]


def test_a_bundle_again_within_the_replay_window_is_a_duplicate_and_later_a_matter_of_nonces() -> None:
    chain = Chain(params=make_testnet(replay_window=2))
    assert admitted(chain.step([bundle(PAIR)])[RA]) == 1
    assert reasons(chain.step([bundle(PAIR)])[RA]) == [DropReason.DUPLICATE]
    assert reasons(chain.step([bundle(PAIR)])[RB]) == [DropReason.DUPLICATE]
    assert admitted(chain.step([bundle(PAIR)])[RA]) == 1


def test_a_copy_of_a_leg_is_stray_and_the_bundle_executes() -> None:
    derived = Chain().step([lone(A, signed_legs(PAIR)[0]), bundle(PAIR)])
    assert reasons(derived[RA]) == [DropReason.STRAY_LEG]
    assert (admitted(derived[RA]), admitted(derived[RB])) == (1, 1)
    assert derived[RA].admitted[0].position == 1


def test_a_trailer_on_a_foreign_transaction_drops_that_one_only() -> None:
    wanted = bundle_hash(version=1, expiry=0, leg_hashes=[plan.leg_hash() for plan in PAIR])
    foreign = sign(LegPlan(chain=A, key=2).unsigned(), KEYS[2], Trailer(wanted, 0, 2))
    derived = Chain().step([bundle(PAIR), lone(A, foreign)])
    assert reasons(derived[RA]) == [DropReason.STRAY_LEG]
    assert (admitted(derived[RA]), admitted(derived[RB])) == (1, 1)


def test_another_sender_with_equal_content_cannot_take_a_leg_s_place() -> None:
    wanted = bundle_hash(version=1, expiry=0, leg_hashes=[plan.leg_hash() for plan in PAIR])
    rival = sign(PAIR[0].unsigned(), KEYS[2], Trailer(wanted, 0, 2))
    derived = Chain().step([bundle(PAIR, replace={0: rival})])
    assert reasons(derived[RA]) == reasons(derived[RB]) == [DropReason.INCOMPLETE]


def test_two_bundles_that_share_a_nonce_are_both_admitted() -> None:
    other = (LegPlan(chain=A, value=2), LegPlan(chain=C))
    derived = Chain().step([bundle(PAIR), bundle(other)])
    assert (admitted(derived[RA]), admitted(derived[RB]), admitted(derived[RC])) == (2, 1, 1)


def test_a_leg_over_the_gas_cap_is_over_limit_and_its_siblings_incomplete() -> None:
    plans = (LegPlan(chain=A, gas_limit=1_000_001), LegPlan(chain=B))
    derived = Chain().step([bundle(plans)])
    assert reasons(derived[RA]) == [DropReason.OVER_LIMIT]
    assert derived[RA].dropped[0].trailer == derived[RB].dropped[0].trailer._replace(leg_index=0)  # type: ignore[union-attr]
    assert reasons(derived[RB]) == [DropReason.INCOMPLETE]


def test_a_position_past_max_payloads_is_over_limit_on_both_sides() -> None:
    chain = Chain(params=make_testnet(max_payloads=2))
    fill = [plain(LegPlan(chain=A, nonce=n, key=1)) for n in range(2)]
    derived = chain.step([*fill, bundle(PAIR)])
    assert reasons(derived[RA]) == [DropReason.OVER_LIMIT]
    assert reasons(derived[RB]) == [DropReason.INCOMPLETE]


def test_expiry_is_the_last_height_at_which_a_bundle_executes() -> None:
    chain = Chain()
    chain.step()
    assert admitted(chain.step([bundle(PAIR, expiry=2)])[RA]) == 1
    late = (LegPlan(chain=A, nonce=1), LegPlan(chain=B, nonce=1))
    derived = chain.step([bundle(late, expiry=2)])
    assert reasons(derived[RA]) == reasons(derived[RB]) == [DropReason.EXPIRED]


@pytest.mark.parametrize("version", [0, 2])
def test_an_unknown_version_is_void(version: int) -> None:
    derived = Chain().step([bundle(PAIR, version=version)])
    assert reasons(derived[RA]) == reasons(derived[RB]) == [DropReason.VOID_ROW]


def test_a_bundle_of_one_leg_is_void() -> None:
    derived = Chain().step([bundle(PAIR[:1])])
    assert reasons(derived[RA]) == [DropReason.VOID_ROW]


def test_two_legs_of_one_sender_and_nonce_on_one_chain_are_void() -> None:
    plans = (LegPlan(chain=A), LegPlan(chain=A, value=2), LegPlan(chain=B))
    derived = Chain().step([bundle(plans)])
    assert set(reasons(derived[RA])) == set(reasons(derived[RB])) == {DropReason.VOID_ROW}


def test_two_legs_on_one_rollup_are_admitted_in_order() -> None:
    plans = (LegPlan(chain=A, nonce=0), LegPlan(chain=B), LegPlan(chain=A, nonce=1))
    derived = Chain().step([bundle(plans)])
    assert [leg.transaction.nonce for leg in derived[RA].admitted] == [0, 1]


def test_a_false_preimage_voids_or_leaves_the_row_unfilled() -> None:
    derived = Chain().step([bundle(PAIR, leg_hashes=[b"\x01" * 32, b"\x02" * 32])])
    assert reasons(derived[RA]) == reasons(derived[RB]) == [DropReason.STRAY_LEG]


def _contents(row_a: Row | None, row_b: Row | None) -> dict[RollupId, RollupContent]:
    legs = signed_legs(PAIR)
    return {
        RA: RollupContent(payloads=(legs[0],), rows=(encode_row(row_a),) if row_a else ()),
        RB: RollupContent(payloads=(legs[1],), rows=(encode_row(row_b),) if row_b else ()),
    }


def _row(**changes: object) -> Row:
    legs = tuple(RowLeg(plan_id, 0, plan.leg_hash(), 0) for plan_id, plan in zip((RA, RB), PAIR, strict=True))
    return Row(0, 1, 0, legs)._replace(**changes)  # type: ignore[arg-type]


def test_a_row_that_only_one_rollup_was_given_executes_nowhere() -> None:
    derived = Chain().step(contents=_contents(_row(), None))
    assert reasons(derived[RA]) == [DropReason.VOID_ROW]
    assert reasons(derived[RB]) == [DropReason.STRAY_LEG]


def test_rows_that_differ_between_rollups_execute_nowhere() -> None:
    derived = Chain().step(contents=_contents(_row(), _row(ordinal=1)))
    assert reasons(derived[RA]) == reasons(derived[RB]) == [DropReason.VOID_ROW]


def test_a_row_whose_sibling_list_is_too_short_is_incomplete_by_proof() -> None:
    row = _row(legs=(_row().legs[0], _row().legs[1]._replace(position=5)))
    derived = Chain().step(contents=_contents(row, row))
    assert reasons(derived[RA]) == [DropReason.INCOMPLETE]
    assert reasons(derived[RB]) == [DropReason.STRAY_LEG]


def test_a_row_naming_a_rollup_without_content_is_void_by_the_id_list() -> None:
    legs = signed_legs(PAIR)
    contents = {RA: RollupContent(payloads=(legs[0],), rows=(encode_row(_row()),))}
    derived = Chain().step(contents=contents)
    assert reasons(derived[RA]) == [DropReason.VOID_ROW]


def test_of_two_complete_rows_the_lowest_ordinal_executes_on_every_rollup() -> None:
    legs = signed_legs(PAIR)
    late, early = _row(ordinal=9), _row(ordinal=2)
    late = late._replace(legs=tuple(leg._replace(position=0, row_index=0) for leg in late.legs))
    early = early._replace(legs=tuple(leg._replace(position=1, row_index=1) for leg in early.legs))
    contents = {
        rollup: RollupContent(payloads=(leg, leg), rows=(encode_row(late), encode_row(early)))
        for rollup, leg in ((RA, legs[0]), (RB, legs[1]))
    }
    derived = Chain().step(contents=contents)
    for rollup in (RA, RB):
        assert [leg.position for leg in derived[rollup].admitted] == [1]
        assert reasons(derived[rollup]) == [DropReason.DUPLICATE]


@pytest.mark.parametrize("row", [b"", b"\x00" * 17, b"\xff" * 89])
def test_arbitrary_bytes_as_rows_harm_nobody(row: bytes) -> None:
    contents = blocks.place([bundle(PAIR)])
    contents[RA] = RollupContent(payloads=contents[RA].payloads, rows=(*contents[RA].rows, row))
    derived = Chain().step(contents=contents)
    assert (admitted(derived[RA]), admitted(derived[RB])) == (1, 1)


def _three_bundles() -> list[object]:
    return [bundle((LegPlan(chain=A, nonce=n), LegPlan(chain=B, nonce=n))) for n in range(3)]


def _withhold(kind: str) -> object:
    def tamper(block: FilteredBlock) -> FilteredBlock:
        if block.rollup_id != RA:
            return block
        sibling: SiblingEvidence = block.siblings[0]
        if kind == "sibling":
            return replace(block, siblings=())
        without: Any = {kind: NO_ITEMS}
        return replace(block, siblings=(replace(sibling, **without),))

    return tamper


@pytest.mark.parametrize("kind", ["sibling", "payloads", "rows"])
@pytest.mark.parametrize("fillers", [0, 40])
def test_withheld_evidence_stalls_the_reader_and_changes_nothing(kind: str, fillers: int) -> None:
    chain = Chain()
    fill = [plain(LegPlan(chain=B, key=5, nonce=n)) for n in range(fillers)]
    submissions = [*fill, *_three_bundles()]
    with pytest.raises(EvidenceMissing, match="sibling rollup"):
        chain.step(submissions, tamper=_withhold(kind))  # type: ignore[arg-type]
    again = chain.step(submissions)  # type: ignore[arg-type]
    assert admitted(again[RA]) == 3


def test_a_forged_sibling_payload_is_an_invalid_block() -> None:
    def tamper(block: FilteredBlock) -> FilteredBlock:
        if block.rollup_id != RA:
            return block
        forged = replace(block.siblings[0], payload_count=block.siblings[0].payload_count - 1)
        return replace(block, siblings=(forged,))

    with pytest.raises(InvalidBlock, match="leaf is not under"):
        Chain().step(_three_bundles(), tamper=tamper)  # type: ignore[arg-type]


def test_rewinding_forgets_admissions_above_and_keeps_those_below() -> None:
    chain = Chain(params=make_testnet(replay_window=2))
    reader = chain.readers[RA]
    chain.step([bundle(PAIR)])
    before = reader.snapshot()
    chain.step()
    chain.step()
    chain.step([bundle(PAIR)])
    assert len(reader.snapshot()) == 2
    reader.rewind(Height(3))
    assert reader.snapshot() == before
    reader.rewind(Height(0))
    assert reader.snapshot() == []


def test_a_snapshot_restores_the_replay_window() -> None:
    chain = Chain()
    chain.step([bundle(PAIR)])
    snapshot = chain.readers[RA].snapshot()
    fresh = Chain()
    fresh.readers[RA].restore(snapshot)
    fresh.head, fresh.time_ns = chain.head, chain.time_ns
    assert reasons(fresh.step([bundle(PAIR)])[RA]) == [DropReason.DUPLICATE]


def test_decoded_rows_name_every_leg() -> None:
    contents = blocks.place([bundle(PAIR)])
    row = decode_row(contents[RA].rows[0])
    assert row is not None
    assert [leg.rollup_id for leg in row.legs] == [RA, RB]
    assert contents[RA].rows == contents[RB].rows
    assert BundleHash(bundle_hash(version=1, expiry=0, leg_hashes=[leg.leg_hash for leg in row.legs]))
