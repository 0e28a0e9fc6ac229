"""Sentences about verdicts, value and settlement, as both the terminal and the page say them."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.results import Results
from benchmarks.report.wording import NOT_KNOWN, milliseconds, number, percent

REFUSALS_SHOWN = 12
UNPAID_SHOWN = 3
TOKEN_DIGITS = 6
TOKENS_NAMED = 5
ESCROW = "escrow_"
WHOLE: Mapping[str, Any] = {"decimals": 18}


def facts(results: Results) -> list[tuple[str, str]]:
    """What a run with an aggregation layer has to say, name and sentence; empty for a run without one."""
    layer = results.atomicity
    if layer is None:
        return []
    rows = [("Promise", f"{layer['mode']}: {layer['promise']}")]
    for name, part, say in (
        ("Aborted", "aborts", _aborted),
        ("Verdicts", "rounds", _rounds),
        ("Reorgs", "reorgs", _reorgs),
    ):
        if part in layer:
            rows.append((name, say(layer)))
    if "aborts" not in layer:
        rows.append(("Partly", f"{layer['partly_succeeded']:,} bundles succeeded in part, and stay so"))
    if "conservation" in layer:
        rows.append(("Value", value(layer["conservation"])))
    if "settlement" in layer:
        rows += settlement(layer["settlement"])
    if "bond" in layer:
        rows.append(("Bond", bond(layer["bond"])))
    if layer.get("capital"):
        rows.append(("Capital", capital(layer["capital"])))
    rows += [("Refused" if index == 0 else "", line) for index, line in enumerate(refused(layer))]
    return rows


def _aborted(layer: Mapping[str, Any]) -> str:
    aborts = layer["aborts"]
    share = f" ({percent(aborts['share'], 2)} of what was executed)" if aborts["share"] else ""
    together = aborts["struck_together"]
    collateral = f"{together:,} struck together with a failing bundle before them (possible collateral)"
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in aborts["by_reason"].items())
    return f"{aborts['bundles']:,} bundles{share}{': ' if reasons else ''}{reasons}; {collateral}"


def _rounds(layer: Mapping[str, Any]) -> str:
    rounds, wait = layer["rounds"], layer["atomic_safe"]["after_executed_ms"]
    shares = [
        f"{row['rounds']}: {percent(row['heights'] / max(1, rounds['heights']))}" for row in rounds["histogram"][:4]
    ]
    more = ", ..." if len(rounds["histogram"]) > 4 else ""
    ahead = layer["parameters"].get("speculation_heights")
    told = f"; at most {ahead:,} heights executed ahead of their verdicts" if ahead else ""
    return (
        f"atomic-safe p50 {milliseconds(wait['p50'])} ms, p99 {milliseconds(wait['p99'])} ms after executed; rounds of "
        f"{rounds['heights']:,} heights {', '.join(shares) or NOT_KNOWN}{more}{told}"
    )


def _reorgs(layer: Mapping[str, Any]) -> str:
    reorgs = layer["reorgs"]
    if not reorgs["count"]:
        return "none: nothing that a node had announced was given up"
    depth = reorgs["depth_heights"]
    return (
        f"{reorgs['count']:,}, depth in heights p50 {number(depth['p50'])}, p99 {number(depth['p99'])}, "
        f"at most {number(depth['max'])}"
    )


def value(money: Mapping[str, Any]) -> str:
    """Whether value was conserved, and in which tokens nobody looked."""
    return _conserved(money) + _not_counted(money.get("not_counted") or ())


def _not_counted(tokens: Sequence[Mapping[str, Any]]) -> str:
    if not tokens:
        return ""
    named = [f"{token['address']} of network {token['network']}" for token in tokens[:TOKENS_NAMED]]
    more = f" and {len(tokens) - TOKENS_NAMED:,} more" if len(tokens) > TOKENS_NAMED else ""
    return f"; not counted: {', '.join(named)}{more}"


def _conserved(money: Mapping[str, Any]) -> str:
    broken = [token for token in money["tokens"] if not token["holds"]]
    if not broken:
        told = f", whatever the unsound {', '.join(money['unsound'])} printed at home" if money["unsound"] else ""
        return f"conserved in {', '.join(token['token'] for token in money['tokens'])}{told}"
    said = ", ".join(
        f"{amount(abs(token['difference']), token)} {token['token']} "
        + ("made out of nothing" if token["difference"] > 0 else "missing")
        for token in broken
    )
    return f"NOT CONSERVED: {said}" if money["rule"] == "invariant" else f"{said} (reported, not promised)"


def amount(units: int, token: Mapping[str, Any]) -> str:
    """An amount of a token: whole tokens where nothing is lost by it, else its smallest units."""
    decimals = int(token["decimals"])
    scale = 10**decimals
    whole, rest = divmod(abs(units), scale)
    sign = "-" if units < 0 else ""
    if not rest:
        return f"{sign}{whole:,}"
    fraction = f"{rest:0{decimals}d}".rstrip("0")
    return f"{sign}{whole:,}.{fraction}" if len(fraction) <= TOKEN_DIGITS else f"{units:,} units"


def settlement(settled: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Proofs and settlement, two lines."""
    proof, gas, bundles = settled["proof"], settled["gas"], settled["bundles"]
    took = proof["duration_ms"]
    made = f"{proof['batches']:,} batches, p50 {milliseconds(took['p50'])} ms, p99 {milliseconds(took['p99'])} ms"
    status = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in settled["certificates"].items())
    line = (
        f"{bundles['settled']:,} of {bundles['completed']:,} completed bundles settled, {bundles['final']:,} final; "
        f"certificates: {status or 'none'}; {settled['exits']:,} exits, {settled['imports']:,} imports"
    )
    cost = (
        f"{number(gas['per_bundle'])} per bundle, {number(gas['per_certificate'])} per certificate, "
        f"{number(gas['per_settlement'])} per settlement ({gas['settlements']:,}; "
        f"{number(gas['bundles_per_certificate'], 1)} bundles per certificate)"
    )
    return [("Proofs", f"{proof['label']}; {made}"), ("Settled", line), ("L1 gas", cost)]


def capital(locked: Mapping[str, Any]) -> str:
    """What was locked while the run lasted."""
    held = [
        f"{amount(int(units), WHOLE)} {name.removeprefix(ESCROW)}"
        for name, units in locked.items()
        if name.startswith(ESCROW) and int(units)
    ]
    parts = [f"in escrow on L1 {', '.join(held)}"] if held else []
    if lent := int(locked.get("bank_outstanding") or 0):
        parts.append(f"loans that nobody paid back {amount(lent, WHOLE)}")
    if bond := int(locked.get("bond_wei") or 0):
        bound = amount(int(locked.get("most_bonded_wei") or 0), WHOLE)
        judged, turned_away = int(locked.get("bundles_judged") or 0), int(locked.get("bundles_refused") or 0)
        parts.append(
            f"bond {amount(bond, WHOLE)} ether, at most {bound} of it bound by open promises; the builder judged "
            f"{judged:,} bundles and refused {turned_away:,}"
        )
    return "; ".join(parts) or "none"


def bond(entry: Mapping[str, Any]) -> str:
    """What the bond paid, and how much promising it can carry."""
    paid, split = int(entry.get("paid") or 0), int(entry.get("executed_not_whole") or 0)
    said = [
        f"{paid:,} of {split:,} bundles that did not succeed whole paid, {amount(int(entry['paid_wei']), WHOLE)} ether"
    ]
    if paid:
        said[0] += f" at {number(int(entry['claim_gas']) / paid)} gas a claim"
    if unpaid := entry.get("unpaid"):
        said.append(f"unpaid: {', '.join(f'{count:,} ({why})' for why, count in list(unpaid.items())[:UNPAID_SHOWN])}")
    account = entry.get("account") or {}
    if account.get("expected_per_s") is not None:
        said.append(
            f"capital / time until a promise is free ({account['release_s']:.2f} s) = {account['expected_per_s']:,.1f} "
            f"promises/s expected at most, {account['measured_per_s']:,.1f}/s made; {account['lacked_bond']:,} bundles "
            "lacked free bond"
        )
    return "; ".join(said)


def refused(layer: Mapping[str, Any]) -> list[str]:
    """What was refused and why, the most frequent first."""
    entries = layer["refused"]["entries"]
    lines = [
        f"{entry['what']} of {entry['who'] or 'nobody'}"
        + (f", {entry['count']:,} times" if entry["count"] > 1 else "")
        + f": {entry['why']}"
        for entry in entries[:REFUSALS_SHOWN]
    ]
    rest = len(entries) - len(lines) + layer["refused"]["left_out"]
    return [*lines, f"and {rest:,} more (results.json)"] if rest else lines
