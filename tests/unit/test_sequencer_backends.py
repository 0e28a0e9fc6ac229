"""The table of backends, the lazy configuration, its finality proofs, and crash points."""

from dataclasses import fields
from pathlib import Path

import pytest
from coincurve import PrivateKey

from nodes.model.errors import InvalidInput, InvalidScenario
from nodes.rules.finality import sign_header
from nodes.rules.payload import SECP256K1_N, address_of
from nodes.sequencer.backends import BACKENDS, Backend
from nodes.sequencer.lazy import BACKEND, Config
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.crash import crash_at, no_crash
from nodes.telemetry.tracer import DiscardingTracer
from tests.support.crafting import make_testnet
from tests.support.sequencer_configs import SIGNING_KEY

HASH = b"\x42" * 32


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
def test_every_backend_describes_itself(backend: Backend) -> None:
    assert BACKENDS[backend.name] is backend
    assert all((backend.describe, backend.soft, backend.firm, backend.final))
    assert "\n" not in backend.describe
    config = backend.configure({})
    assert {field.name for field in fields(config)} >= {"block_interval_ms", "block_bytes_max"}
    for expected in backend.expected(config).values():
        assert 0 < expected.p50_ms <= expected.p99_ms
        assert expected.formula


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
def test_every_backend_says_whom_its_users_trust_and_what_fails_with_each(backend: Backend) -> None:
    parts = [row.part for row in backend.trust]
    assert len(set(parts)) == len(parts) >= 2
    for row in backend.trust:
        assert all((row.part, row.trusted_for, row.when_it_fails))
        assert "\n" not in row.part + row.trusted_for + row.when_it_fails


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
def test_an_unknown_key_names_the_nearest(backend: Backend) -> None:
    with pytest.raises(InvalidScenario, match="unknown key 'block_interval'; did you mean 'block_interval_ms'"):
        backend.configure({"block_interval": 1})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("block_interval_ms", 9, r"block_interval_ms is 9; it must be an integer from 10 to 12,000"),
        ("block_interval_ms", 12_001, "10 to 12,000"),
        ("block_interval_ms", "100", "block_interval_ms is '100'"),
        ("block_interval_ms", True, "block_interval_ms is True"),
        ("block_bytes_max", 9 * 2**20, "1,024 to 8,388,608"),
        ("mempool_bytes_max", 2**19, "1,048,576 to"),
        ("mempool_bundles_max", 0, "mempool_bundles_max is 0"),
        ("dedup_heights", -1, "dedup_heights is -1"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(key: str, value: object, message: str) -> None:
    with pytest.raises(InvalidScenario, match=message):
        BACKEND.configure({key: value})


@pytest.mark.parametrize("value", ["0x1234", "secret", "00" * 32, f"{SECP256K1_N:064x}"])
def test_a_wrong_key_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(InvalidScenario, match="signing_key must be") as refused:
        Config(signing_key=value)
    assert value not in str(refused.value)


def test_a_node_needs_the_testnets_key(tmp_path: Path) -> None:
    clock = ManualClock()
    with pytest.raises(InvalidScenario, match="signing_key is empty"):
        BACKEND.build(Config(), testnet=make_testnet(), directory=tmp_path, clock=clock, tracer=DiscardingTracer())


def test_expected_latency_is_half_an_interval() -> None:
    expected = BACKEND.expected(Config(block_interval_ms=200))
    assert (expected["sequenced"].p50_ms, expected["sequenced"].p99_ms) == (100, 198)


def test_a_proof_is_the_signers_and_of_this_header() -> None:
    options = BACKEND.finality_options(Config(signing_key=SIGNING_KEY))
    check = BACKEND.verifier(options)
    proof = sign_header(HASH, PrivateKey.from_hex(SIGNING_KEY.removeprefix("0x")))
    assert set(options) == {"signer"}
    assert check(HASH, proof)
    assert not check(b"\x43" * 32, proof)
    assert not check(HASH, sign_header(HASH, PrivateKey(b"\x01" * 32)))


@pytest.mark.parametrize("at", range(65))
def test_every_changed_byte_of_a_proof_is_noticed(at: int) -> None:
    key = PrivateKey(b"\x05" * 32)
    check = BACKEND.verifier({"signer": "0x" + address_of(key).hex()})
    proof = bytearray(sign_header(HASH, key))
    proof[at] ^= 0xFF
    assert not check(HASH, bytes(proof))


@pytest.mark.parametrize("proof", [b"", bytes(64), bytes(65), b"\xff" * 65, bytes(64) + b"\x04", bytes(66)])
def test_bytes_that_are_no_signature_are_no_proof(proof: bytes) -> None:
    assert not BACKEND.verifier({"signer": "0x" + "11" * 20})(HASH, proof)


@pytest.mark.parametrize("options", [{}, {"signer": "0x12"}, {"signer": "nobody"}])
def test_a_signer_must_be_an_address(options: dict[str, str]) -> None:
    with pytest.raises(InvalidScenario, match="signer"):
        BACKEND.verifier(options)


@pytest.mark.parametrize("specification", ["place", "place:", "place:0", "place:-1", ":3", "place:many"])
def test_a_crash_point_must_be_a_place_and_a_count(specification: str) -> None:
    with pytest.raises(InvalidInput, match="LOCKSTEP_CRASH_AT"):
        crash_at(specification)


def test_no_specification_never_crashes() -> None:
    assert crash_at("") is no_crash
    crash_at("sequencer.after_commit:2")("sequencer.after_commit")
