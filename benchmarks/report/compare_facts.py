"""What a comparison ran, in a few rows: command, date, testnet, load, seed, machine, versions, the order of each side.

Reads results.json of the runs. What differs between runs is listed, not averaged.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.report import wording

MAIN_VERSIONS = ("lockstep", "python", "anvil", "ray", "grpcio")
VALUES_SHOWN = 6
Run = Mapping[str, Any]
Facts = tuple[tuple[str, str], ...]


def comparison_facts(
    labels: Sequence[str], sides: Sequence[Sequence[Run]], *, command: str, left_out: Sequence[str] = ()
) -> Facts:
    """Name and text of each row; `command` is the comparison's, empty where each run has its own."""
    runs = [run for side in sides for run in side]
    if not runs:
        return ()
    rows = [
        ("Command", command or _all(runs, lambda run: str(run["configuration"].get("command", "")))),
        ("Date", _date(runs)),
        ("Testnet", _all(runs, _testnet)),
        ("Load", _all(runs, _load)),
        ("Seed", _all(runs, lambda run: str(run["configuration"].get("seed", wording.NOT_KNOWN)))),
        ("Machine", _all(runs, lambda run: wording.machine_text(run["machine"]))),
        ("Versions", _all(runs, _versions)),
    ]
    for label, side in zip(labels, sides, strict=True):
        order = _all(side, lambda run: str(run["configuration"].get("backend_is") or ""))
        rows.append((f"Order, {label}", order))
    rows += [("Left out", note) for note in left_out]
    return tuple((name, text) for name, text in rows if text)


def _all(runs: Sequence[Run], say: Callable[[Run], str]) -> str:
    """The distinct texts in the order of the runs."""
    texts = [text for text in dict.fromkeys(say(run) for run in runs) if text]
    more = f" and {len(texts) - VALUES_SHOWN} more" if len(texts) > VALUES_SHOWN else ""
    return " | ".join(texts[:VALUES_SHOWN]) + more


def _date(runs: Sequence[Run]) -> str:
    times = sorted(int(at) for run in runs if (at := run["configuration"].get("started_wall_ns")))
    if not times:
        return ""
    first, last = (f"{datetime.fromtimestamp(at / 1e9, UTC):%Y-%m-%d %H:%M}" for at in (times[0], times[-1]))
    return f"{first} UTC" if first == last else f"{first} to {last} UTC"


def _testnet(run: Run) -> str:
    conf = run["configuration"]
    parts = [
        f"{conf.get('rollups', wording.NOT_KNOWN)} rollups",
        f"{conf['replicas']} replicas" if conf.get("replicas", 1) > 1 else "",
        f"{conf.get('launcher', wording.NOT_KNOWN)} launcher",
        f"{conf.get('workload', wording.NOT_KNOWN)} of {conf.get('legs_per_bundle', wording.NOT_KNOWN)} legs",
        f"atomicity {(run.get('atomicity') or {}).get('mode', 'inclusion')}",
    ]
    return ", ".join(part for part in parts if part)


def _load(run: Run) -> str:
    load, conf = run["load"], run["configuration"]
    rates = [f"{phase['rate_per_s']:g}" for phase in run["phases"]]
    # A sweep chooses its steps by what it finds.
    rate = "" if load["kind"] == "sweep" or not rates else f", {', '.join(rates)} bundles/s"
    arrivals = str(conf.get("arrivals", wording.NOT_KNOWN)).replace("poisson", "Poisson")
    return f"{load['kind']}{rate} for {load['load_s']:g} s, {arrivals} arrivals"


def _versions(run: Run) -> str:
    known = {str(name).lower(): version for name, version in run.get("versions", {}).items()}
    named = [f"{name} {known[name]}" for name in MAIN_VERSIONS if name in known]
    commit = run["configuration"].get("commit")
    return ", ".join([*([f"commit {wording.short_commit(str(commit))}"] if commit else []), *named])
