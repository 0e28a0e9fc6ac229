"""Which figures a run has, with titles and captions.

How each is drawn stands in `line_charts`, `bar_charts` and, for an aggregation layer, `layer_charts`.
"""

from benchmarks.report.bar_charts import (
    NODES_SHOWN,
    draw_outcomes,
    draw_resources,
    draw_slowest,
    draw_stage_cpu,
    shown_outcomes,
)
from benchmarks.report.canvas import Canvas, Chart
from benchmarks.report.layer_charts import draw_ladder, draw_reorgs, draw_rounds, draw_settling
from benchmarks.report.line_charts import draw_backlog, draw_cdf, draw_latency_time, draw_sweep, draw_throughput
from benchmarks.report.results import Results


def charts_of(results: Results) -> list[Chart[Canvas]]:
    """The figures that this run has something to show for, in the order of the report."""
    chosen = []
    if results.bundles["due"]:
        if any(row["count"] for row in results.latency_ms.values()):
            chosen.append(_LATENCY_CDF)
        chosen.append(_THROUGHPUT)
    if results.latency_ms.get("executed", {}).get("count"):
        chosen.append(_LATENCY_TIME)
    if results.load["kind"] == "sweep" and any(row["latency_ms"]["executed"]["count"] for row in results.phases):
        chosen.append(_SWEEP)
    if results.burst is not None or results.faults:
        chosen.append(_BACKLOG)
    if results.bundles["due"]:
        chosen.append(_outcomes_chart(len(shown_outcomes(results))))
    if results.slowest:
        chosen.append(_SLOWEST)
    if results.resources:
        rows = min(len(results.resources), NODES_SHOWN + 1)
        chosen.append(_resources_chart(rows))
    if results.stage_cpu_us_per_bundle:
        chosen.append(_stage_chart(len(results.stage_cpu_us_per_bundle)))
    return [*chosen, *_layer_charts(results)]


def _layer_charts(results: Results) -> list[Chart[Canvas]]:
    """The figures of an aggregation layer; none for a run without one."""
    layer = results.atomicity
    if layer is None:
        return []
    chosen = []
    if any(row["count"] for row in results.latency_ms.values()):
        chosen.append(_ladder_chart(sum(1 for row in results.latency_ms.values() if row["count"])))
    if layer.get("rounds", {}).get("histogram"):
        chosen.append(_ROUNDS)
    if layer.get("reorgs", {}).get("histogram"):
        chosen.append(_REORGS)
    if "settlement" in layer and layer["settlement"]["bundles"]["settled"]:
        chosen.append(_SETTLING)
    return chosen


_LATENCY_CDF = Chart(
    name="latency_cdf",
    title="Latency by stage",
    caption="Share of all bundles due in the measured window that had reached a stage so many ms after they were due. "
    "A curve that ends below 100 % lacks the bundles that never got there.",
    draw=draw_cdf,
)
_THROUGHPUT = Chart(
    name="throughput",
    title="Throughput over time",
    caption="Bundles that became due, and bundles that were executed, per second. Grey: not measured.",
    draw=draw_throughput,
)
_LATENCY_TIME = Chart(
    name="latency_over_time",
    title="Latency over time",
    caption="Executed, by the time at which the bundle was due. A rising line is a backlog. Grey: not measured.",
    draw=draw_latency_time,
)
_SWEEP = Chart(
    name="throughput_latency",
    title="Throughput against latency",
    caption="One point per step of the sweep, at what the step completed. A backend that no longer keeps up turns "
    "upward. Hollow points were not sustained.",
    draw=draw_sweep,
)
_BACKLOG = Chart(
    name="backlog", title="Backlog", caption="Bundles due and not yet resolved, over time.", draw=draw_backlog
)
_SLOWEST = Chart(
    name="slowest",
    title="The ten slowest bundles",
    caption="send: waiting for the generator; accept: until acknowledged; order: until the block was cut; deliver: "
    "until the slowest leg's rollup had it; then derivation, execution and the announcement; resolve: until the "
    "verdict, where there is one.",
    draw=draw_slowest,
    height_inches=3.6,
    narrow_height_inches=3.6,
)


_ROUNDS = Chart(
    name="rounds",
    title="Verdict rounds",
    caption="Executions that a height took until nothing in it failed: 1 where nothing did.",
    draw=draw_rounds,
    height_inches=2.8,
    narrow_height_inches=2.8,
)
_REORGS = Chart(
    name="reorg_depth",
    title="Depth of reorgs",
    caption="Executed heights that a node gave up when a verdict struck something in them. What is atomic-safe is "
    "never given up by this.",
    draw=draw_reorgs,
    height_inches=2.8,
    narrow_height_inches=2.8,
)
_SETTLING = Chart(
    name="settling",
    title="Settlement over time",
    caption="Bundles that had come to each stage. Settlement goes in steps, one per L1 transaction. Proofs are named "
    "for what they are: attested or modelled, not ZK.",
    draw=draw_settling,
)


def _ladder_chart(rows: int) -> Chart[Canvas]:
    return Chart(
        name="ladder",
        title="The ladder of stages",
        caption="From the median (dot) to the p99 of every stage, on a logarithmic axis. The mark is the median that "
        "theory expects.",
        draw=draw_ladder,
        height_inches=1.3 + 0.34 * rows,
        narrow_height_inches=1.4 + 0.36 * rows,
    )


def _outcomes_chart(rows: int) -> Chart[Canvas]:
    return Chart(
        name="outcomes",
        title="Outcomes",
        caption="Where every bundle of the run ended, warm-up and cool-down included.",
        draw=draw_outcomes,
        height_inches=0.8 + 0.28 * rows,
        narrow_height_inches=0.8 + 0.3 * rows,
    )


def _resources_chart(rows: int) -> Chart[Canvas]:
    return Chart(
        name="resources",
        title="Resources by node",
        caption="While the load ran; memory at the end. Nodes that share a process are given equal parts of it.",
        draw=draw_resources,
        height_inches=1.3 + 0.24 * rows,
        narrow_height_inches=1.8 + 0.44 * rows,
    )


def _stage_chart(rows: int) -> Chart[Canvas]:
    return Chart(
        name="stage_cpu",
        title="Where the CPU goes",
        caption="Thread CPU time that the nodes' stages counted, and the CPU of the processes that no stage counted.",
        draw=draw_stage_cpu,
        height_inches=1.0 + 0.27 * rows,
        narrow_height_inches=1.0 + 0.3 * rows,
    )
