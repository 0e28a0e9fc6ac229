"""What one key of a scenario cannot say alone: keys that must fit each other. Pure; names file, table and remedy."""

from coordinator.spec.scenario import LIES, LoadTable, Scenario
from nodes.model.errors import InvalidScenario


def check_load(load: LoadTable, source: str) -> None:
    """Raises InvalidScenario for a load that could not be sent or measured."""

    def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence at each call
        if not condition:
            raise InvalidScenario(f"{source}: [load] {message}")

    step_s = load.sweep_step_s if load.kind == "sweep" else load.duration_s
    require(
        # How long a trace is stands in its file; its reader checks this.
        load.arrivals == "trace" or load.warmup_s + load.cooldown_s < step_s,
        f"warmup_s + cooldown_s = {load.warmup_s + load.cooldown_s:g} leave nothing of {step_s:g} s to measure; "
        "lengthen the run or cut less",
    )
    require(load.arrivals != "trace" or bool(load.trace), 'arrivals = "trace" needs trace = "FILE.csv"')
    require(
        load.arrivals != "trace" or load.kind == "steady",
        f'arrivals = "trace" has its times from the file, so kind = {load.kind!r} cannot shape it; use kind = "steady"',
    )
    require(load.rate_per_s > 0 or load.arrivals == "trace", "rate_per_s = 0 sends nothing; choose a rate above 0")
    if load.kind == "burst":
        ends_s = load.burst_from_s + load.burst_for_s
        require(load.burst_rate_per_s > 0, 'kind = "burst" needs burst_rate_per_s')
        require(load.burst_for_s > 0, 'kind = "burst" needs burst_for_s')
        require(ends_s <= load.duration_s, f"the burst ends at {ends_s:g} s, after duration_s = {load.duration_s:g}")


def check_atomicity(scenario: Scenario) -> None:
    """Raises InvalidScenario where the mode, `[agglayer]` and `[builder]` contradict each other."""
    table, mode, source = scenario.agglayer, scenario.testnet.atomicity, scenario.source
    if table.attester_threshold > table.attesters:
        raise InvalidScenario(
            f"{source}: [agglayer] attester_threshold = {table.attester_threshold} is more than attesters = "
            f"{table.attesters}; nothing could ever settle"
        )
    if table.signer_threshold > table.signers:
        raise InvalidScenario(
            f"{source}: [agglayer] signer_threshold = {table.signer_threshold} is more than signers = {table.signers}; "
            "no certificate could ever be taken"
        )
    if mode == "bond" and not scenario.settles:
        raise InvalidScenario(
            f'{source}: [agglayer] settle = false does not go with atomicity = "bond": a bond is claimed against '
            "settled outcome roots; leave settle out"
        )
    if mode == "bond" and not scenario.has_builder:
        raise InvalidScenario(
            f'{source}: [builder] enabled = false does not go with atomicity = "bond": the builder posts the bond'
        )
    if scenario.has_builder and not scenario.uses_agglayer:
        raise InvalidScenario(
            f"{source}: [builder] enabled = true needs an L1; add settle = true to [agglayer], or change atomicity"
        )
    builder = scenario.builder
    if mode == "bond" and builder.promise_blocks >= builder.withdrawal_delay_blocks:
        raise InvalidScenario(
            f"{source}: [builder] promise_blocks = {builder.promise_blocks} must be less than withdrawal_delay_blocks "
            f"= {builder.withdrawal_delay_blocks}; otherwise a bond could leave before its promises expire"
        )
    _check_liars(scenario)
    for name in scenario.divergence.only:
        if name not in _rollup_names(scenario):
            raise InvalidScenario(
                f"{source}: [divergence] only: {name!r} is no rollup of this testnet; they end with "
                f"{_rollup_names(scenario)[-1]}"
            )


def _rollup_names(scenario: Scenario) -> list[str]:
    return [f"rollup-{number}" for number in range(1, scenario.testnet.rollups + 1)]


def _check_liars(scenario: Scenario) -> None:
    where = f"{scenario.source}: [agglayer] liars"
    rollups = _rollup_names(scenario)
    for name, lie in scenario.agglayer.liars.items():
        if name not in rollups:
            raise InvalidScenario(f"{where}: {name!r} is no rollup of this testnet; they end with {rollups[-1]}")
        if lie not in LIES:
            raise InvalidScenario(f"{where}: {name} = {lie!r} must be one of {', '.join(LIES)}")
    if scenario.agglayer.liars and not scenario.uses_agglayer:
        raise InvalidScenario(f"{where}: mode {scenario.testnet.atomicity!r} has nobody to lie to; use another one")
