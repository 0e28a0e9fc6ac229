"""Reports, notices and verdicts keep what they say through their bytes; false bytes end in InvalidVerdict alone."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.model.agglayer import NetworkId
from nodes.model.errors import InvalidVerdict
from nodes.model.execution import AbortReason
from nodes.model.ids import BundleHash, Height
from nodes.model.verdict import (
    Abort,
    AbortSet,
    FailureKind,
    LegExit,
    LegFailure,
    LegMint,
    Notice,
    NoticeKind,
    Report,
    SignedNotice,
    Verdict,
    VoidedBundle,
)
from nodes.rules import verdict as rules

u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
hashes = st.binary(min_size=32, max_size=32)
bundles = hashes.map(BundleHash)
heights = u64.map(Height)
networks = u32.map(NetworkId)


def up_to(items: st.SearchStrategy[Any], count: int = 4) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=count).map(tuple)


reports = st.builds(
    Report,
    epoch=u32,
    height=heights,
    network_id=networks,
    aborts_hash=hashes,
    parent_hash=hashes,
    block_hash=hashes,
    failures=up_to(st.builds(LegFailure, u32, bundles, u8, st.sampled_from(FailureKind))),
    exits=up_to(st.builds(LegExit, u32, bundles, u8, hashes, u32)),
    mints=up_to(st.builds(LegMint, u32, bundles, u8, networks, hashes)),
)
notices = st.builds(
    Notice,
    kind=st.sampled_from(NoticeKind),
    epoch=u32,
    height=heights,
    network_id=networks,
    voided=up_to(st.builds(VoidedBundle, heights, u32, bundles)),
)
abort_sets = st.builds(
    AbortSet,
    evicted=up_to(networks),
    aborts=up_to(
        st.builds(Abort, u32, bundles, st.sampled_from(AbortReason), st.integers(0, 2**256 - 1), st.booleans())
    ),
)
verdicts = st.builds(
    Verdict,
    epoch=u32,
    height=heights,
    aborts=abort_sets,
    rounds=u32,
    reports_hash=hashes,
    notices=up_to(
        st.builds(SignedNotice, notices.map(rules.encode_notice), st.binary(min_size=65, max_size=65)), count=2
    ),
    previous=hashes,
)
FORMS: list[tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (reports, rules.encode_report, rules.decode_report),
    (notices, rules.encode_notice, rules.decode_notice),
    (verdicts, rules.encode_verdict, rules.decode_verdict),
]


@pytest.mark.parametrize(("values", "encode", "decode"), FORMS, ids=["report", "notice", "verdict"])
@given(data=st.data())
def test_what_was_encoded_is_read_again(
    values: st.SearchStrategy[Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    assert decode(encode(value)) == value


@pytest.mark.parametrize(("values", "encode", "decode"), FORMS, ids=["report", "notice", "verdict"])
@given(data=st.data())
def test_cut_longer_and_changed_bytes_are_refused_or_read(
    values: st.SearchStrategy[Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], data: st.DataObject
) -> None:
    encoded = encode(data.draw(values))
    for wrong in (encoded[: data.draw(st.integers(0, len(encoded) - 1))], encoded + b"\x00"):
        with pytest.raises(InvalidVerdict):
            decode(wrong)
    changed = bytearray(encoded)
    changed[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(InvalidVerdict):  # a flag or a length; anything else is another value
        decode(bytes(changed))


@pytest.mark.parametrize("decode", [form[2] for form in FORMS], ids=["report", "notice", "verdict"])
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(decode: Callable[[bytes], Any], data: bytes) -> None:
    with suppress(InvalidVerdict):
        decode(data)


@given(first=abort_sets, second=abort_sets)
def test_only_equal_sets_have_equal_hashes(first: AbortSet, second: AbortSet) -> None:
    assert (rules.aborts_hash(first) == rules.aborts_hash(second)) == (first == second)
