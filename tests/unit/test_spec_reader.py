"""Scenario files: what is read, and what every complaint names."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from coordinator.spec.reader import builtin_scenarios, load_scenario, parse_scenario, read_table
from coordinator.spec.scenario import Between, Scenario
from nodes.model.errors import InvalidScenario, LimitExceeded, UnknownName


@dataclass(frozen=True, kw_only=True)
class FakeBackend:
    block_interval_ms: int = 100
    block_bytes_max: int = 1_000_000

    def __post_init__(self) -> None:
        if self.block_interval_ms > 12_000:
            raise LimitExceeded(limit="block_interval_ms", value=self.block_interval_ms, maximum=12_000)


@dataclass(frozen=True, kw_only=True)
class Conflict:
    legs: int = 2
    hot_share: Annotated[float, Between(0, 1)] = 0.1


@dataclass(frozen=True, kw_only=True)
class Plain:
    legs: int = 2


BACKENDS = {"lazy": FakeBackend, "other": Plain}
WORKLOADS = {"transfer": Plain, "conflict": Conflict}
HEAD = '[scenario]\nname = "mine"\n'


def read(text: str, *overrides: str) -> Scenario:
    return parse_scenario(HEAD + text, source="mine.toml", overrides=overrides, backends=BACKENDS, workloads=WORKLOADS)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(InvalidScenario) as caught:
        read(text, *overrides)
    return str(caught.value)


def test_defaults_are_those_of_the_tables() -> None:
    scenario = read("")
    assert (scenario.testnet.rollups, scenario.testnet.launcher, scenario.testnet.backend) == (4, "ray", "lazy")
    assert (scenario.load.rate_per_s, scenario.load.duration_s, scenario.workload.lanes) == (100, 30, 64)
    assert scenario.faults == ()
    assert scenario.backend_options == {}


def test_values_are_read_with_their_types() -> None:
    scenario = read(
        """
        [backend]
        block_interval_ms = 20
        [load]
        rate_per_s = 200
        [workload]
        kind = "conflict"
        hot_share = 0.5
        [genesis]
        contracts = [{ artifact = "out/A.json", constructor_args = [1, "x"] }]
        [[faults]]
        at_s = 5
        kind = "kill"
        target = "rollup-1"
        what = "engine"
        """
    )
    assert scenario.backend_options == {"block_interval_ms": 20}
    assert isinstance(scenario.load.rate_per_s, float)
    assert scenario.workload.options == {"hot_share": 0.5}
    assert scenario.genesis.contracts[0].constructor_args == (1, "x")
    assert scenario.faults[0].options == {"what": "engine"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[testnet]\nrolups = 4", ["mine.toml", "'rolups'", "[testnet]", "'rollups'"]),
        ("[testnett]\nrollups = 4", ["mine.toml", "'testnett'", "'testnet'"]),
        (
            "[backend]\nblock_intervall_ms = 4",
            ["mine.toml", "'block_intervall_ms'", "[backend]", "'block_interval_ms'"],
        ),
        ("[workload]\nkind = 'conflict'\nhot_shar = 1", ["mine.toml", "'hot_shar'", "[workload]", "'hot_share'"]),
        ("[workload]\nhot_share = 0.1", ["'hot_share'", "[workload]"]),
        ("[genesis]\ncontracts = [{ artefact = 'a' }]", ["contracts[0]", "'artefact'", "'artifact'"]),
        ("[[faults]]\nat_s = 1", ["faults[0]", "kind", "missing"]),
    ],
)
def test_unknown_or_missing_key_names_file_key_and_nearest(text: str, parts: list[str]) -> None:
    message = refusal(text)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[testnet]\nrollups = 0", ["mine.toml", "[testnet] rollups", "0", "1 to 1,024"]),
        ("[testnet]\nrollups = '4'", ["[testnet] rollups", "'4'", "whole number"]),
        ("[testnet]\nrollups = true", ["[testnet] rollups", "True", "whole number"]),
        ("[rollup]\nverify_proofs = 1", ["[rollup] verify_proofs", "true or false"]),
        ("[load]\nkind = 'stedy'", ["[load] kind", "'steady'"]),
        ("[load]\nduration_s = 4", ["warmup_s", "4 s"]),
        ("[load]\narrivals = 'trace'", ["trace", "FILE.csv"]),
        ("[load]\narrivals = 'trace'\ntrace = 'a.csv'\nkind = 'sweep'", ["'sweep'", 'kind = "steady"']),
        ("[load]\nkind = 'burst'", ["burst_rate_per_s"]),
        ("[workload]\nkind = 'conflict'\nhot_share = 1.5", ["hot_share", "0 to 1"]),
        ("[backend]\nblock_interval_ms = 99999", ["mine.toml", "[backend]", "12,000", "99,999"]),
    ],
)
def test_bad_value_names_key_value_and_bounds(text: str, parts: list[str]) -> None:
    message = refusal(text)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"), [("= 3", "mine.toml is not TOML"), ("testnet = 3", "[testnet]"), ("faults = 3", "[[faults]]")]
)
def test_broken_files(text: str, part: str) -> None:
    with pytest.raises(InvalidScenario) as caught:
        parse_scenario(text + "\n" + HEAD, source="mine.toml", backends=BACKENDS)
    assert part in str(caught.value)


def test_a_scenario_needs_a_name() -> None:
    with pytest.raises(InvalidScenario, match=r"\[scenario\] name is missing"):
        parse_scenario("", source="x.toml", backends=BACKENDS)


def test_overrides_by_full_and_by_short_key() -> None:
    scenario = read("", "testnet.rollups=8", "rate_per_s=2000", "block_interval_ms=20", "testnet.launcher=inprocess")
    assert scenario.testnet.rollups == 8
    assert scenario.load.rate_per_s == 2000
    assert scenario.backend_options == {"block_interval_ms": 20}
    assert scenario.testnet.launcher == "inprocess"
    assert scenario.overrides[0] == "testnet.rollups=8"


TWO = "[backend]\nblock_interval_ms = 20\n[backend.other]\nlegs = 5\n"


def test_keys_of_the_backend_table_are_the_files_own_backends() -> None:
    own = read(TWO)
    assert own.backend_options == {"block_interval_ms": 20}
    assert own.notes == ()
    other = read(TWO, "testnet.backend=other")
    assert other.backend_options == {"legs": 5}
    assert len(other.notes) == 1
    for part in ("is for lazy", "other runs without block_interval_ms = 20", "backend.other.KEY"):
        assert part in other.notes[0]
    assert read("[backend]\nblock_interval_ms = 20", "backend=other").backend_options == {}


def test_overrides_reach_the_chosen_backend_or_the_one_that_they_name() -> None:
    assert read(TWO, "backend=other", "backend.legs=7").backend_options == {"legs": 7}
    assert read(TWO, "backend=other", "backend.legs=7", "backend.other.legs=8").backend_options == {"legs": 8}
    aside = read(TWO, "backend.other.legs=8", "block_interval_ms=30")
    assert aside.backend_options == {"block_interval_ms": 30}
    assert "of the backend lazy, not of other" in refusal(TWO, "backend=other", "backend.block_interval_ms=30")
    assert "'legs'" in refusal(TWO, "backend.other.leggs=1")
    # A short key stands for one of the chosen backend, whatever sub-tables there are.
    assert read(TWO, "block_bytes_max=2000").backend_options == {"block_interval_ms": 20, "block_bytes_max": 2000}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[backend.othr]\nlegs = 1", ["mine.toml", "'othr'", "[backend]", "'other'"]),
        ("[backend.other]\nlegss = 1", ["mine.toml", "'legss'", "[backend.other]", "'legs'"]),
        ("[backend.lazy]\nblock_interval_ms = 99999", ["[backend]", "12,000"]),
        (
            "[backend]\nblock_interval_ms = 20\n[backend.lazy]\nblock_interval_ms = 30",
            ["block_interval_ms", "[backend.lazy]", "leave one out"],
        ),
    ],
)
def test_sub_tables_are_checked_also_where_another_backend_is_chosen(text: str, parts: list[str]) -> None:
    for overrides in ((), ("testnet.backend=other",)):
        message = refusal(text, *overrides)
        for part in parts:
            assert part in message


def test_an_override_may_name_keys_of_the_workload_that_another_selects() -> None:
    scenario = read("", "hot_share=0.25", "workload.kind=conflict")
    assert scenario.workload.options == {"hot_share": 0.25}
    assert read("", "backend=other", "backend.legs=3").backend_options == {"legs": 3}


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("rolups=8", ["'rolups'", "testnet.rollups"]),
        ("kind=x", ["ambiguous", "load.kind", "workload.kind"]),
        ("testnet.rolups=8", ["rolups", "'rollups'"]),
        ("tesnet.rollups=8", ["tesnet", "'testnet'"]),
        ("rollups", ["KEY=VALUE"]),
        ("rollups=many", ["[testnet] rollups", "'many'", "whole number"]),
    ],
)
def test_bad_override(override: str, parts: list[str]) -> None:
    message = refusal("", override)
    for part in parts:
        assert part in message


def test_unknown_backend_workload_and_scenario_are_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown backend 'lasy'; did you mean 'lazy'"):
        read("[testnet]\nbackend = 'lasy'")
    with pytest.raises(UnknownName, match=r"unknown workload 'tranfer'; did you mean 'transfer'"):
        read("[workload]\nkind = 'tranfer'")
    with pytest.raises(UnknownName, match=r"unknown scenario 'quik'; did you mean 'quick'"):
        load_scenario("quik", backends=BACKENDS)
    with pytest.raises(InvalidScenario, match=r"nowhere\.toml does not exist; built in: .*quick"):
        load_scenario("nowhere.toml", backends=BACKENDS)


def test_without_workload_types_their_keys_are_kept_unread() -> None:
    scenario = parse_scenario(
        HEAD + "[workload]\nanything = 3", source="m", backends=BACKENDS, overrides=["workload.more=4"]
    )
    assert scenario.workload.options == {"anything": 3, "more": 4}


def test_a_float_from_a_whole_number_and_a_nested_list() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Config:
        share: float = 0.0
        names: tuple[str, ...] = ()
        limit: int | None = None

    config = read_table(Config, {"share": 1, "names": ["a"], "limit": 3}, table="t", source="s")
    assert (config.share, config.names, config.limit) == (1.0, ("a",), 3)
    with pytest.raises(InvalidScenario, match=r"\[t\] names\[1\] = 2 must be text"):
        read_table(Config, {"names": ["a", 2]}, table="t", source="s")


@pytest.mark.parametrize("name", sorted(builtin_scenarios()))
def test_built_in_scenarios_are_valid(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name.rpartition("/")[2]
    assert scenario.about.description
