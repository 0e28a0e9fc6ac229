"""The command line: help for everything, mistakes answered clearly, and a bundle sent by hand."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from coordinator.bundle import Bundle
from coordinator.cli import main
from coordinator.spec import dev_account
from coordinator.testing import running_testnet
from tests.support.bench import bench, check_sound, lockstep, scenario
from tests.support.patience import PATIENCE_S


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found.append((*prefix, name))
        if isinstance(command, click.Group):
            found += commands(command, (*prefix, name))
    return found


def test_the_commands_that_users_were_promised_exist() -> None:
    promised = {"up", "bench", "sweep", "compare", "report", "verify", "show", "status", "backends", "workloads"}
    promised |= {"bundle"}
    assert promised <= set(main.commands)
    assert {("bundle", "build"), ("bundle", "sign"), ("bundle", "send")} <= set(commands(main))


@pytest.mark.parametrize("path", commands(main), ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    context = click.Context(command, info_name=" ".join(("lockstep", *path)))
    text = command.get_help(context)
    assert len(text) > 80
    if command.params:
        assert f"lockstep {path[0]}" in text or "[[legs]]" in text
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), parameter.name


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = ("import sys\nfrom coordinator.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "heavy = ('ray', 'web3', 'matplotlib', 'pyarrow', 'numpy', 'grpc')\n"
            "print([name for name in heavy if name in sys.modules])")  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.rstrip().endswith("[]")
    # CPU time, so that it does not matter what else this machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5, "0.1 s on a quiet machine"


def test_lists_name_backends_and_workloads_with_their_keys() -> None:
    backends = lockstep("backends").stdout
    for text in ("lazy:", "soft", "firm", "sequenced  p50 50 ms", "executed", "the sequencer node: trusted for"):
        assert text in backends
    listed = lockstep("workloads").stdout
    for text in ("transfer:", "conflict:", "hot_share = 0.2", "swap:", "tolerance_bps"):
        assert text in listed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "quik"], "did you mean 'quick'"),
        (["bench", "quick", "--set", "rolups=3"], "did you mean 'testnet.rollups'"),
        (["bench", "quick", "--set", "workload.lane=3"], "did you mean 'lanes'"),
        (["bench", "quick", "--workload", "swop"], "did you mean 'swap'"),
        (["bench", "quick", "--backend", "lasy"], "did you mean 'lazy'"),
        (["bench", "quick", "--launcher", "rai"], "did you mean 'ray'"),
        (["bench", "quick", "--rollups", "1"], "legs is 2"),
        (["bench", "quick", "--vary", "rollups"], "is not KEY=A,B,C"),
        (["bench", "quick", "--rate", "100000000"], "rate_per_s"),
        (["bench", "quick", "--baseline", "."], "has no results.json"),
        (["bench", "quick", "--baseline", ".", "--vary", "rollups=2,3"], "leave out --vary"),
        (["bench", "saturation", "--rate", "1000"], "rate_per_s does nothing"),
        (["bench", "saturation", "--duration", "20"], "duration_s does nothing"),
        (["bench", "quick", "--launcher", "inprocess", "--ray-address", "127.0.0.1:1"], "uses no Ray cluster"),
        (["bench", "absent.toml"], "does not exist"),
        (["compare", "quick", "--backends", "lazy,lasy"], "did you mean 'lazy'"),
        (["compare", "quick", "--backends", "lazy"], "names 1; a comparison takes 2"),
        (["compare", "quick", "--backends", "lazy,lazy", "--repeats", "0"], "--repeats 0 must be 1 to"),
        (["compare", "quik", "--backends", "lazy,lazy"], "did you mean 'quick'"),
        (["compare", "quick", "--backends", "lazy,lazy", "--solana", "devnode"], "--solana is for the backend solana"),
        (["compare", "quick", "--backends", "lazy,lazy", "--launcher", "rai"], "did you mean 'ray'"),
        (["compare", "saturation", "--backends", "lazy,lazy", "--rate", "9"], "rate_per_s does nothing"),
        (["bench", "quick", "--set", "backend.lasy.block_interval_ms=9"], "did you mean 'backend.lazy'"),
        (["report", "."], "no run.json"),
        (["verify", "."], "no run.json"),
        (["show", ".", "1"], "no run.json"),
        (["status"], "no testnet runs"),
        (["status", "."], "no testnet runs"),
        (["up", "--resume", ".", "--rollups", "3"], "cannot be changed"),
    ],
)
def test_mistakes_get_one_clear_message_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = lockstep(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_a_bundle_that_cannot_be_written_is_a_mistake_with_a_message(tmp_path: Path) -> None:
    alice = dev_account(1, "user", 0)
    leg = {"sender": alice.address, "to": alice.address, "gas": 30_000, "nonce": 0}
    file = tmp_path / "bundle.json"
    file.write_text(Bundle.build([{**leg, "rollup": 7001}, {**leg, "rollup": 7002}]).to_json(), encoding="utf-8")
    done = lockstep("bundle", "sign", file, "--key", "0x" + alice.key.hex(), "--out", tmp_path / "absent" / "b.json")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_progress_as_json_is_one_object_per_line(tmp_path: Path) -> None:
    text = "[load]\nrate_per_s = 40\nduration_s = 3\nwarmup_s = 0\ncooldown_s = 0\n"
    done = lockstep("bench", scenario(tmp_path, text), "--no-calibrate", "--out", tmp_path / "a", "--progress", "json")
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    progress = [event for event in events if event["event"] == "progress"]
    assert len(progress) >= 3
    assert [event["due"] for event in progress] == sorted(event["due"] for event in progress)
    assert {"accepted", "pending", "executed_per_s", "remaining_s"} <= progress[-1].keys()
    assert len(events) == len(done.stdout.splitlines()), "standard output is for programs"
    assert "Results:" in done.stderr


@pytest.mark.e2e
def test_json_prints_the_results_and_a_run_is_never_written_over(tmp_path: Path) -> None:
    text = "[load]\nrate_per_s = 20\nduration_s = 1\nwarmup_s = 0\ncooldown_s = 0\n"
    file = scenario(tmp_path, text)
    done = bench(file, tmp_path / "run", "--json")
    check_sound(done, tmp_path / "run")
    assert json.loads(done.stdout)["bundles"]["lost"] == 0
    done = bench(file, tmp_path / "run")
    assert done.returncode == 2
    assert "already holds a run" in done.stderr


@pytest.mark.e2e
def test_a_bundle_is_built_signed_by_two_people_and_sent(tmp_path: Path) -> None:
    with running_testnet(tmp_path / "testnet", overrides=["testnet.rollups=2"]) as testnet:
        alice, bob = testnet.accounts[:2]
        legs = tmp_path / "legs.toml"
        legs.write_text(
            f'[[legs]]\nrollup = "rollup-1"\nsender = "{alice.address}"\nto = "{bob.address}"\nvalue = "1 gwei"\n'
            f'[[legs]]\nrollup = {testnet.rollups[1].chain_id}\nsender = "{bob.address}"\n'
            f'to = "{testnet.contracts["Counter"]}"\ncall = "incrementIf(uint256,uint256)"\nargs = [9, 1]\n'
            "gas = 100000\n",
            encoding="utf-8",
        )
        file = tmp_path / "bundle.json"
        (tmp_path / "bob.key").write_text(bob.private_key + "\n", encoding="utf-8")
        built = lockstep("bundle", "build", legs, "--testnet", testnet.directory, "--out", file)
        assert built.returncode == 0, built.stderr
        assert alice.address in built.stdout
        early = lockstep("bundle", "send", file, "--testnet", testnet.directory)
        assert early.returncode == 2
        assert "not signed by" in early.stderr
        assert lockstep("bundle", "sign", file, "--key", alice.private_key).returncode == 0
        signed = lockstep("bundle", "sign", file, "--key-file", tmp_path / "bob.key")
        assert "every leg is signed" in signed.stdout
        sent = lockstep("bundle", "send", file, "--testnet", testnet.directory)
        # The counter stands at 0, not at 1: that leg reverts, and the exit code says that not everything succeeded.
        assert sent.returncode == 1, sent.stderr
        for text in ("accepted", "sequenced at height", "leg 1 on rollup-1: succeeded", "leg 2 on rollup-2: reverted",
                     "partly succeeded", "firm at height"):  # fmt: skip
            assert text in sent.stdout
        status = lockstep("status", testnet.directory, "--json")
        assert status.returncode == 0
        assert {node["state"] for node in json.loads(status.stdout)["nodes"]} == {"ok"}
