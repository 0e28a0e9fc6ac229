"""The run directory: what stands where, and the columns of its tables.

It knows names and types only. Who computes a value is another module's matter; a report reads nothing but this.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nodes.model.errors import InvalidInput

FORMAT = 1
RUNS_FILE = "comparison-runs.json"
_HASH = pa.binary(32)
_TIME = pa.int64()
"""Nanoseconds on the coordinator's monotonic clock; wall time = run.json's wall_zero_ns + this."""

BUNDLES = pa.schema(
    [
        ("bundle_id", pa.int64()),
        ("submission_hash", _HASH),
        ("bundle_hash", _HASH),
        ("legs", pa.int16()),
        ("lane", pa.int32()),
        ("due_ns", _TIME),
        ("sent_ns", _TIME),
        ("accepted_ns", _TIME),
        ("sequenced_ns", _TIME),
        ("firm_ns", _TIME),
        ("height", pa.int64()),
        ("executed_ns", _TIME),
        ("atomic_safe_ns", _TIME),
        ("proved_ns", _TIME),
        ("settled_ns", _TIME),
        ("final_ns", _TIME),
        ("outcome", pa.string()),
        ("drop_reason", pa.string()),
        ("attempts", pa.int16()),
    ]
)
LEGS = pa.schema(
    [
        ("bundle_id", pa.int64()),
        ("leg_index", pa.int16()),
        ("rollup", pa.string()),
        ("tx_hash", _HASH),
        ("height", pa.int64()),
        ("number", pa.int64()),
        ("executed_ns", _TIME),
        ("received_ns", _TIME),
        ("derived_ns", _TIME),
        ("built_ns", _TIME),
        ("fate", pa.string()),
        ("reason", pa.string()),
    ]
)
BLOCKS = pa.schema(
    [
        ("node", pa.string()),
        ("kind", pa.string()),
        ("height", pa.int64()),
        ("number", pa.int64()),
        ("hash", pa.binary()),
        ("state_root", pa.binary()),
        ("at_ns", _TIME),
        ("payloads", pa.int64()),
        ("payload_bytes", pa.int64()),
        ("admitted", pa.int64()),
        ("dropped", pa.int64()),
        ("gas_used", pa.int64()),
        ("received_ns", _TIME),
        ("derived_ns", _TIME),
        ("built_ns", _TIME),
        ("replayed", pa.bool_()),
    ]
)
RESOURCES = pa.schema(
    [
        ("node", pa.string()),
        ("at_ns", _TIME),
        ("process_cpu_s", pa.float64()),
        ("process_pss_bytes", pa.int64()),
        ("engine_cpu_s", pa.float64()),
        ("engine_pss_bytes", pa.int64()),
        ("wire_bytes_in", pa.int64()),
        ("wire_bytes_out", pa.int64()),
        ("stage_cpu_ns", pa.map_(pa.string(), pa.int64())),
    ]
)
STALLS = pa.schema(
    [("node", pa.string()), ("at_ns", _TIME), ("height", pa.int64()), ("reason", pa.string()), ("source", pa.string())]
)
REORGS = pa.schema(
    [("node", pa.string()), ("at_ns", _TIME), ("from_height", pa.int64()), ("to_height", pa.int64()),
     ("depth", pa.int64())]
)  # fmt: skip
"""Executed heights that nodes gave up."""
VERDICTS = pa.schema(
    [("at_ns", _TIME), ("epoch", pa.int64()), ("height", pa.int64()), ("rounds", pa.int64()), ("aborted", pa.int64()),
     ("struck_together", pa.int64()), ("networks", pa.int64())]
)  # fmt: skip
"""As the resolver signed them."""
CERTIFICATES = pa.schema(
    [
        ("network_id", pa.int64()),
        ("rollup", pa.string()),
        ("certificate_height", pa.int64()),
        ("certificate_id", _HASH),
        ("first_height", pa.int64()),
        ("last_height", pa.int64()),
        ("exits", pa.int64()),
        ("imports", pa.int64()),
        ("built_ns", _TIME),
        ("pending_ns", _TIME),
        ("proven_ns", _TIME),
        ("candidate_ns", _TIME),
        ("settled_ns", _TIME),
        ("final_ns", _TIME),
        ("status", pa.string()),
        ("error", pa.string()),
        ("settlement_tx", pa.binary()),
    ]
)
SETTLEMENTS = pa.schema(
    [("at_ns", _TIME), ("step", pa.string()), ("tx_hash", pa.binary()), ("l1_block", pa.int64()),
     ("gas_used", pa.int64()), ("certificates", pa.int64())]
)  # fmt: skip
"""Every move of a settlement transaction."""
PROOFS = pa.schema(
    [("at_ns", _TIME), ("prover", pa.string()), ("certificates", pa.int64()), ("exits", pa.int64()),
     ("imports", pa.int64()), ("duration_ns", pa.int64()), ("modelled_ns", pa.int64())]
)  # fmt: skip
TABLES: Mapping[str, pa.Schema] = {
    "bundles": BUNDLES,
    "legs": LEGS,
    "blocks": BLOCKS,
    "resources": RESOURCES,
    "stalls": STALLS,
    "reorgs": REORGS,
    "verdicts": VERDICTS,
    "certificates": CERTIFICATES,
    "settlements": SETTLEMENTS,
    "proofs": PROOFS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDirectory:
    """Paths of one run. Creating it creates the folders."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """A new run directory. Raises InvalidInput where the folder already holds a run, if only a part of one."""
        run = cls(path=path)
        # What a killed run left of its testnet would go on from there, with nonces that no longer fit.
        if run.run_json.exists() or run.testnet.exists():
            raise InvalidInput(f"{path} already holds a run; choose another directory with --out")
        run.traces.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run. Raises InvalidInput where there is none."""
        run = cls(path=path)
        if not run.run_json.is_file():
            what = "give the directory of a run that `lockstep bench` wrote"
            if run.scenario_toml.is_file():
                what = "the run there was killed, or broke, before its results were written"
            raise InvalidInput(f"{path} has no run.json; {what}")
        return run

    @property
    def run_json(self) -> Path:
        """Everything about the run that is not a table."""
        return self.path / "run.json"

    @property
    def scenario_toml(self) -> Path:
        """The scenario as its author wrote it."""
        return self.path / "scenario.toml"

    @property
    def overrides_json(self) -> Path:
        """What the command line changed."""
        return self.path / "overrides.json"

    @property
    def traces(self) -> Path:
        """Raw trace records, one file per node."""
        return self.path / "events" / "trace"

    @property
    def sequenced_log(self) -> Path:
        """Every sequenced block, each with its length in front (see `coordinator.stages.sequenced_log`)."""
        return self.path / "sequenced.log"

    @property
    def verdict_log(self) -> Path:
        """Every verdict with the reports behind it (see `coordinator.stages.verdict_log`); absent without verdicts."""
        return self.path / "verdicts.log"

    @property
    def testnet(self) -> Path:
        """What the running testnet kept: nodes' own state and logs."""
        return self.path / "testnet"

    def table(self, name: str) -> Path:
        """The Parquet file of a key of `TABLES`."""
        return self.path / "events" / f"{name}.parquet"

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write one table; its columns must be those of `TABLES[name]`."""
        assert table.schema.equals(TABLES[name]), f"{name}: {table.schema} is not {TABLES[name]}"
        pq.write_table(table, self.table(name), compression="zstd")

    def read_table(self, name: str) -> pa.Table:
        """Read one table back. Raises InvalidInput where it is missing or damaged."""
        try:
            return pq.read_table(self.table(name))
        except (OSError, pa.ArrowInvalid) as error:
            path = self.table(name)
            raise InvalidInput(f"{path} cannot be read ({error}); the run may have been cut short") from error

    def write_run(self, document: Mapping[str, Any]) -> None:
        """Write run.json; a reader never sees half of it."""
        draft = self.run_json.with_suffix(".tmp")
        draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        draft.replace(self.run_json)

    def read_run(self) -> dict[str, Any]:
        """Read run.json back. Raises InvalidInput for another format."""
        document: dict[str, Any] = json.loads(self.run_json.read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise InvalidInput(f"{self.run_json} has format {document.get('format')}, this version reads {FORMAT}")
        return document


BACKENDS_KIND, VARY_KIND = "backends", "vary"
"""Why runs stand together: each backend several times, or one key with several values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonDirectory:
    """The folder of runs that are compared: one folder a run, and a list of them.

    comparison-runs.json: {format, kind, scenario, labels, repeats, command, method, notes, runs: [{label, repeat,
    directory (relative), state (finished | interrupted | failed), error, seconds}]}; the runs in the order in which
    they ran. Those not started are not in it.
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> "ComparisonDirectory":
        """A new folder. Raises InvalidInput where there is a comparison, or a run, already."""
        if (path / RUNS_FILE).exists() or (path / "run.json").exists():
            raise InvalidInput(f"{path} already holds runs; choose another directory with --out")
        path.mkdir(parents=True, exist_ok=True)
        return cls(path=path)

    @classmethod
    def open(cls, path: Path) -> "ComparisonDirectory":
        """An existing one. Raises InvalidInput where there is none."""
        if not cls.is_one(path):
            raise InvalidInput(f"{path} has no {RUNS_FILE}; give the directory that `lockstep compare` wrote")
        return cls(path=path)

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether the folder holds compared runs."""
        return (path / RUNS_FILE).is_file()

    def write(self, document: Mapping[str, Any]) -> None:
        """Write the list, after every run; a reader never sees half of it."""
        draft = self.path / f"{RUNS_FILE}.tmp"
        draft.write_text(json.dumps({"format": FORMAT, **document}, indent=1) + "\n", encoding="utf-8")
        draft.replace(self.path / RUNS_FILE)

    def read(self) -> dict[str, Any]:
        """Read the list back. Raises InvalidInput where it is damaged or of another format."""
        file = self.path / RUNS_FILE
        try:
            document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{file} cannot be read: {error}") from error
        if document.get("format") != FORMAT:
            raise InvalidInput(f"{file} has format {document.get('format')}, this version reads {FORMAT}")
        return document
