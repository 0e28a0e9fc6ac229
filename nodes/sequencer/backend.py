"""What a backend is: its config, how it is built, how its finality proofs are checked, what its promises mean.

Knows no backend; `nodes.sequencer.backends` is the table of them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from nodes.model.errors import InvalidScenario, UnknownName
from nodes.model.execution import TestnetParams
from nodes.model.faults import Fault
from nodes.ports import Link, Sequencer, direct
from nodes.rules.finality import VerifyFinality
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.tracer import Tracer


class SequencerNode(Sequencer, Protocol):
    """A sequencer that this process runs."""

    async def run(self) -> None:
        """Own the node's tasks until `stop`; raises what ended them otherwise. Called once."""
        ...

    def stop(self) -> None:
        """Let `run` return when what was accepted is durable."""
        ...

    async def wait_ready(self) -> None:
        """Return when the log is open and the chain continues. Raises Unavailable where the node ended before."""
        ...

    async def inject(self, fault: Fault) -> None:
        """Take a fault. Raises InvalidInput for one that this backend cannot have."""
        ...

    @property
    def engine_pid(self) -> int:
        """Of a process that the node has beside itself, to be measured with it; 0 where it has none."""
        ...

    @property
    def rpc_url(self) -> str:
        """JSON-RPC of the chain that orders, for people and their tools; empty where there is none to show."""
        ...

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        ...


class Build(Protocol):
    """Builds a node of one backend; nothing is opened before `run`."""

    def __call__(
        self,
        config: Any,
        *,
        testnet: TestnetParams,
        directory: Path,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint = no_crash,
        link: Link = direct,
    ) -> SequencerNode:
        """The node, its state in `directory`; it reaches others through `link`.

        Raises InvalidScenario where the config lacks what only a testnet has.
        """
        ...


class Preflight(Protocol):
    """Refuses a config whose files, variables or links could not work. Opens no connection."""

    def __call__(self, config: Any, /, *, is_far: bool) -> None:
        """`is_far`: the link to the chain that orders is emulated. Raises InvalidInput, without secrets."""
        ...


KILL_ENGINE = "kill of the engine"
"""In `Backend.faults`: `kind = "kill"` with `what = "engine"`."""


def _no_faults(_config: Any) -> frozenset[str]:
    return frozenset()


def _nothing_outside(_config: Any, *, is_far: bool) -> None:
    del is_far


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What theory says of one stage's latency in one configuration; a lower bound where the formula has a remainder."""

    formula: str
    """In words a reader of a report can check, over the config's keys."""
    p50_ms: float
    p99_ms: float
    by_construction: bool = False
    """The wait follows from what the config itself sets, so agreement shows only that nothing was added."""
    whole_bytes_max: int = 0
    """Posted bytes per bundle up to which the formula holds: larger bundles go in pieces, in turns. 0 = any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRow:
    """One part of a backend that users rely on."""

    part: str
    """Who or what, in a word or two."""
    trusted_for: str
    """What of its promises rests on this part being honest and up."""
    when_it_fails: str
    """What users see, what is lost and what is not."""


async def _nothing_to_reach(_config: Any) -> None:
    pass


def block_interval_of(config: Any) -> int:
    """Width of a height where each block is one."""
    return int(config.block_interval_ms)


def firm_at_once(config: Any) -> int:
    """Of a backend whose heights are firm about when they are soft."""
    return 0


def nothing_to_say(config: Any) -> str:
    """Of a backend that describes no config."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One line of the table."""

    name: str
    describe: str
    """One line: what it is, for `lockstep backends`."""
    soft: str
    """What a soft promise means here; likewise the next two."""
    firm: str
    final: str
    config_type: type[Any]
    """Frozen dataclass whose defaults are a working configuration, apart from keys. Checks its own ranges."""
    build: Build
    finality_options: Callable[[Any], Mapping[str, Any]]
    """From a config to what readers need to check finality proofs; holds no secret."""
    verifier: Callable[[Mapping[str, Any]], VerifyFinality]
    """From those options to the pure check."""
    expected: Callable[[Any], Mapping[str, Expected]]
    """From a config to expected latency from due, by stage; stages without a closed form are absent."""
    trust: tuple[TrustRow, ...]
    """Every part whose failure users would notice; printed by `lockstep backends` and beside every comparison."""
    faults: Callable[[Any], frozenset[str]] = _no_faults
    """From a config to the scenario faults its sequencer can have, beside `crash` and `kill` of its process.

    `KILL_ENGINE` among them where it has a process beside itself that it can go on without."""
    preflight: Preflight = _nothing_outside
    """Looks at what the config names outside itself, before anything is started."""
    reach: Callable[[Any], Awaitable[None]] = _nothing_to_reach
    """Asks what the config names outside itself whether it is there. Raises Unavailable with what to do, no secrets."""
    describe_config: Callable[[Any], str] = nothing_to_say
    """From a config to one line of what it makes of the backend; holds no secret."""
    height_interval_ms: Callable[[Any], int] = block_interval_of
    """From a config to the time between heights under an even load: latency steps in multiples of it."""

    heights_until_firm: Callable[[Any], int] = firm_at_once
    """From a config to how many heights are soft and not yet firm under an even load."""

    def configure(self, options: Mapping[str, Any]) -> Any:
        """The config that these keys give. Raises InvalidScenario for an unknown key or a value out of range."""
        known = [field.name for field in fields(self.config_type)]
        for key in options:
            if key not in known:
                raise InvalidScenario(f"[backend] of {self.name}: {UnknownName(kind='key', name=key, known=known)}")
        return self.config_type(**options)


def check_range(*, key: str, value: object, minimum: int, maximum: int) -> None:
    """Raises InvalidScenario unless the value of a `[backend]` key is an integer within the range."""
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise InvalidScenario(f"[backend] {key} is {value!r}; it must be an integer from {minimum:,} to {maximum:,}")
