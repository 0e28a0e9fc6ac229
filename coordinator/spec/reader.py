"""From a TOML file and overrides to a checked `Scenario`. Every complaint names file, key, value and remedy.

Tables are read by the types and bounds of their dataclasses, so a new key is one line there. `[prover]` is read
against the `Config` of the one that the scenario names, `[workload]` against the one that its caller passes for the
kind, `[backend]` as `coordinator.spec.backend_table` says.
"""

import tomllib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from coordinator.spec.backend_table import PREFIX, BackendTable
from coordinator.spec.checks import check_atomicity, check_load
from coordinator.spec.scenario import (
    AboutTable,
    AgglayerTable,
    Between,
    BuilderTable,
    DivergenceTable,
    FaultTable,
    GenesisTable,
    Hex,
    L1Table,
    LoadTable,
    NetworkTable,
    OneOf,
    RollupTable,
    Scenario,
    TestnetTable,
    WorkloadTable,
)
from nodes.agglayer.provers import PROVERS
from nodes.model.errors import InvalidInput, InvalidScenario, UnknownName
from nodes.sequencer.backends import BACKENDS

SCENARIOS_DIRECTORY = Path(__file__).resolve().parents[2] / "benchmarks" / "scenarios"
"""Where the scenarios that come with Lockstep stand. Data, not code: nothing is imported from there."""

TABLES: Mapping[str, type[Any]] = {
    "scenario": AboutTable,
    "testnet": TestnetTable,
    "rollup": RollupTable,
    "agglayer": AgglayerTable,
    "l1": L1Table,
    "builder": BuilderTable,
    "network": NetworkTable,
    "divergence": DivergenceTable,
    "genesis": GenesisTable,
    "workload": WorkloadTable,
    "load": LoadTable,
}
REGIONS = "regions"
"""A table whose keys are nodes; which of them there are is known when the scenario is resolved."""
WITH_KEYS_OF_OTHERS = ("backend", "prover")
"""Tables whose keys are those of what another table names."""
_DEFAULT_BACKEND = str(TestnetTable.__dataclass_fields__["backend"].default)
Table = TypeVar("Table")
Raw = dict[str, Any]
Configs = Mapping[str, type[Any]]
"""Name to the dataclass of its own keys."""


class _OwnKeys(NamedTuple):
    """The tables of things that bring keys of their own."""

    backends: Configs
    provers: Configs
    workloads: Configs | None
    """None = unread for now."""


def builtin_scenarios() -> dict[str, Path]:
    """The scenarios that come with Lockstep, by name: bridge, adversaries/replay, ..."""
    found = sorted(SCENARIOS_DIRECTORY.rglob("*.toml"), key=lambda path: (len(path.parts), path))
    return {path.relative_to(SCENARIOS_DIRECTORY).with_suffix("").as_posix(): path for path in found}


def load_scenario(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    backends: Configs | None = None,
    provers: Configs | None = None,
    workloads: Configs | None = None,
) -> Scenario:
    """Read a built-in scenario by name, or any file by path, and apply `overrides` (`table.key=value`).

    `backends`, `provers` and `workloads` map a name to the dataclass of its own keys; the defaults for the first two
    are the tables of `nodes`. Without `workloads` the workload's own keys are kept unread, for `read_table` later.
    Raises InvalidScenario, or UnknownName for a scenario, backend, prover or workload that does not exist.
    """
    path = _locate(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidScenario(f"scenario {path} cannot be read: {error}") from error
    return parse_scenario(
        text, source=str(path), overrides=overrides, backends=backends, provers=provers, workloads=workloads
    )


def _locate(name_or_path: str) -> Path:
    known = builtin_scenarios()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name_or_path:
        raise InvalidScenario(f"scenario file {name_or_path} does not exist; built in: {', '.join(known)}")
    raise UnknownName(kind="scenario", name=name_or_path, known=known)


def parse_scenario(
    text: str,
    *,
    source: str,
    overrides: Sequence[str] = (),
    backends: Configs | None = None,
    provers: Configs | None = None,
    workloads: Configs | None = None,
) -> Scenario:
    """The scenario that `text` holds; see `load_scenario`. `source` stands in every message."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidScenario(f"{source} is not TOML: {error}") from error
    own = _OwnKeys(
        _backend_configs() if backends is None else backends,
        _prover_configs() if provers is None else provers,
        workloads,
    )
    tables = (*TABLES, *WITH_KEYS_OF_OTHERS, REGIONS)
    for key in raw:
        if key not in (*tables, "faults"):
            _refuse_key(key, [*tables, "faults"], where="", source=source)
    for key in tables:
        if not isinstance(raw.setdefault(key, {}), dict):
            raise InvalidScenario(f"{source}: {key} = {raw[key]!r} must be a table: [{key}]")
    owner = str(raw["testnet"].get("backend", _DEFAULT_BACKEND))
    written = BackendTable.of(raw["backend"], owner=owner, source=source)
    # From here on these hold only what the command line says.
    raw |= {"backend": {}, **{f"{PREFIX}{name}": {} for name in own.backends}}
    _apply_overrides(raw, overrides, own=own, source=source)
    return _build(raw, text=text, source=source, overrides=overrides, own=own, written=written)


def _build(
    raw: Raw, *, text: str, source: str, overrides: Sequence[str], own: _OwnKeys, written: BackendTable
) -> Scenario:
    testnet = read_table(TestnetTable, raw["testnet"], table="testnet", source=source)
    agglayer = read_table(AgglayerTable, raw["agglayer"], table="agglayer", source=source)
    read_table(_config_of(own.provers, "prover", agglayer.prover), raw["prover"], table="prover", source=source)
    load = read_table(LoadTable, raw["load"], table="load", source=source)
    check_load(load, source)
    scenario = Scenario(
        about=read_table(AboutTable, raw["scenario"], table="scenario", source=source),
        testnet=testnet,
        backend_options=_backend_options(raw, own.backends, written, chosen=testnet.backend, source=source),
        rollup=read_table(RollupTable, raw["rollup"], table="rollup", source=source),
        agglayer=agglayer,
        prover_options=raw["prover"],
        l1=read_table(L1Table, raw["l1"], table="l1", source=source),
        builder=read_table(BuilderTable, raw["builder"], table="builder", source=source),
        regions=_read_regions(raw, source),
        network=read_table(NetworkTable, raw["network"], table="network", source=source),
        divergence=read_table(DivergenceTable, raw["divergence"], table="divergence", source=source),
        genesis=read_table(GenesisTable, raw["genesis"], table="genesis", source=source),
        workload=_read_workload(raw["workload"], own.workloads, source=source),
        load=load,
        faults=_read_faults(raw.get("faults", []), source),
        source=source,
        text=text,
        overrides=tuple(overrides),
        notes=written.notes_for(testnet.backend),
    )
    check_atomicity(scenario)
    if testnet.leg_gas_cap * testnet.max_payloads >= 2**63:
        raise InvalidScenario(
            f"{source}: [testnet] leg_gas_cap * max_payloads, the block gas limit, must stay below 2**63"
        )
    return scenario


def _backend_options(raw: Raw, backends: Configs, written: BackendTable, *, chosen: str, source: str) -> dict[str, Any]:
    """The chosen backend's keys: the file's, then the command line's, of which the more specific one wins.

    All that the file has for backends is checked, so that a mistake shows before that backend is chosen.
    """
    for name in written.by_name:
        if name not in backends:
            known = {item.name for item in fields(_config_of(backends, "backend", written.owner))}
            _refuse_key(name, known | set(backends), where=" in [backend]", source=source)
    found: dict[str, dict[str, Any]] = {}
    for name in {written.owner: None, chosen: None, **backends}:
        asked = raw["backend"] if name == chosen else {}
        config = _config_of(backends, "backend", name)
        found[name] = {**written.options_for(name), **asked, **raw[f"{PREFIX}{name}"]}
        where = "backend" if name == written.owner else f"{PREFIX}{name}"
        for key in found[name]:
            _refuse_key_of_another(key, name, backends, where=f"{source}: [{where}] {key}")
        read_table(config, found[name], table=where, source=source)
    return found[chosen]


def _refuse_key_of_another(key: str, name: str, backends: Configs, *, where: str) -> None:
    """A key that the backend `name` lacks and another has: what was meant is that one. Raises InvalidScenario."""
    having = {other: {item.name for item in fields(config)} for other, config in backends.items()}
    owners = [other for other, keys in having.items() if key in keys]
    if owners and name not in owners:
        raise InvalidScenario(
            f"{where}: this is a key of the backend {owners[0]}, not of {name}; run it with --backend {owners[0]}, or "
            f"write {PREFIX}{owners[0]}.{key} for when that one is chosen"
        )


def _backend_configs() -> dict[str, type[Any]]:
    return {name: backend.config_type for name, backend in BACKENDS.items()}


def _prover_configs() -> dict[str, type[Any]]:
    return {name: prover.config_type for name, prover in PROVERS.items()}


def _config_of(table: Configs, kind: str, name: str) -> type[Any]:
    if name not in table:
        raise UnknownName(kind=kind, name=name, known=table)
    return table[name]


# One table


def read_table(kind: type[Table], raw: Mapping[str, Any], *, table: str, source: str) -> Table:
    """The dataclass `kind` from the keys of one table. Raises InvalidScenario naming file, table, key and bounds."""
    hints = get_type_hints(kind, include_extras=True)
    known = {item.name: item for item in fields(cast(Any, kind)) if item.init}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in known:
            _refuse_key(key, known, where=f" in [{table}]", source=source)
        values[key] = _read_value(hints[key], value, where=f"{source}: [{table}] {key}", source=source)
    for name, item in known.items():
        if name not in values and item.default is MISSING and item.default_factory is MISSING:
            raise InvalidScenario(f"{source}: [{table}] {name} is missing; it has no default")
    try:
        return kind(**values)
    except InvalidInput as error:
        # A backend's or workload's Config checks what its types cannot say.
        raise InvalidScenario(f"{source}: [{table}]: {error}") from error


def _refuse_key(key: str, known: Iterable[str], *, where: str, source: str) -> NoReturn:
    names = sorted(known)
    near = get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    raise InvalidScenario(f"{source}: unknown key {key!r}{where}; {hint}")


def _read_value(hint: Any, value: Any, *, where: str, source: str) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *bounds = get_args(hint)
        value = _read_value(inner, value, where=where, source=source)
        for bound in bounds:
            _check_bound(bound, value, where=where)
        return value
    if origin in (Union, types.UnionType):
        return _read_union(get_args(hint), value, where=where, source=source)
    if origin in (tuple, list, Sequence):
        if not isinstance(value, (list, tuple)):
            raise InvalidScenario(f"{where} = {value!r} must be a list")
        part = get_args(hint)[0]
        return tuple(
            _read_value(part, item, where=f"{where}[{index}]", source=source) for index, item in enumerate(value)
        )
    if origin in (dict, Mapping) or hint is Any:
        if hint is not Any and not isinstance(value, dict):
            raise InvalidScenario(f"{where} = {value!r} must be a table")
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise InvalidScenario(f"{where} = {value!r} must be a table such as {{ key = value }}")
        return read_table(hint, value, table=where.removeprefix(f"{source}: "), source=source)
    return _read_plain(getattr(hint, "__supertype__", hint), value, where=where)


def _read_union(options: Sequence[Any], value: Any, *, where: str, source: str) -> Any:
    """The first alternative that fits; TOML has no null, so an optional key is simply left out."""
    complaint: InvalidScenario | None = None
    for option in options:
        if option is types.NoneType:
            continue
        try:
            return _read_value(option, value, where=where, source=source)
        except InvalidScenario as error:
            complaint = complaint or error
    assert complaint is not None
    raise complaint


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _read_plain(kind: type[Any], value: Any, *, where: str) -> Any:
    assert kind in _NAMES, f"{where}: the reader has no rule for {kind}"
    # bool is an int in Python, and a whole number is as good as a float.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    # Not what is in a list or a table: a keypair is a list of numbers to some.
    shown = f"a {'table' if isinstance(value, dict) else 'list'}" if isinstance(value, (list, dict)) else repr(value)
    raise InvalidScenario(f"{where} = {shown} must be {_NAMES[kind]}")


def _check_bound(bound: Any, value: Any, *, where: str) -> None:
    if isinstance(bound, Between) and not bound.low <= value <= bound.high:
        raise InvalidScenario(f"{where} = {value!r} is out of range: {bound.low:,} to {bound.high:,}")
    if isinstance(bound, OneOf) and value not in bound.names:
        near = get_close_matches(value, bound.names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidScenario(f"{where} = {value!r} must be one of {', '.join(bound.names)}{hint}")
    if isinstance(bound, Hex) and value and not _is_hex(value, bound.size_bytes):
        raise InvalidScenario(f"{where} = {value!r} must be {bound.size_bytes} bytes as hex digits, or left out")


def _is_hex(value: str, size_bytes: int) -> bool:
    try:
        return len(bytes.fromhex(value.removeprefix("0x"))) == size_bytes
    except ValueError:
        return False


# Tables with keys of someone else


def _read_regions(raw: Raw, source: str) -> dict[str, str]:
    regions: Raw = raw[REGIONS]
    if raw["network"] and not regions:
        raise InvalidScenario(f'{source}: [network] has no effect without [regions]; add for example default = "..."')
    for key, value in regions.items():
        if not isinstance(value, str):
            raise InvalidScenario(f"{source}: [{REGIONS}] {key} = {value!r} must be the name of a region")
    return regions


def _read_workload(raw: Raw, workloads: Configs | None, *, source: str) -> WorkloadTable:
    own = _own_keys(WorkloadTable)
    common = read_table(WorkloadTable, {k: v for k, v in raw.items() if k in own}, table="workload", source=source)
    options = {key: value for key, value in raw.items() if key not in own}
    if workloads is not None:
        config = _config_of(workloads, "workload", common.kind)
        known = {item.name for item in fields(config)}
        for key in options:
            if key not in known:
                _refuse_key(key, own | known, where=" in [workload]", source=source)
        read_table(config, {k: v for k, v in raw.items() if k in known}, table="workload", source=source)
    values = {name: getattr(common, name) for name in own}
    return WorkloadTable(**values, options=options)


def _read_faults(raw: Any, source: str) -> tuple[FaultTable, ...]:
    if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
        raise InvalidScenario(f"{source}: faults must be a list of tables: [[faults]]")
    own = _own_keys(FaultTable)
    faults = []
    for index, entry in enumerate(raw):
        named = {key: value for key, value in entry.items() if key in own}
        common = read_table(FaultTable, named, table=f"faults[{index}]", source=source)
        values = {name: getattr(common, name) for name in own}
        faults.append(FaultTable(**values, options={k: v for k, v in entry.items() if k not in own}))
    return tuple(faults)


def _own_keys(table: type[Any]) -> set[str]:
    return {item.name for item in fields(table)} - {"options"}


# Overrides


def _apply_overrides(raw: Raw, overrides: Sequence[str], *, own: _OwnKeys, source: str) -> None:
    """Write each `key=value` into the raw tables; which backend and so on is decided before its own keys are named."""
    selecting = ("testnet.backend", "backend", "agglayer.prover", "prover", "workload.kind")

    def known_keys() -> dict[str, list[str]]:
        names = {REGIONS: [], **{table: sorted(_own_keys(kind)) for table, kind in TABLES.items()}}
        backend = raw["testnet"].get("backend", _DEFAULT_BACKEND)
        if backend in own.backends:
            names["backend"] = [item.name for item in fields(own.backends[backend])]
        for name, config in own.backends.items():
            names[f"{PREFIX}{name}"] = [item.name for item in fields(config)]
        prover = raw["agglayer"].get("prover", AgglayerTable.__dataclass_fields__["prover"].default)
        if prover in own.provers:
            names["prover"] = [item.name for item in fields(own.provers[prover])]
        workload = raw["workload"].get("kind", WorkloadTable.__dataclass_fields__["kind"].default)
        if own.workloads is not None and workload in own.workloads:
            names["workload"] = sorted({*names["workload"], *(item.name for item in fields(own.workloads[workload]))})
        return names

    pairs = [_split_override(override) for override in overrides]
    for key, value in sorted(pairs, key=lambda pair: pair[0] not in selecting):
        if key in WITH_KEYS_OF_OTHERS:
            key = {"backend": "testnet.backend", "prover": "agglayer.prover"}[key]
        known = known_keys()
        last = key.removeprefix(PREFIX)
        if "." not in last and "backend" in known and not any(last in names for names in _plain(known).values()):
            backend = str(raw["testnet"].get("backend", _DEFAULT_BACKEND))
            _refuse_key_of_another(last, backend, own.backends, where=f"override {key!r}")
        table, name = _full_key(key, known, open_workload=own.workloads is None)
        raw[table][name] = value


def _split_override(override: str) -> tuple[str, Any]:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise InvalidScenario(f"override {override!r} is not KEY=VALUE, for example testnet.rollups=8")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text.strip()  # a bare word is text, so that the shell needs no second pair of quotes


def _plain(known: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The tables whose keys need not be written out: all but the sub-tables of backends."""
    return {table: names for table, names in known.items() if not table.startswith(PREFIX)}


def _full_key(key: str, known: Mapping[str, Sequence[str]], *, open_workload: bool) -> tuple[str, str]:
    where = f"override {key!r}"
    table, dot, name = key.rpartition(".")
    if not dot:
        known = _plain(known)
        homes = [table for table, names in known.items() if name in names]
        if len(homes) == 1:
            return homes[0], name
        if homes:
            raise InvalidScenario(f"{where} is ambiguous; write one of {', '.join(f'{t}.{name}' for t in homes)}")
        everything = {last: f"{table}.{last}" for table, names in known.items() for last in names}
        near = get_close_matches(name, everything, n=1)
        raise InvalidScenario(
            f"{where}: no table has this key; " + (f"did you mean {everything[near[0]]!r}?" if near else "see the docs")
        )
    if table not in known:
        _refuse_key(table, known, where=" names no table", source=where)
    if name not in known[table] and table != REGIONS and not (table == "workload" and open_workload):
        _refuse_key(name, known[table], where=f" in [{table}]", source=where)
    return table, name
