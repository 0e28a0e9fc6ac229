"""Secrets of a backend stay out of what is written: refused where they stand in a scenario, read from outside."""

import socket
from pathlib import Path

import pytest
from solders.keypair import Keypair

from coordinator.record import RunDirectory
from coordinator.spec import Scenario, parse_scenario, resolve
from coordinator.spec.backend_table import refuse_keys_of_others
from coordinator.stages.bench import REPLAY_AFTER_WINDOWS, replay_delay_ns
from coordinator.stages.inputs import write_inputs
from coordinator.stages.outside import check_outside
from nodes.model.errors import InvalidInput, InvalidScenario, Unavailable
from nodes.sequencer.solana import BACKEND
from nodes.sequencer.solana_options import Config

SECRET = "s3cr3tK3yOfSomebodyElseAndNoneOfOurs5aBcDeFg"
URL = "http://127.0.0.1:8899"
FILE = "./id.json"


def scenario(*overrides: str, text: str = "") -> Scenario:
    return parse_scenario(
        f'[scenario]\nname = "t"\n[testnet]\nrollups = 1\nbackend = "solana"\n{text}',
        source="t.toml",
        overrides=overrides,
    )


def keypair_file(folder: Path) -> Path:
    path = folder / "id.json"
    path.write_text(Keypair.from_seed(b"\x07" * 32).to_json())
    return path


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"keypair": SECRET}, "env:NAME"),
        ({"keypair": "ab" * 32}, "env:NAME"),
        ({"keypair": "[1, 2, 3]"}, "env:NAME"),
        ({"solana": f"https://rpc.example.org/?api-key={SECRET}", "keypair": FILE}, 'solana = "env:NAME"'),
        ({"solana": f"https://rpc.example.org/v2/{SECRET}", "keypair": FILE}, "rpc.example.org has a path"),
        ({"solana": f"https://{SECRET}@rpc.example.org", "keypair": FILE}, 'solana = "env:NAME"'),
        ({"solana": f"htps://rpc.example.org/{SECRET}", "keypair": FILE}, "must be a URL such as http://"),
        ({"solana": URL, "ws_url": f"wss://rpc.example.org/{SECRET}", "keypair": FILE}, 'ws_url = "env:NAME"'),
        ({"solana": f"rpc.example.org/{SECRET}", "keypair": FILE}, "neither a name nor a URL; it must be 'devnode'"),
        ({"ws_url": f"wss://rpc.example.org/?key={SECRET}"}, 'ws_url = "env:NAME"'),
        ({"store_url": f"postgresql://user:{SECRET}@host/name"}, 'store_url = "env:NAME"'),
        ({"store_url": f"postgresql://user:a/b{SECRET}#@host/name"}, 'store_url = "env:NAME"'),
        ({"store_url": f"postgresql://host/name?password={SECRET}"}, 'store_url = "env:NAME"'),
        ({"store_url": f"sqlite:////tmp/x.db?password={SECRET}"}, 'store_url = "env:NAME"'),
        ({"store_url": f"mysql://user:{SECRET}@host/name"}, "a file .sqlite:///path. or a Postgres database"),
        ({"store_url": f"{SECRET}"}, "a file .sqlite:///path. or a Postgres database"),
        ({"store_url": "sqlite:///:memory:"}, "a file"),
        ({"keypair": "env:two words"}, "the name of a variable"),
    ],
)
def test_a_secret_in_a_scenario_is_refused_and_not_repeated(options: dict[str, str], remedy: str) -> None:
    with pytest.raises(InvalidScenario, match=remedy) as refused:
        BACKEND.configure(options)
    assert SECRET not in str(refused.value)
    with pytest.raises(InvalidScenario) as refused:
        scenario(*(f"backend.{key}={value}" for key, value in options.items()))
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"solana": URL, "keypair": FILE},
        {
            "solana": "https://api.example.org/",
            "keypair": "~/.config/solana/id.json",
            "ws_url": "wss://api.example.org",
        },
        {"solana": "env:RPC", "ws_url": "env:WS", "keypair": "env:KEY", "store_url": "env:STORE"},
        {"store_url": "sqlite:////var/lib/heights.db"},
        {"store_url": "postgresql+psycopg://reader@db.example.org:5432/heights"},
    ],
)
def test_what_holds_no_secret_is_taken(options: dict[str, str]) -> None:
    BACKEND.configure(options)


def test_a_run_directory_holds_names_of_variables_and_the_node_gets_their_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "RPC": f"https://rpc.example.org/?api-key={SECRET}",
        "STORE": f"postgresql://user:{SECRET}@host/name?sslmode=require",
        "KEY": str(Keypair.from_seed(b"\x07" * 32)),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    wanted = scenario("backend.solana=env:RPC", "backend.store_url=env:STORE", "backend.keypair=env:KEY")
    testnet = resolve(wanted)
    outside = BACKEND.configure(testnet.backend_options).outside()
    assert (outside.solana, outside.store_url, outside.keypair) == tuple(values.values())
    assert SECRET not in repr(outside)
    run = RunDirectory.create(tmp_path / "run")
    write_inputs(run, wanted, testnet)
    written = "".join(path.read_text() for path in run.path.iterdir() if path.is_file())
    assert "env:RPC" in written
    assert all(value not in written for value in (SECRET, *values.values()))
    assert SECRET not in BACKEND.describe_config(BACKEND.configure(testnet.backend_options))


def test_a_variable_that_is_not_set_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOBODYS", raising=False)
    with pytest.raises(InvalidScenario, match="solana is env:NOBODYS, and that variable is not set"):
        resolve(scenario("backend.solana=env:NOBODYS", f"backend.keypair={FILE}"))
    # A chain of one's own needs neither.
    resolve(scenario("backend.solana=devnode", "backend.keypair=env:NOBODYS"))


@pytest.mark.parametrize("value", [SECRET, f"rpc.example.org/{SECRET}", f"ftp://host/{SECRET}"])
def test_a_variable_with_something_else_is_refused_without_its_value(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RPC", value)
    with pytest.raises(InvalidScenario, match="solana must be a URL") as refused:
        resolve(scenario("backend.solana=env:RPC", f"backend.keypair={FILE}"))
    assert SECRET not in str(refused.value)


def test_a_keypair_file_is_read_before_anything_starts(tmp_path: Path) -> None:
    good, bad = keypair_file(tmp_path), tmp_path / "bad.json"
    resolve(scenario(f"backend.solana={URL}", f"backend.keypair={good}"))
    bad.write_text("[1, 2]")
    for path, text in ((tmp_path / "none.json", "cannot be read"), (bad, "has 2 bytes")):
        with pytest.raises(InvalidScenario, match=text) as refused:
            resolve(scenario(f"backend.solana={URL}", f"backend.keypair={path}"))
        assert "t.toml: [backend] keypair" in str(refused.value)


def test_an_https_endpoint_takes_no_emulated_link(tmp_path: Path) -> None:
    keys = (f"backend.keypair={keypair_file(tmp_path)}", "backend.solana=https://rpc.example.org")
    far = '[regions]\ndefault = "us-east-1"\nsolana = "eu-west-1"\n'
    with pytest.raises(InvalidScenario, match='solana = "none" in'):
        resolve(scenario(*keys, text=far))
    for near in (far.replace("eu-west-1", "none"), far.replace("eu-west-1", "us-east-1"), ""):
        resolve(scenario(*keys, text=near))


async def test_an_rpc_that_nobody_serves_is_known_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, and nobody answers
        monkeypatch.setenv("RPC", f"http://127.0.0.1:{closed.getsockname()[1]}/?api-key={SECRET}")
        testnet = resolve(scenario("backend.solana=env:RPC", f"backend.keypair={keypair_file(tmp_path)}"))
        with pytest.raises(Unavailable, match="Is a Solana node running there, and is the URL right") as refused:
            await check_outside(testnet, ray_address="")
        assert SECRET not in str(refused.value)
        await check_outside(testnet, ray_address="ray://elsewhere:10001")
    await check_outside(resolve(scenario()), ray_address="")


def test_a_key_for_another_backend_is_named_without_its_value() -> None:
    with pytest.raises(InvalidInput, match=r"backend\.solana\.keypair is for the backend solana") as refused:
        refuse_keys_of_others([f"backend.solana.keypair={SECRET}"], chosen="lazy")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(("override", "height_ms"), [("backend.bucket_ms=0", 400), ("backend.bucket_ms=2000", 2_000)])
def test_a_replay_waits_for_heights_as_wide_as_the_backend_makes_them(override: str, height_ms: int) -> None:
    testnet = resolve(scenario(override, "testnet.replay_window=10"))
    assert replay_delay_ns(testnet) == REPLAY_AFTER_WINDOWS * 10 * height_ms * 1_000_000


def test_relations_of_keys_are_said_as_relations() -> None:
    with pytest.raises(InvalidScenario, match="finalize_slots must be at least confirm_slots"):
        Config(confirm_slots=5, finalize_slots=2)
    for value in (500, 60_001, True, "1000"):
        with pytest.raises(InvalidScenario, match=r"must be 0 .* or 1,000 to 60,000"):
            Config(bucket_ms=value)  # type: ignore[arg-type]  # as a file may have it


@pytest.mark.parametrize("override", ["bucket_ms=1000", "backend.bucket_ms=1000"])
def test_a_key_that_only_another_backend_has_names_that_backend(override: str) -> None:
    with pytest.raises(InvalidScenario, match="a key of the backend solana, not of lazy"):
        parse_scenario('[scenario]\nname = "t"\n', source="t.toml", overrides=[override])


def test_a_key_of_another_backend_in_a_file_names_that_backend() -> None:
    for table in ("backend", "backend.lazy"):
        with pytest.raises(InvalidScenario, match=r"bucket_ms: this is a key of the backend solana, not of lazy"):
            parse_scenario(f'[scenario]\nname = "t"\n[{table}]\nbucket_ms = 1000\n', source="t.toml")
