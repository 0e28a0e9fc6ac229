"""The commands, each with its help. What they share stands in `running`, `watch` and `bench_runs`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from coordinator.cli.bonds import bond_group
from coordinator.cli.bridging import bridge_group
from coordinator.cli.bundles import bundle_group
from coordinator.cli.running import fail, run_until_done
from nodes.model.errors import TestbedError

Option = Callable[[Any], Any]
"""What `click.option` returns."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Ordered(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order a newcomer needs them, not of the alphabet."""
        return list(self.commands)


@click.group(cls=_Ordered, context_settings=CONTEXT)
@click.version_option(package_name="lockstep")
def main() -> None:
    """Run rollups, a shared sequencer and cross-rollup bundles as real processes, and measure them.

    \b
    First steps:
      lockstep bench quick            a first result in a minute
      lockstep bench bridge           burn on one rollup, mint on another, settled on an L1
      lockstep compare quick --backends lazy,solana   the same load on each, side by side
      lockstep up                     a testnet to play with, until Ctrl-C
      lockstep report DIR             make a run's report again
    """


def _scenario_options(command: click.decorators.FC) -> click.decorators.FC:
    """Options that change a scenario, shared by bench, sweep and compare."""
    options = [
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Change a key of the scenario, e.g. testnet.rollups=8; a unique last part is enough."),
        click.option("--rollups", type=int, help="Number of rollups."),
        click.option("--workload", help="What the bundles do; see `lockstep workloads`."),
        click.option("--launcher", help="ray (processes) or inprocess (one process)."),
        click.option("--ray-address", default="", metavar="HOST:PORT", help="An existing Ray cluster."),
        click.option("--seed", type=int, help="Source of all chance."),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False),
                     help="Directory to write; default a new one under runs/."),
        click.option("--progress", type=click.Choice(["text", "json", "none"]), default="text", show_default=True,
                     help="How to show what is going on; json prints one object per line on standard output."),
        click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on standard output."),
        click.option("--no-calibrate", is_flag=True,
                     help="Leave out the measurement of the bare engines (about 5 s a run)."),
    ]  # fmt: skip
    return _with(options, command)


def _run_options(command: click.decorators.FC) -> click.decorators.FC:
    """Options of a run by itself, shared by bench and sweep."""
    options = [
        click.option("--backend", help="Sequencer backend; see `lockstep backends`."),
        click.option("--solana", metavar="devnode|surfpool|URL|env:NAME", help="What the backend solana runs against."),
        click.option("--baseline", type=click.Path(path_type=Path, exists=True, file_okay=False),
                     help="Compare with this earlier run; a change for the worse of 10 % fails."),
    ]  # fmt: skip
    return _with(options, command)


def _with(options: Sequence[Option], command: click.decorators.FC) -> click.decorators.FC:
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@click.argument("scenario", default="quick")
@click.option("--rate", type=float, help="Bundles per second.")
@click.option("--duration", type=float, metavar="SECONDS", help="Length of the load.")
@click.option("--vary", metavar="KEY=A,B,C", help="Run once for each value and compare.")
@_run_options
@_scenario_options
def bench(**options: object) -> None:
    """Run a scenario and report it.

    SCENARIO is a built-in name (quick, bridge, flashloan, saturation and more: `lockstep scenarios` lists them) or a
    TOML file. Ctrl-C ends the load and still writes the report; a second one ends everything at once.

    \b
    Examples:
      lockstep bench quick
      lockstep bench quick --rate 2000 --duration 20
      lockstep bench contention --set hot_share=0.5
      lockstep bench quick --backend solana --solana surfpool
      lockstep bench quick --vary backend.block_interval_ms=50,100,200
      lockstep bench quick --baseline runs/quick-20260101-120000
    """
    from coordinator.cli.bench_runs import BenchRequest, bench_command

    sys.exit(bench_command(BenchRequest.of(options)))


@main.command()
@click.argument("scenario", default="saturation")
@click.option("--from", "start", type=float, metavar="RATE", help="Rate of the first step, bundles per second.")
@click.option("--step", type=float, metavar="SECONDS", help="Length of each step.")
@click.option(
    "--bound", type=float, metavar="MS", help="A step is sustained while its p99 of executed is at most this."
)
@_run_options
@_scenario_options
def sweep(**options: object) -> None:
    """Raise the rate on one testnet until it no longer keeps up, and report the highest rate that it sustained.

    \b
    Examples:
      lockstep sweep
      lockstep sweep saturation --from 1000 --step 8 --bound 500
    """
    from coordinator.cli.bench_runs import BenchRequest, bench_command

    sys.exit(bench_command(BenchRequest.of({**options, "sweep": True})))


@main.command()
@click.argument("scenario", default="quick")
@click.option("--backends", required=True, metavar="A,B", help="Backends to compare; the first is what ratios are to.")
@click.option("--repeats", type=int, default=5, show_default=True, help="Runs of each backend; intervals need 5.")
@click.option("--rate", type=float, help="Bundles per second.")
@click.option("--duration", type=float, metavar="SECONDS", help="Length of the load of each run.")
@click.option("--solana", metavar="devnode|surfpool|URL|env:NAME", help="What the backend solana runs against.")
@_scenario_options
def compare(**options: object) -> None:
    """Run a scenario against several backends, interleaved and repeated, and compare them.

    Same scenario, seed and rollups for all. Latency by stage with its spread, ratios with confidence intervals, costs,
    theory beside measurement, and whom users trust. Ctrl-C ends the run under way and compares what is finished.

    \b
    Examples:
      lockstep compare quick --backends lazy,solana
      lockstep compare quick --backends lazy,lazy --repeats 5 --duration 10
      lockstep compare quick --backends lazy,solana --set backend.solana.block_interval_ms=400
    """
    from coordinator.cli.compare_command import compare_command

    sys.exit(compare_command(options))


@main.command()
@click.option("--rollups", type=int, default=None, help="Number of rollups (default 4).")
@click.option("--backend", default=None, help="Sequencer backend; see `lockstep backends`.")
@click.option(
    "--solana", default=None, metavar="devnode|surfpool|URL|env:NAME", help="What the backend solana runs against."
)
@click.option("--launcher", default=None, help="ray (processes) or inprocess (one process, the default here).")
@click.option("--ray-address", default="", metavar="HOST:PORT", help="Use this Ray cluster instead of a new one.")
@click.option(
    "--scenario", default=None, metavar="NAME_OR_FILE", help="Take testnet, backend and genesis from a scenario."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the scenario.")
@click.option("--resume", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Continue the testnet of this directory.")  # fmt: skip
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the testnet; default runs/up-SCENARIO-TIME.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when ready, and nothing else.")
def up(**options: object) -> None:
    """Start a testnet, print its endpoints and funded accounts, and show it live until Ctrl-C.

    \b
    Examples:
      lockstep up
      lockstep up --rollups 8 --launcher ray
      lockstep up --resume runs/up-quick-20260101-120000
    """
    from coordinator.cli.up_command import up_command

    sys.exit(up_command(options))


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of the boxes.")
def report(directory: Path, *, as_json: bool) -> None:
    """Make the report of a run again, or that of a comparison, from its directory alone.

    \b
    Example:
      lockstep report runs/quick-20260101-120000
    """
    from coordinator.record import ComparisonDirectory

    if ComparisonDirectory.is_one(directory):
        from coordinator.cli.compare_command import remake_comparison, show_comparison

        try:
            remake_comparison(directory)
        except TestbedError as error:
            fail(error)
        sys.exit(show_comparison(directory, as_json=as_json))
    from coordinator.cli.bench_runs import EXIT_OF_VALID, make_report, show_results

    try:
        results = make_report(directory)
    except TestbedError as error:
        fail(error)
    show_results(directory, results, as_json=as_json)
    sys.exit(EXIT_OF_VALID[results.valid])


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
def verify(directory: Path) -> None:
    """Execute a run again from its sequenced log, on fresh engines, and compare every block hash.

    Also checks that all rollups hold their bundles in the same order. The verdict becomes part of the run's report.

    \b
    Example:
      lockstep verify runs/quick-20260101-120000
    """
    from coordinator.cli.bench_runs import make_report
    from coordinator.stages.verify import run_verify

    verdict = run_until_done(lambda _: run_verify(directory, say=click.echo))
    for name, found in verdict.items():
        click.echo(f"{'ok  ' if found['ok'] else 'FAIL'} {name}: {found['detail']}")
    try:
        make_report(directory)
    except TestbedError as error:
        fail(error)
    sys.exit(0 if all(found["ok"] for found in verdict.values()) else 1)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("bundle")
def show(directory: Path, bundle: str) -> None:
    """Explain one bundle of a run: its timeline, and why it was slow or dropped.

    BUNDLE is its number, or the start of its bundle hash, submission hash or of a leg's transaction hash; `slowest`
    and `dropped` name the first of these.

    \b
    Examples:
      lockstep show runs/quick-20260101-120000 17
      lockstep show runs/quick-20260101-120000 slowest
    """
    from coordinator.stages.show import explain_bundle

    try:
        click.echo(explain_bundle(directory, bundle))
    except TestbedError as error:
        fail(error)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def status(directory: Path | None, *, as_json: bool) -> None:
    """Show a running testnet once: heads, pending, lag of every node. Without DIRECTORY, the newest one under runs/.

    \b
    Example:
      lockstep status runs/up-quick-20260101-120000
    """
    from coordinator.cli.up_command import status_command

    sys.exit(status_command(directory, as_json=as_json))


@main.command()
def backends() -> None:
    """List the sequencer backends, what their promises mean, and the latency to expect with default settings."""
    from nodes.sequencer.backends import BACKENDS

    for backend in BACKENDS.values():
        click.echo(f"{backend.name}: {backend.describe}")
        for level in ("soft", "firm", "final"):
            click.echo(f"    {level:5}  {getattr(backend, level)}")
        click.echo("    expected latency with default settings, without execution:")
        for stage, expected in backend.expected(backend.configure({})).items():
            click.echo(f"    {stage:9}  p50 {expected.p50_ms:g} ms, p99 {expected.p99_ms:g} ms: {expected.formula}")
        click.echo("    whom users trust, and what fails with each part:")
        for row in backend.trust:
            click.echo(f"    {row.part}: trusted for {row.trusted_for}")
            click.echo(f"        when it fails: {row.when_it_fails}")


@main.command()
def scenarios() -> None:
    """List the scenarios that come with Lockstep."""
    from coordinator.spec import builtin_scenarios, load_scenario

    for name in builtin_scenarios():
        click.echo(f"{name}: {load_scenario(name).about.description}")


@main.command()
def workloads() -> None:
    """List the workloads and their keys."""
    from dataclasses import fields

    from coordinator.workload.table import WORKLOADS

    for kind in WORKLOADS.values():
        click.echo(f"{kind.name}: {kind.describe}")
        click.echo(f"    expect: {kind.expects}")
        for field in fields(kind.options_type):
            click.echo(f"    {field.name} = {field.default}")


main.add_command(bundle_group)
main.add_command(bond_group)
main.add_command(bridge_group)
