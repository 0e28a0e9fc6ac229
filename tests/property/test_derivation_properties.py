"""Laws of derivation under arbitrary and hostile blocks: total, deterministic, never unbundled; proofs hold."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.model.bundle import Bundle, RowLeg
from nodes.model.errors import EvidenceMissing, InvalidBlock
from nodes.model.execution import Derived, DropReason
from nodes.model.ids import BundleHash, RollupId
from nodes.model.sequenced_block import Commitment, RollupContent
from nodes.rules import merkle, rlp
from nodes.rules import sequenced_block as blocks
from nodes.rules.bundle import decode_row, encode_row
from nodes.rules.payload import decode
from tests.support.crafting import CHAIN_ID, CHAINS, ROLLUPS, Chain, LegPlan, bundle, lone, plain, seal, signed_legs

leg_plans = st.builds(
    LegPlan,
    chain=st.sampled_from(CHAINS[:3]),
    key=st.integers(0, 2),
    nonce=st.integers(0, 3),
    tx_type=st.sampled_from([0, 1, 2]),
)
plans = st.lists(leg_plans, min_size=2, max_size=4)


@st.composite
def submissions(draw: st.DrawFn) -> list[Bundle]:
    """Honest bundles, copies, stray legs, damaged and foreign legs, junk, in any order."""
    out: list[Bundle] = []
    for chosen in draw(st.lists(plans, min_size=1, max_size=4)):
        kind = draw(st.sampled_from(["honest", "honest", "twice", "copied leg", "damaged", "swapped", "junk"]))
        whole = bundle(chosen)
        legs = signed_legs(chosen)
        if kind == "copied leg":
            out.append(lone(chosen[0].chain, legs[0]))
        if kind == "damaged":
            at = draw(st.integers(0, len(legs) - 1))
            whole = bundle(chosen, replace={at: draw(st.binary(min_size=1, max_size=20))})
        if kind == "swapped":
            whole = bundle(chosen, replace={0: legs[-1]})
        if kind == "junk":
            out.append(lone(draw(st.sampled_from(CHAINS)), draw(st.binary(min_size=1, max_size=40))))
        out.extend([whole, whole] if kind == "twice" else [whole])
    return draw(st.permutations(out))


def _mutate_rows(draw: st.DrawFn, contents: dict[RollupId, RollupContent]) -> dict[RollupId, RollupContent]:
    """What a hostile sequencer can do: drop, copy, reorder or alter rows and payloads of single rollups."""
    out = dict(contents)
    for _ in range(draw(st.integers(0, 3))):
        rollup = draw(st.sampled_from(sorted(out)))
        payloads, rows = list(out[rollup].payloads), list(out[rollup].rows)
        kind = draw(st.sampled_from(["drop row", "copy row", "alter row", "swap payloads", "drop payload", "move row"]))
        if rows and kind in ("drop row", "copy row", "alter row", "move row"):
            at = draw(st.integers(0, len(rows) - 1))
            row = decode_row(rows[at])
            if kind == "drop row":
                del rows[at]
            elif kind == "copy row":
                rows.append(rows[at])
            elif kind == "move row":
                rows.insert(0, rows.pop(at))
            elif row is not None:
                legs = list(row.legs)
                legs[0] = RowLeg(
                    draw(st.sampled_from(ROLLUPS)), draw(st.integers(0, 9)), legs[0].leg_hash, draw(st.integers(0, 5))
                )
                rows[at] = encode_row(row._replace(ordinal=draw(st.integers(0, 5)), legs=tuple(legs)))
        elif len(payloads) > 1:
            if kind == "swap payloads":
                payloads[0], payloads[-1] = payloads[-1], payloads[0]
            else:
                payloads.pop()
        out[rollup] = RollupContent(payloads=tuple(payloads), rows=tuple(rows))
    return {rollup: content for rollup, content in out.items() if content.payloads}


@st.composite
def hostile_contents(draw: st.DrawFn) -> dict[RollupId, RollupContent]:
    """Lists of a block as an honest or a hostile sequencer may commit them."""
    return _mutate_rows(draw, blocks.place(draw(submissions())))


def _assert_never_unbundled(derived: dict[RollupId, Derived]) -> None:
    present: dict[BundleHash, set[tuple[bytes, int]]] = {}
    for rollup, result in derived.items():
        for leg in result.admitted:
            trailer = leg.transaction.trailer
            if trailer is not None:
                present.setdefault(trailer.bundle_hash, set()).add((rollup, trailer.leg_index))
                assert len({index for _, index in present[trailer.bundle_hash]}) <= trailer.leg_count
    for rollup, result in derived.items():
        for leg in result.admitted:
            trailer = leg.transaction.trailer
            if trailer is not None:
                indexes = {index for _, index in present[trailer.bundle_hash]}
                assert indexes == set(range(trailer.leg_count)), f"unbundled on {rollup.hex()}"


@given(hostile_contents())
@settings(max_examples=150)
def test_no_block_whatever_its_rows_unbundles(contents: dict[RollupId, RollupContent]) -> None:
    chain = Chain()
    for _ in range(2):  # the second time everything is a replay
        _assert_never_unbundled(chain.step(contents=contents))


@given(hostile_contents())
@settings(max_examples=40)
def test_two_readers_derive_the_same(contents: dict[RollupId, RollupContent]) -> None:
    assert Chain().step(contents=contents) == Chain().step(contents=contents)


@given(submissions(), st.data())
@settings(max_examples=60)
def test_any_split_into_blocks_never_unbundles(entries: list[Bundle], data: st.DataObject) -> None:
    chain = Chain()
    rest = list(entries)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        _assert_never_unbundled(chain.step(rest[:size]))
        rest = rest[size:]


@given(
    st.dictionaries(
        st.sampled_from(ROLLUPS), st.tuples(st.lists(st.binary(max_size=60)), st.lists(st.binary(max_size=120)))
    )
)
@settings(max_examples=100)
def test_derivation_is_total_over_arbitrary_bytes(lists: dict[RollupId, tuple[list[bytes], list[bytes]]]) -> None:
    contents = {
        rollup: RollupContent(payloads=tuple(payloads), rows=tuple(rows))
        for rollup, (payloads, rows) in lists.items()
        if payloads
    }
    for rollup, derived in Chain().step(contents=contents).items():
        count = len(contents[rollup].payloads) if rollup in contents else 0
        assert len(derived.admitted) + len(derived.dropped) == count


@given(st.binary(max_size=200))
def test_decoding_a_payload_is_total(payload: bytes) -> None:
    assert isinstance(decode(payload, CHAINS[0]), DropReason)


@given(plans, st.data())
@settings(max_examples=100)
def test_a_changed_byte_never_passes_as_the_same_leg(chosen: list[LegPlan], data: st.DataObject) -> None:
    payload = signed_legs(chosen)[0]
    original = decode(payload, chosen[0].chain)
    at = data.draw(st.integers(0, len(payload) - 1))
    changed = bytearray(payload)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    result = decode(bytes(changed), chosen[0].chain)
    assert not isinstance(original, DropReason)
    if not isinstance(result, DropReason):
        assert (result.leg_hash, result.trailer) != (original.leg_hash, original.trailer)


rlp_items = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=5), max_leaves=12)


@given(rlp_items)
def test_rlp_round_trips(item: Any) -> None:
    assert rlp.decode(rlp.encode(item)) == item


@given(st.binary(max_size=80))
def test_what_rlp_accepts_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except rlp.RlpError:
        return
    assert rlp.encode(item) == data


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=20), st.data())
def test_a_proof_of_several_leaves_holds_for_them_only(leaves: list[bytes], data: st.DataObject) -> None:
    tree = merkle.Tree(leaves)
    chosen = data.draw(st.lists(st.integers(0, len(leaves) - 1), min_size=1, unique=True).map(sorted))
    proof = tree.proof(chosen)
    place: dict[str, Any] = {"size": len(leaves), "root": tree.root}
    values = [leaves[at] for at in chosen]
    assert merkle.verify_several(leaves=values, indexes=chosen, proof=proof, **place)
    assert not merkle.verify_several(leaves=values, indexes=chosen, proof=proof + bytes(32), **place)
    assert not merkle.verify_several(leaves=[*values[:-1], values[-1] + b"!"], indexes=chosen, proof=proof, **place)
    moved = [*chosen[:-1], chosen[-1] + 1]
    if moved[-1] >= len(leaves) or leaves[moved[-1]] != values[-1]:
        assert not merkle.verify_several(leaves=values, indexes=moved, proof=proof, **place)
    if proof:
        changed = bytearray(proof)
        changed[data.draw(st.integers(0, len(proof) - 1))] ^= 1
        assert not merkle.verify_several(leaves=values, indexes=chosen, proof=bytes(changed), **place)


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=20), st.data())
def test_merkle_proofs_reject_every_mutation(leaves: list[bytes], data: st.DataObject) -> None:
    tree = merkle.Tree(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = bytearray(tree.path(index))
    place: dict[str, Any] = {"index": index, "size": len(leaves), "root": tree.root}
    assert merkle.verify(leaf=leaves[index], path=bytes(path), **place)
    assert not merkle.verify(leaf=leaves[index] + b"\x00", path=bytes(path), **place)
    assert not merkle.verify(leaf=leaves[index], path=bytes(path) + bytes(32), **place)
    if path:
        path[data.draw(st.integers(0, len(path) - 1))] ^= 1
        assert not merkle.verify(leaf=leaves[index], path=bytes(path), **place)


@given(st.integers(0, 30), st.data())
@settings(max_examples=80)
def test_a_filtered_block_rejects_every_mutation(fillers: int, data: st.DataObject) -> None:
    """Whatever byte of header, lists, paths or roots changes, the reader refuses the block and never derives it."""
    fill = [plain(LegPlan(chain=CHAINS[1], key=5, nonce=n)) for n in range(fillers)]
    pairs = [bundle((LegPlan(chain=CHAINS[0], nonce=n), LegPlan(chain=CHAINS[1], nonce=n))) for n in range(3)]
    chain = Chain()
    block, trees = seal(blocks.place([*fill, *pairs]), parent=chain.head, time_ns=chain.time_ns)
    received = blocks.filter_block(block, trees, ROLLUPS[0], Commitment.FIRM)
    target = data.draw(st.sampled_from(["header", "leaf_path", "payload", "row", "sibling"]))
    flip = 1 << data.draw(st.integers(0, 7))

    def flipped(value: bytes) -> bytes:
        at = data.draw(st.integers(0, len(value) - 1))
        return value[:at] + bytes((value[at] ^ flip,)) + value[at + 1 :]

    if target in ("header", "leaf_path"):
        change: Any = {target: flipped(getattr(received, target))}
        mutated = replace(received, **change)
    elif target == "sibling":
        sibling = received.siblings[0]
        name = data.draw(st.sampled_from(["leaf_path", "payloads_root", "rows_root"]))
        change = {name: flipped(getattr(sibling, name))}
        mutated = replace(received, siblings=(replace(sibling, **change),))
    else:
        content = received.content
        payloads, rows = content.payloads, content.rows
        if target == "payload":
            payloads = (flipped(payloads[0]), *payloads[1:])
        else:
            rows = (flipped(rows[0]), *rows[1:])
        mutated = replace(received, content=RollupContent(payloads=payloads, rows=rows))
    if target == "header":
        # A changed header may still be self-consistent (its time, say): then its hash is another one, and the finality
        # proof over that hash fails. Everything else contradicts the trees.
        try:
            verified = blocks.verify(mutated, chain_id=CHAIN_ID, parent=chain.head, parent_time_ns=0)
        except InvalidBlock:
            return
        assert verified.ref.hash != block.header_hash
        return
    with pytest.raises((InvalidBlock, EvidenceMissing)):
        chain.readers[ROLLUPS[0]].derive(blocks.verify(mutated, chain_id=CHAIN_ID, parent=chain.head, parent_time_ns=0))
