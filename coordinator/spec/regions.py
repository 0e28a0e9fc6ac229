"""Where the nodes of a scenario stand, and how far apart that is: `[regions]` and `[network]`, resolved.

The distances that come with Lockstep are in `regions.toml` beside this module, each with its source.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn

from coordinator.spec.scenario import Scenario
from nodes.model.errors import InvalidScenario
from nodes.model.wide_area import CLIENTS, NOWHERE, SOLANA, RegionPair, WideArea

SHIPPED = Path(__file__).with_name("regions.toml")
DEFAULT = "default"
MAX_ROUND_TRIP_MS = 10_000.0
GROUPS: Mapping[str, str] = {"rollup": "rollups", "attester": "attesters"}
"""Key of `[regions]` for all nodes of a kind."""
PLACES = (DEFAULT, CLIENTS, SOLANA, "sequencer", "l1", "agglayer", "builder", *GROUPS.values())
_NUMBERED = re.compile(r"rollup-[1-9]\d*(-replica-[1-9]\d*)?|attester-[1-9]\d*")
_REPLICA = re.compile(r"(rollup-\d+)-replica-\d+")

Distances = dict[frozenset[str], RegionPair]


def resolve_wide_area(scenario: Scenario, nodes: Mapping[str, Iterable[str]]) -> WideArea | None:
    """The network of a scenario, None where it has no `[regions]`. `nodes`: names by kind.

    Raises InvalidScenario for a node or a region that does not exist, and for regions whose distance nobody says.
    """
    if not scenario.regions:
        return None
    where = f"{scenario.source}: [regions]"
    distances = _distances(scenario)
    known = sorted({region for pair in distances for region in pair})
    for name, region in scenario.regions.items():
        if name not in PLACES and not _NUMBERED.fullmatch(name):
            _refuse(f"{where}: {name!r} is no node; ", name, PLACES, more="rollup-1, attester-1, ...")
        if region != NOWHERE and region not in known:
            _refuse(f"{where}: {name} = {region!r} is no region; ", region, known, more=f"{NOWHERE} = nowhere")
    regions = {name: _place(scenario.regions, name, kind) for kind, names in nodes.items() for name in names}
    regions |= {name: _place(scenario.regions, name, "") for name in (CLIENTS, SOLANA)}
    network = scenario.network
    used = sorted({*regions.values()} - {NOWHERE})
    return WideArea(
        seed=scenario.seed,
        regions=regions,
        pairs=tuple(_pair(distances, first, second, where=where) for first, second in combinations(used, 2)),
        jitter_share=network.jitter_share,
        loss=network.loss,
        bandwidth_mbit=network.bandwidth_mbit,
    )


def _place(placed: Mapping[str, str], name: str, kind: str) -> str:
    """Of a node: by its own name, that of its rollup's first node, all of its kind, all that are left."""
    replica = _REPLICA.fullmatch(name)
    for key in (name, replica[1] if replica else name, GROUPS.get(kind, DEFAULT), DEFAULT):
        if key in placed:
            return placed[key]
    return NOWHERE


def _pair(distances: Distances, first: str, second: str, *, where: str) -> RegionPair:
    pair = distances.get(frozenset((first, second)))
    if pair is None:
        raise InvalidScenario(
            f"{where}: nobody says how far {first} and {second} are apart; add it to the scenario: "
            f"[network.round_trip_ms] {first} = {{ {second} = MILLISECONDS }}"
        )
    return pair


def _distances(scenario: Scenario) -> Distances:
    """Every pair that is known: the scenario's own first, then its matrix, then what comes with Lockstep."""
    network, source = scenario.network, scenario.source
    found = _pairs(network.round_trip_ms, source="the scenario", where=f"{source}: [network] round_trip_ms")
    files = [SHIPPED]
    if network.matrix:
        files.insert(0, Path(source).parent / network.matrix)
    for file in files:
        for pair, entry in read_matrix(file).items():
            found.setdefault(pair, entry)
    return found


def read_matrix(path: Path) -> Distances:
    """The pairs of a file like `regions.toml`. Raises InvalidScenario where it cannot be read."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidScenario(f"the matrix of regions {path} cannot be read: {error}") from error
    sources = document.get("source")
    if not isinstance(sources, list) or not all(isinstance(entry, dict) for entry in sources):
        raise InvalidScenario(f"{path} has no [[source]] with a name and [source.round_trip_ms]; see {SHIPPED.name}")
    found: Distances = {}
    for entry in sources:
        missing = [key for key in ("name", "round_trip_ms") if not entry.get(key)]
        if missing:
            raise InvalidScenario(f"{path}: a [[source]] lacks {missing[0]}")
        about = ", ".join(str(entry[key]) for key in ("name", "date", "url") if entry.get(key))
        pairs = _pairs(entry["round_trip_ms"], source=about, where=f"{path}: {entry['name']}")
        for pair, item in pairs.items():
            found.setdefault(pair, item)
    return found


def _pairs(table: Any, *, source: str, where: str) -> Distances:
    """From region to region to milliseconds; each pair once, in either order."""
    found: Distances = {}
    rows = table if isinstance(table, dict) else {"": table}
    for first, row in rows.items():
        if not isinstance(row, dict):
            raise InvalidScenario(f"{where}: must be like us-east-1 = {{ eu-west-1 = 66 }}")
        for second, value in row.items():
            name = f"{where}: {first} = {{ {second} = {value!r} }}"
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_ROUND_TRIP_MS:
                raise InvalidScenario(f"{name} must be a round trip above 0 and up to {MAX_ROUND_TRIP_MS:,.0f} ms")
            pair = frozenset((first, second))
            if len(pair) < 2 or NOWHERE in pair:
                raise InvalidScenario(f"{name} must name two regions")
            if pair in found:
                raise InvalidScenario(f"{name} stands there twice: the way back is as long as the way there")
            found[pair] = RegionPair(first=first, second=second, round_trip_ms=float(value), source=source)
    return found


def _refuse(complaint: str, name: str, known: Iterable[str], *, more: str) -> NoReturn:
    names = list(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}, {more}"
    raise InvalidScenario(complaint + hint)
