"""Writes the folder of a comparison as `lockstep compare` leaves it, from synthetic runs: for tests of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import write_report
from coordinator.record import BACKENDS_KIND, ComparisonDirectory
from tests.support.synthetic_run import write_synthetic_run

SLOW_TRUST = [{"part": "a quorum", "trusted_for": "the order", "when_it_fails": "nothing is <firm> until it is back"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One backend of the comparison."""

    label: str
    backend: str = "lazy"
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Synthetic`, equal in every run."""
    seeds: Sequence[int] = ()
    """Of each run; left out = those of the other sides, so that sides without other changes are equal."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Keys of run.json."""


def write_synthetic_comparison(
    directory: Path, sides: Sequence[Side], *, repeats: int, states: Mapping[tuple[str, int], str] | None = None
) -> Path:
    """Write runs and their list; `states` by (label, repeat) where a run did not finish."""
    entries = []
    for repeat in range(1, repeats + 1):
        for side in sides:
            state = (states or {}).get((side.label, repeat), "finished")
            place = f"{side.label}/repeat-{repeat}"
            if state == "finished":
                seed = side.seeds[repeat - 1] if side.seeds else repeat
                document = {"backend": side.backend, "seed": 1, "promises": {"soft": "said"}, "trust": SLOW_TRUST}
                what: dict[str, Any] = {"duration_s": 8.0, "warmup_s": 1.0, "cooldown_s": 1.0, **side.changes}
                write_synthetic_run(directory / place, seed=seed, run={**document, **side.run}, **what)
                write_report(directory / place, formats=())
            error = "it broke" if state == "failed" else ""
            entries.append(
                {
                    "label": side.label,
                    "repeat": repeat,
                    "directory": place,
                    "state": state,
                    "error": error,
                    "seconds": 9,
                }
            )
    ComparisonDirectory.create(directory).write(
        {
            "kind": BACKENDS_KIND,
            "scenario": "quick",
            "command": "lockstep compare quick",
            "labels": [side.label for side in sides],
            "repeats": repeats,
            "method": "The sides take turns.",
            "notes": ["keys were left out"],
            "runs": entries,
        }
    )
    return directory
