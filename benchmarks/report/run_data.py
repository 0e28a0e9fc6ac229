"""Reads a run directory into arrays. The only module of the report that knows the files' names and columns.

It computes nothing: what is absent stays absent. Times become milliseconds after the start of the load, as floats,
where NaN means "never happened"; a float holds a nanosecond exactly over any run shorter than 100 days.

What run.json says of an aggregation layer; each key is absent where the run has none of it:

    atomicity             inclusion, bond or agglayer
    agglayer              {prover, label, attesters, threshold, attesters_separate, settle, settled_in_time, liars,
                          slot_time_ms, epoch_blocks, finality_slots, serial_rounds, certificate_interval_s, ...}
    mints_per_bundle      contingent mints of one bundle: the hops that its value takes
    conservation          {tokens: [{token, decimals, escrow, supply: {rollup: amount}, in_flight, created,
                          unbacked: {rollup: amount}}], not_counted: [{network, address, events}]}, amounts in
                          smallest units
    evidence, notices     lists of {accused, found_by, detail} and of {kind, height, rollup, voided, ...}
    bond                  {paid, paid_wei, claim_gas, unpaid: {why: bundles}, executed_not_whole,
                          account: {capital_wei, release_s, expected_per_s, measured_per_s, lacked_bond, ...}}
    capital               {escrow_<token>, bank_outstanding, bond_wei, most_bonded_wei, bundles_judged,
                          bundles_refused}
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nodes.model.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NS_PER_MS = 1_000_000
OUTCOMES = ("succeeded", "partly", "reverted", "skipped", "dropped", "refused", "unsent", "lost", "aborted")
FATES = ("succeeded", "reverted", "skipped", "dropped", "missing", "aborted")
STAGES = ("accepted", "sequenced", "firm", "executed", "atomic_safe", "proved", "settled", "final")
"""In the order of a bundle's life. A run has the stages whose column is filled, and those that its mode promises."""
ALWAYS = ("accepted", "sequenced", "executed")
VERDICT_STAGES = ("atomic_safe",)
SETTLEMENT_STAGES = ("proved", "settled", "final")
INCLUSION, BOND, AGGLAYER = "inclusion", "bond", "agglayer"
NO_HEIGHT = -1


def shown_stage(stage: str) -> str:
    """A stage as every text and figure calls it; sequenced is the soft promise of a backend."""
    return "sequenced (soft)" if stage == "sequenced" else stage.replace("_", "-")


class BrokenRunDirectory(InvalidInput):
    """A run directory lacks what a report needs, or a file of it cannot be read. Names the file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """One entry per bundle of the schedule, in order of due time."""

    ids: Ints
    legs: Ints
    due_ms: Floats
    sent_ms: Floats
    stage_ms: Mapping[str, Floats]
    """Time of each stage that the run has."""
    height: Ints
    outcome: Ints
    """Index into OUTCOMES."""
    drop_reason: NDArray[np.object_]
    attempts: Ints
    submission_hash: pa.Array
    completion: str
    """The stage at which a bundle counts as completed: executed, or atomic_safe where verdicts decide."""

    def __len__(self) -> int:
        """How many bundles were due."""
        return len(self.ids)

    def is_outcome(self, *names: str) -> Bools:
        """Which bundles ended in one of these outcomes."""
        return np.isin(self.outcome, [OUTCOMES.index(name) for name in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """One entry per leg that was traced."""

    bundle_ids: Ints
    index: Ints
    rollup: NDArray[np.object_]
    height: Ints
    fate: Ints
    """Index into FATES."""
    reason: NDArray[np.object_]
    received_ms: Floats
    derived_ms: Floats
    built_ms: Floats
    executed_ms: Floats

    def is_fate(self, *names: str) -> Bools:
        """Which legs ended with one of these fates."""
        return np.isin(self.fate, [FATES.index(name) for name in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Everything a report is made from."""

    directory: Path
    run: Mapping[str, Any]
    testnet: Mapping[str, Any]
    scenario: Mapping[str, Any]
    """The scenario file with its overrides applied."""
    scenario_text: str
    overrides: Sequence[str]
    bundles: Bundles
    legs: Legs
    blocks: Mapping[str, NDArray[Any]]
    resources: Sequence[Mapping[str, Any]]
    stalls: Sequence[Mapping[str, Any]]
    reorgs: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Mapping[str, Any]]
    certificates: Sequence[Mapping[str, Any]]
    settlements: Sequence[Mapping[str, Any]]
    proofs: Sequence[Mapping[str, Any]]

    @property
    def atomicity(self) -> str:
        """What is promised about the legs of a bundle."""
        return str(self.run.get("atomicity") or INCLUSION)

    @property
    def layer(self) -> Mapping[str, Any]:
        """Settings of the aggregation layer; empty where there is none."""
        return self.run.get("agglayer") or {}

    @property
    def has_verdicts(self) -> bool:
        """Failing bundles are struck before a height is safe."""
        return self.atomicity == AGGLAYER

    @property
    def settles(self) -> bool:
        """Rollups send certificates to an L1."""
        return bool(self.layer.get("settle"))

    @property
    def height_ms(self) -> float:
        """Width of a height: its block interval, or what a backend gathers into one height."""
        return float(self.run.get("height_interval_ms") or self.run["block_interval_ms"])

    def since_start_ms(self, key: str) -> float | None:
        """A moment of run.json in milliseconds after the start of the load; None where it has none."""
        value = self.run.get(key)
        return None if value is None else (int(value) - self.zero_ns) / NS_PER_MS

    @property
    def zero_ns(self) -> int:
        """Start of the load on the coordinator's clock."""
        return int(self.run["load_start_ns"])


def read_run(directory: Path) -> RunData:
    """Read a run directory. Raises BrokenRunDirectory."""
    run = _read_json(directory / "run.json")
    for key in ("load_start_ns", "load_end_ns", "measure_from_ns", "measure_to_ns", "block_interval_ms"):
        if key not in run:
            raise BrokenRunDirectory(f"{directory / 'run.json'} has no {key}: it was not written by `lockstep bench`")
    zero_ns = int(run["load_start_ns"])
    text, scenario, overrides = _read_scenario(directory)
    events = directory / "events"
    return RunData(
        directory=directory,
        run=run,
        testnet=_read_json(directory / "testnet.json", required=False),
        scenario=scenario,
        scenario_text=text,
        overrides=overrides,
        bundles=_bundles(_read_table(events / "bundles.parquet"), zero_ns, run),
        legs=_legs(_read_table(events / "legs.parquet"), zero_ns),
        blocks=_blocks(_read_table(events / "blocks.parquet"), zero_ns),
        resources=_read_rows(events / "resources.parquet"),
        stalls=_read_rows(events / "stalls.parquet"),
        **{
            name: _read_rows(events / f"{name}.parquet") if (events / f"{name}.parquet").exists() else []
            for name in ("reorgs", "verdicts", "certificates", "settlements", "proofs")
        },
    )


def scenario_value(data: RunData, table: str, key: str, default: Any) -> Any:
    """A key of the scenario as it ran."""
    return data.scenario.get(table, {}).get(key, default)


def _read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    if not required and not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenRunDirectory(f"{path} cannot be read ({error}); is {path.parent} a run directory?") from error
    if not isinstance(value, dict):
        raise BrokenRunDirectory(f"{path} must hold a JSON object")
    return value


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BrokenRunDirectory(f"{path} cannot be read ({error}); the report needs every events file") from error


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _read_table(path).to_pylist()
    return rows


def _read_scenario(directory: Path) -> tuple[str, dict[str, Any], list[str]]:
    """The file as written, its tables with the overrides applied, and the overrides."""
    path = directory / "scenario.toml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BrokenRunDirectory(f"{path} is not TOML: {error}") from error
    overrides_path = directory / "overrides.json"
    raw = json.loads(overrides_path.read_text(encoding="utf-8")) if overrides_path.exists() else []
    overrides = (
        [f"{key}={value}" for key, value in raw.items()] if isinstance(raw, dict) else [str(item) for item in raw]
    )
    for override in overrides:
        key, _, value = override.partition("=")
        table, _, name = key.strip().rpartition(".")
        tables.setdefault(table, {})[name] = _toml_value(value.strip())
    return text, tables, overrides


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# Columns


def _bundles(table: pa.Table, zero_ns: int, run: Mapping[str, Any]) -> Bundles:
    table = table.sort_by([("due_ns", "ascending"), ("bundle_id", "ascending")])
    return Bundles(
        ids=_ints(table, "bundle_id"),
        legs=_ints(table, "legs"),
        due_ms=_times(table, "due_ns", zero_ns),
        sent_ms=_times(table, "sent_ns", zero_ns),
        stage_ms=_stages(table, zero_ns, run),
        height=_ints(table, "height", NO_HEIGHT),
        outcome=_codes(table, "outcome", OUTCOMES),
        drop_reason=_texts(table, "drop_reason"),
        attempts=_ints(table, "attempts", 0),
        submission_hash=table.column("submission_hash").combine_chunks(),
        completion="atomic_safe" if run.get("atomicity") == AGGLAYER else "executed",
    )


def _stages(table: pa.Table, zero_ns: int, run: Mapping[str, Any]) -> dict[str, Floats]:
    """A column of which nothing is filled is a stage that the mode lacks, unless the mode promises it."""
    layer = run.get("agglayer") or {}
    promised = {*ALWAYS, *(VERDICT_STAGES if run.get("atomicity") == AGGLAYER else ())}
    promised |= set(SETTLEMENT_STAGES if layer.get("settle") else ())
    stages = {}
    for stage in STAGES:
        if f"{stage}_ns" in table.column_names:
            times = _times(table, f"{stage}_ns", zero_ns)
            if stage in promised or bool(np.isfinite(times).any()):
                stages[stage] = times
        elif stage in promised and stage not in ALWAYS:
            stages[stage] = np.full(table.num_rows, np.nan)
    return stages


def _legs(table: pa.Table, zero_ns: int) -> Legs:
    return Legs(
        bundle_ids=_ints(table, "bundle_id"),
        index=_ints(table, "leg_index"),
        rollup=_texts(table, "rollup"),
        height=_ints(table, "height", NO_HEIGHT),
        fate=_codes(table, "fate", FATES),
        reason=_texts(table, "reason"),
        received_ms=_times(table, "received_ns", zero_ns),
        derived_ms=_times(table, "derived_ns", zero_ns),
        built_ms=_times(table, "built_ns", zero_ns),
        executed_ms=_times(table, "executed_ns", zero_ns),
    )


def _blocks(table: pa.Table, zero_ns: int) -> dict[str, NDArray[Any]]:
    """The sequencer's blocks."""
    table = table.filter(pc.equal(_column(table, "kind"), "sequencer"))
    return {
        "height": _ints(table, "height", NO_HEIGHT),
        "at_ms": _times(table, "at_ns", zero_ns),
        "payloads": _ints(table, "payloads", 0),
        "payload_bytes": _ints(table, "payload_bytes", 0),
    }


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise BrokenRunDirectory(f"an events file has no column {name}; it has {', '.join(table.column_names)}")
    return table.column(name)


def _ints(table: pa.Table, name: str, absent: int = 0) -> Ints:
    column = pc.fill_null(_column(table, name).cast(pa.int64()), absent)
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _times(table: pa.Table, name: str, zero_ns: int) -> Floats:
    column = _column(table, name).cast(pa.int64())
    times = (np.asarray(pc.fill_null(column, zero_ns).to_numpy(), dtype=np.int64) - zero_ns) / NS_PER_MS
    absent = np.asarray(pc.is_null(column).to_numpy(), dtype=bool)
    return np.where(absent, np.nan, times)


def _texts(table: pa.Table, name: str) -> NDArray[np.object_]:
    """Each distinct text is made once, however many rows hold it."""
    encoded = pc.fill_null(_column(table, name).cast(pa.string()), "").combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    words = np.array(encoded.dictionary.to_pylist(), dtype=object)
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False))
    empty: NDArray[np.object_] = np.empty(0, dtype=object)
    return words[codes] if len(codes) else empty


def _codes(table: pa.Table, name: str, words: tuple[str, ...]) -> Ints:
    column = _column(table, name).cast(pa.string())
    found = pc.index_in(column, value_set=pa.array(words))
    if found.null_count:
        unknown = pc.unique(column.filter(pc.is_null(found))).to_pylist()
        raise BrokenRunDirectory(f"column {name} holds {unknown[0]!r}; known: {', '.join(words)}")
    return np.asarray(found.to_numpy(), dtype=np.int64)
