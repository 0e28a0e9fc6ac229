"""What run.json says of a backend's configuration: what it is, without anything secret."""

import pytest

from coordinator.stages.backend_facts import backend_facts, shown_settings
from nodes.sequencer.backends import BACKENDS

KEY = "0x" + "11" * 32


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_every_backend_describes_itself_without_its_key(name: str) -> None:
    facts = backend_facts(BACKENDS[name], {"signing_key": KEY})
    assert facts["backend_is"]
    assert facts["height_interval_ms"] == facts["backend_settings"]["block_interval_ms"]
    assert "signing_key" not in facts["backend_settings"]
    assert KEY not in str(facts)


def test_solana_says_which_node_and_how_heights_come() -> None:
    solana = BACKENDS["solana"]
    facts = backend_facts(solana, {"bucket_ms": 2_000})
    assert facts["height_interval_ms"] == 2_000
    assert facts["backend_is"] == (
        "Lockstep dev node, no validators: slots of 400 ms, confirmed 2, finalized 31 slots behind; "
        "a height per 2,000 ms of slots; inbox program; 4 payers"
    )
    assert "heights per slot" in backend_facts(solana, {})["backend_is"]


def test_only_what_a_config_itself_sets_holds_by_construction() -> None:
    expected = {name: BACKENDS[name].expected(BACKENDS[name].config_type()) for name in ("lazy", "solana")}
    for stages in expected.values():
        assert [stage for stage, one in stages.items() if one.by_construction] == ["sequenced", "firm"]
    solana = BACKENDS["solana"]
    assert not any(one.by_construction for one in solana.expected(solana.configure({"solana": "surfpool"})).values())


def test_settings_hold_no_key_and_of_a_url_the_host_alone() -> None:
    settings = {
        "keypair": "[1, 2]",
        "signing_key": "0x1",
        "solana": "https://user:word@rpc.example:8899/v2/abc?api-key=def",
        "store_url": "postgresql+psycopg://me:pw@db/heights",
        "ws_url": "",
        "payers": 4,
    }
    assert shown_settings(settings) == {
        "solana": "https://rpc.example:8899/...",
        "store_url": "postgresql+psycopg://db/...",
        "ws_url": "",
        "payers": 4,
    }
