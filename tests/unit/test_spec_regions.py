"""`[regions]` and `[network]`: who stands where, how far that is, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.launch.plan import peers_of
from coordinator.spec import Scenario, parse_scenario, resolve
from coordinator.spec.regions import SHIPPED, read_matrix, resolve_wide_area
from coordinator.spec.testnet import Addresses, load_testnet, save_testnet
from nodes.model.errors import InvalidScenario
from nodes.model.wide_area import WideArea

NODES = {
    "sequencer": ("sequencer",),
    "rollup": ("rollup-1", "rollup-1-replica-2", "rollup-2"),
    "l1": ("l1",),
    "attester": ("attester-1", "attester-2"),
}


def scenario(text: str, *overrides: str, source: str = "test.toml") -> Scenario:
    return parse_scenario(f'[scenario]\nname = "t"\nseed = 9\n{text}', source=source, overrides=overrides)


def area(text: str, *overrides: str, **settings: Any) -> WideArea:
    found = resolve_wide_area(scenario(text, *overrides, **settings), NODES)
    assert found is not None
    return found


def test_without_regions_nothing_is_emulated() -> None:
    assert resolve_wide_area(scenario(""), NODES) is None
    assert resolve(scenario("")).wide_area is None


def test_a_node_stands_where_its_own_name_its_rollup_its_kind_or_the_default_says() -> None:
    found = area(
        '[regions]\ndefault = "eu-west-1"\nrollup-1 = "us-east-1"\nrollups = "eu-west-2"\nattesters = "none"\n'
        'attester-2 = "ap-northeast-1"\nclients = "sa-east-1"\n'
    )
    assert found.regions == {
        "sequencer": "eu-west-1",
        "rollup-1": "us-east-1",
        "rollup-1-replica-2": "us-east-1",
        "rollup-2": "eu-west-2",
        "l1": "eu-west-1",
        "attester-1": "none",
        "attester-2": "ap-northeast-1",
        "clients": "sa-east-1",
        "solana": "eu-west-1",
    }
    assert found.seed == 9


def test_without_a_default_the_others_stand_nowhere() -> None:
    found = area('[regions]\nclients = "us-east-1"\nsequencer = "eu-west-1"\n')
    assert found.regions["rollup-1"] == "none"
    assert [(pair.first, pair.second) for pair in found.pairs] == [("us-east-1", "eu-west-1")]


def test_the_scenario_comes_before_its_matrix_and_that_before_what_is_shipped(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[[source]]\nname = "my own"\n[source.round_trip_ms]\n'
        "home = { us-east-1 = 30, eu-west-1 = 40 }\nus-east-1 = { eu-west-1 = 50 }\n"
    )
    text = (
        '[regions]\ndefault = "home"\nsequencer = "us-east-1"\nclients = "eu-west-1"\n[network]\nmatrix = "mine.toml"\n'
    )
    found = area(text, source=str(tmp_path / "s.toml"))
    assert found.round_trip_ms("eu-west-1", "us-east-1") == 50
    found = area(text + "round_trip_ms = { eu-west-1 = { us-east-1 = 12.5 } }\n", source=str(tmp_path / "s.toml"))
    assert found.round_trip_ms("us-east-1", "eu-west-1") == 12.5
    assert {pair.source for pair in found.pairs} == {"the scenario", "my own"}


def test_overrides_place_nodes_and_shape_links() -> None:
    found = area(
        '[regions]\ndefault = "eu-west-1"\n', "regions.rollup-2=us-east-1", "network.loss=0.01", "jitter_share=0.1"
    )
    assert found.regions["rollup-2"] == "us-east-1"
    assert (found.loss, found.jitter_share) == (0.01, 0.1)


def test_a_short_override_still_means_what_it_meant() -> None:
    assert scenario("", "rollups=2").testnet.rollups == 2
    assert scenario("", "attesters=5").agglayer.attesters == 5


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[regions]\nsequencr = "eu-west-1"\n', r"'sequencr' is no node; did you mean 'sequencer'"),
        ('[regions]\nsequencer = "eu-west-11"\n', r"is no region; did you mean 'eu-west-1'"),
        ('[regions]\ndefault = "eu-west-1"\nl1 = "us-south"\n', r"nobody says how far .* MILLISECONDS"),
        ("[regions]\ndefault = 3\n", r"must be the name of a region"),
        ("[network]\nloss = 0.1\n", r"no effect without \[regions\]"),
        ('[regions]\ndefault = "eu-west-1"\n[network]\nloss = 0.9\n', r"out of range"),
        ('[regions]\ndefault = "a"\n[network]\nround_trip_ms = { a = { b = -1 } }\n', r"above 0"),
        ('[regions]\ndefault = "a"\n[network]\nround_trip_ms = { a = { b = 1 }, b = { a = 1 } }\n', r"twice"),
        ('[regions]\ndefault = "a"\n[network]\nround_trip_ms = { a = 4 }\n', r"must be like"),
        ('[regions]\ndefault = "a"\n[network]\nround_trip_ms = { a = { a = 4 } }\n', r"two regions"),
        ('[regions]\ndefault = "eu-west-1"\n[network]\nmatrix = "gone.toml"\n', r"cannot be read"),
    ],
)
def test_mistakes_are_named(text: str, complaint: str) -> None:
    with pytest.raises(InvalidScenario, match=complaint):
        area(text)


def test_every_shipped_distance_has_a_source_with_page_and_date() -> None:
    pairs = read_matrix(SHIPPED)
    assert len(pairs) > 120
    for entry in pairs.values():
        assert "https://" in entry.source
        assert " 20" in entry.source
        assert 1 <= entry.round_trip_ms <= 400


def test_distances_of_a_provider_are_complete() -> None:
    pairs = read_matrix(SHIPPED)
    for region in ("us-east-1", "eu-west-1", "eu-central-1", "ap-northeast-1", "ap-southeast-1", "sa-east-1"):
        for other in ("us-west-2", "ap-south-1", "ap-southeast-2"):
            assert frozenset((region, other)) in pairs


def test_a_resolved_testnet_keeps_its_network(tmp_path: Path) -> None:
    testnet = resolve(scenario('[testnet]\nrollups = 2\n[regions]\ndefault = "eu-west-1"\nrollup-2 = "us-east-1"\n'))
    save_testnet(testnet, tmp_path)
    assert load_testnet(tmp_path).wide_area == testnet.wide_area
    assert testnet.wide_area is not None
    assert testnet.wide_area.region_of("rollup-2") == "us-east-1"


def test_every_address_a_node_is_given_has_a_name() -> None:
    testnet = resolve(scenario('[testnet]\nrollups = 2\natomicity = "agglayer"\n'))
    addresses = Addresses(
        sequencer="h:1",
        agglayer="h:2",
        attesters=("h:3", "h:4", "h:5"),
        l1_rpc_url="http://h:6",
        rollup_rpc_urls={"rollup-1": "http://h:7", "rollup-2": "http://h:8"},
    )
    assert peers_of(testnet, addresses) == {
        "h:1": "sequencer",
        "h:2": "agglayer",
        "h:3": "attester-1",
        "h:4": "attester-2",
        "h:5": "attester-3",
        "h:6": "l1",
        "h:7": "rollup-1",
        "h:8": "rollup-2",
    }
