"""The report as one HTML file: no script, nothing fetched, light and dark, wide and narrow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from benchmarks.report import layer_wording, wording
from benchmarks.report.costs import cost_sentence, setup_sentence
from benchmarks.report.figures import Drawing
from benchmarks.report.results import Results
from benchmarks.report.run_data import RunData, shown_stage
from benchmarks.report.style import PALETTE, SEGMENT_COLOURS, STAGE_COLOURS, css_variables
from benchmarks.report.theory import TOLERANCE_RULE

NODES_LISTED = 80
MAIN_PACKAGES = (
    "lockstep",
    "python",
    "anvil",
    "ray",
    "grpcio",
    "protobuf",
    "uvloop",
    "coincurve",
    "safe-pysha3",
    "aiohttp",
    "numpy",
    "pyarrow",
)
"""The versions a figure depends on most; the others are folded away."""
SECTIONS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    # id, title, figures; a section's tables stand in the template.
    ("latency", "Latency", ("latency_cdf", "latency_over_time")),
    ("throughput", "Throughput", ("throughput_latency", "throughput", "backlog")),
    ("outcomes", "Outcomes", ("outcomes",)),
    ("slowest", "The ten slowest bundles", ("slowest",)),
    ("resources", "Resources", ("resources", "stage_cpu")),
    ("atomicity", "Atomic execution", ("ladder", "rounds", "reorg_depth")),
    ("settlement", "Settlement", ("settling",)),
)


def environment() -> Environment:
    """Templates beside this module; every value is escaped, a missing one is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ms": wording.milliseconds,
        "rate": wording.rate,
        "percent": wording.percent,
        "number": wording.number,
        "stage": shown_stage,
        "plain": lambda name: str(name).replace("_", " "),
    }
    made.globals |= {
        "light": css_variables(0),
        "dark": css_variables(1),
        "wording": wording,
        "layer_wording": layer_wording,
        "cost_sentence": cost_sentence,
        "setup_sentence": setup_sentence,
        "tolerance_rule": TOLERANCE_RULE,
    }
    return made


def page(data: RunData, results: Results, drawings: Sequence[Drawing]) -> str:
    """The whole file."""
    by_name = {drawing.name: drawing for drawing in drawings}
    sections = {
        identifier: {
            "title": title,
            "drawings": [
                {
                    "title": by_name[name].title,
                    "caption": by_name[name].caption,
                    "wide": Markup(by_name[name].wide_svg),  # noqa: S704 - our own drawing, its texts escaped
                    "narrow": Markup(by_name[name].narrow_svg),  # noqa: S704 - likewise
                }
                for name in figures
                if name in by_name
            ],
        }
        for identifier, title, figures in SECTIONS
    }
    template = environment().get_template("page.html")
    return template.render(
        results=results,
        sections=sections,
        tiles=_tiles(results),
        stage_colours=STAGE_COLOURS,
        segment_colours=SEGMENT_COLOURS,
        palette=PALETTE,
        nodes=_listed_nodes(results),
        nodes_left_out=max(0, len(results.resources) - NODES_LISTED),
        versions=_main_versions(results),
        scenario_text=data.scenario_text,
    )


def _tiles(results: Results) -> list[dict[str, str]]:
    stage = wording.completed_at(results)
    completed, named = results.latency_ms.get(stage, {}), shown_stage(stage)
    bound = results.engine_bound
    split = results.bundles["unbundled"]
    share = {
        "name": "of the bare engines",
        "value": wording.percent(bound.get("share")).removesuffix(" %"),
        "unit": "%",
        "note": f"{wording.percent(bound.get('share_with_recovery'))} of the bound with recovery",
        "tone": "",
    }
    return [
        {
            "name": "bundles completed",
            "value": wording.rate(results.completed_per_s),
            "unit": "/s",
            "note": f"{wording.rate(results.offered_per_s)}/s offered",
            "tone": "" if results.kept_up else "warn",
        },
        {
            "name": f"{named}, median",
            "value": wording.milliseconds(completed.get("p50")),
            "unit": "ms",
            "note": f"{wording.number(results.latency_blocks.get(stage, {}).get('p50'), 2)} blocks",
            "tone": "",
        },
        {
            "name": f"{named}, p99",
            "value": wording.milliseconds(completed.get("p99")),
            "unit": "ms",
            "note": f"at most {wording.milliseconds(completed.get('max'))} ms",
            "tone": "",
        },
        {
            "name": "split bundles",
            "value": f"{split:,}",
            "unit": "",
            "note": f"of {results.bundles['sequenced']:,} sequenced",
            "tone": "bad" if split or results.invariants.get("no_unbundled") is False else "good",
        },
        *([share] if bound.get("share") is not None else []),
        {
            "name": "CPU per bundle",
            "value": wording.number(results.totals["cpu_us_per_bundle"]),
            "unit": "us",
            "note": f"{wording.number(results.totals['cores_used'], 2)} cores in use",
            "tone": "",
        },
    ]


def _main_versions(results: Results) -> list[tuple[str, str]]:
    known = {name.lower(): (name, version) for name, version in results.versions.items()}
    return [known[name] for name in MAIN_PACKAGES if name in known]


def _listed_nodes(results: Results) -> list[tuple[str, Any]]:
    return sorted(results.resources.items(), key=lambda item: wording.natural(item[0]))[:NODES_LISTED]
