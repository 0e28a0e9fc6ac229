"""`lockstep show`: one bundle of a run in words: when each thing happened to it, what took longest, why it was dropped.

Reads the run directory only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from coordinator.record import RunDirectory
from nodes.model.errors import InvalidInput, UnknownName
from nodes.model.ids import HASH_BYTES

SHORTCUTS = ("slowest", "dropped", "reverted", "partly", "skipped", "aborted", "lost")
_LEAST_PREFIX = 6
"""Hex digits of a hash that must be given."""
_NS_PER_MS = 1_000_000
_WHY = {
    "malformed": "the payload is no transaction",
    "unsupported_type": "the transaction type is not accepted",
    "bad_signature": "the signature does not hold",
    "wrong_chain": "the leg was signed for another chain id",
    "over_limit": "a leg is over the gas cap, or beyond the payloads of one block",
    "stray_leg": "the leg carries the trailer of a bundle of which no row names this place",
    "incomplete": "another leg of the bundle is missing or wrong",
    "void_row": "the bundle's row contradicts its legs",
    "duplicate": "the bundle was admitted before",
    "expired": "the bundle's expiry had passed",
    "nonce_too_low": "the sender's nonce was used already",
    "nonce_too_high": "an earlier transaction of the sender is missing (dropped or skipped): a nonce gap",
    "insufficient_balance": "the sender cannot pay value and gas",
    "intrinsic_gas": "the gas limit is below what the transaction costs before it runs",
    "init_code_too_large": "the creation code is too large",
    "fee_order": "the priority fee is above the maximum fee",
    "leg reverted": "a leg of the bundle reverted, so that the verdict struck all of it",
    "leg skipped": "a leg of the bundle could not execute, so that the verdict struck all of it",
    "unmatched_mint": "a leg minted what no leg of the bundle had burnt",
    "evicted": "the bundle touches a rollup that had gone silent",
    "voided": "an import of the bundle never had a settled source",
    "unbundled": "derivation admitted some legs and not all: a broken invariant",
}
_AFTERWARDS = frozenset({"certifying and proving", "settling"})
"""What comes after a bundle is completed."""
_WAITS = {"lazy": "waiting for the cut", "solana": "waiting to be posted and confirmed"}
"""By backend: what lies between accepted and sequenced."""
Row = Mapping[str, Any]


def explain_bundle(directory: Path, wanted: str) -> str:
    """The explanation as text. `wanted`: a number, the start of a hash, or one of SHORTCUTS.

    Raises UnknownName where the run has no such bundle, InvalidInput where the directory is no run.
    """
    run = RunDirectory.open(directory)
    document = run.read_run()
    bundle = _find(run, wanted)
    legs = run.read_table("legs")
    mine = legs.filter(pc.equal(legs["bundle_id"], bundle["bundle_id"])).sort_by("leg_index").to_pylist()
    lines = _heading(bundle)
    lines += _timeline(bundle, mine)
    lines += _durations(bundle, mine, backend=str(document.get("backend", "")))
    lines += [f"  leg {leg['leg_index'] + 1} on {leg['rollup']}: {_fate(leg)}" for leg in mine]
    lines += _surroundings(run, document, bundle, mine)
    return "\n".join(lines)


def _find(run: RunDirectory, wanted: str) -> Row:
    bundles = run.read_table("bundles")
    if wanted == "slowest":
        latency = pc.subtract(bundles["executed_ns"], bundles["due_ns"])
        found = (
            bundles.take(pc.select_k_unstable(latency, 1, [("", "descending")]))
            if latency.null_count < len(bundles)
            else bundles.slice(0, 0)
        )
    elif wanted in SHORTCUTS:
        found = bundles.filter(pc.equal(bundles["outcome"], wanted))
    elif wanted.isdecimal():
        found = bundles.filter(pc.equal(bundles["bundle_id"], int(wanted)))
    else:
        found = _by_hash(run, bundles, wanted)
    if not len(found) and wanted in SHORTCUTS:
        raise InvalidInput(f"no bundle of {run.path} was {wanted}" if wanted != "slowest" else "no bundle was executed")
    if not len(found):
        raise UnknownName(kind=f"bundle of {run.path}", name=wanted, known=[*SHORTCUTS, f"0 to {len(bundles) - 1}"])
    row: Row = found.slice(0, 1).to_pylist()[0]
    return row


def _by_hash(run: RunDirectory, bundles: pa.Table, wanted: str) -> pa.Table:
    text = wanted.removeprefix("0x").lower()
    try:
        prefix = bytes.fromhex(text[: len(text) & ~1])
    except ValueError as error:
        raise InvalidInput(f"{wanted!r} is no number, no hash and none of {', '.join(SHORTCUTS)}") from error
    if len(text) < _LEAST_PREFIX or len(prefix) > HASH_BYTES:
        raise InvalidInput(f"{wanted!r}: give {_LEAST_PREFIX} to {2 * HASH_BYTES} hex digits of a hash")
    for column in ("bundle_hash", "submission_hash"):
        found = bundles.filter(_starts_with(bundles[column], prefix))
        if len(found):
            return found
    legs = run.read_table("legs")
    named = legs.filter(_starts_with(legs["tx_hash"], prefix))["bundle_id"]
    return bundles.filter(pc.is_in(bundles["bundle_id"], value_set=named.combine_chunks()))


def _starts_with(column: pa.ChunkedArray, prefix: bytes) -> pa.ChunkedArray:
    return pc.equal(pc.binary_slice(column.cast(pa.binary()), 0, len(prefix)), prefix)


def _heading(bundle: Row) -> list[str]:
    outcome = str(bundle["outcome"])
    reason = str(bundle["drop_reason"] or "")
    why = f": {reason}, {_WHY.get(reason, reason)}" if reason else ""
    retried = f", sent {bundle['attempts']} times" if bundle["attempts"] > 1 else ""
    return [
        f"bundle {bundle['bundle_id']} of {bundle['legs']} legs, lane {bundle['lane']}: {outcome}{why}{retried}",
        f"  bundle hash     0x{bundle['bundle_hash'].hex()}",
        f"  submission hash 0x{bundle['submission_hash'].hex()}",
    ]


def _timeline(bundle: Row, legs: list[Row]) -> list[str]:
    due_ns = int(bundle["due_ns"])
    events: list[tuple[int, str]] = [(due_ns, "due")]
    for name, text in (
        ("sent_ns", "sent"),
        ("accepted_ns", "accepted: durable at the sequencer"),
        ("sequenced_ns", f"sequenced at height {bundle['height']}"),
        ("firm_ns", "firm"),
        ("executed_ns", "executed: every leg resolved"),
        ("atomic_safe_ns", "atomic-safe: every rollup took the verdict"),
        ("proved_ns", "proved: in proved certificates, imports included"),
        ("settled_ns", "settled on L1"),
        ("final_ns", "final on L1"),
    ):
        # Runs of earlier versions lack the last columns.
        if bundle.get(name) is not None:
            events.append((int(bundle[name]), text))
    for leg in legs:
        for name, text in (("received_ns", "received"), ("derived_ns", "verified and derived"), ("built_ns", "built")):
            if leg[name] is not None and leg["fate"] != "missing":
                events.append((int(leg[name]), f"{leg['rollup']}: {text}"))
        if leg["executed_ns"] is not None:
            number = f", block {leg['number']}" if leg["number"] else ""
            events.append((int(leg["executed_ns"]), f"{leg['rollup']}: {leg['fate']}{number}"))
    lines = ["", "  after due, ms"]
    lines += [f"  {(at_ns - due_ns) / _NS_PER_MS:10.1f}  {text}" for at_ns, text in sorted(events)]
    return [*lines, ""]


def _durations(bundle: Row, legs: list[Row], *, backend: str) -> list[str]:
    """What took how long, along the leg that was resolved last."""
    waits = _WAITS.get(backend, "waiting to be sequenced")
    last = max(
        (leg for leg in legs if leg["executed_ns"] is not None), key=lambda leg: leg["executed_ns"], default=None
    )
    points = [
        ("waiting to be sent", bundle["due_ns"], bundle["sent_ns"]),
        ("accepting", bundle["sent_ns"], bundle["accepted_ns"]),
        (waits, bundle["accepted_ns"] or bundle["sent_ns"], bundle["sequenced_ns"]),
    ]
    if last is not None:
        points += [
            (f"on the way to {last['rollup']}", bundle["sequenced_ns"], last["received_ns"]),
            ("verifying and deriving", last["received_ns"], last["derived_ns"]),
            ("executing", last["derived_ns"], last["built_ns"]),
            ("announcing", last["built_ns"], last["executed_ns"]),
        ]
    points += [
        ("waiting for the verdict", bundle["executed_ns"], bundle.get("atomic_safe_ns")),
        ("certifying and proving", bundle.get("atomic_safe_ns") or bundle["executed_ns"], bundle.get("proved_ns")),
        ("settling", bundle.get("proved_ns"), bundle.get("settled_ns")),
    ]
    spans = [(name, (end - begin) / _NS_PER_MS) for name, begin, end in points if begin is not None and end is not None]
    if not spans:
        return []
    # Settlement takes seconds in the best of cases, and says nothing of what held this bundle up.
    longest = max(spans, key=lambda span: (span[0] not in _AFTERWARDS, span[1]))
    return [
        "  took, ms",
        *(f"  {ms:10.1f}  {name}{'  <- longest' if (name, ms) == longest else ''}" for name, ms in spans),
        "",
    ]


def _fate(leg: Row) -> str:
    fate, reason = str(leg["fate"]), str(leg["reason"] or "")
    if fate == "missing":
        return "no node has resolved it"
    where = f"height {leg['height']}" + (f", block {leg['number']}" if fate in ("succeeded", "reverted") else "")
    why = f": {reason}, {_WHY.get(reason, reason)}" if reason else ""
    return f"{fate} at {where}{why}; transaction 0x{leg['tx_hash'].hex()}"


def _surroundings(run: RunDirectory, document: Mapping[str, Any], bundle: Row, legs: list[Row]) -> list[str]:
    """What the sequencer, the bundle's rollups and the faults were doing between due and resolved."""
    begin_ns = int(bundle["due_ns"])
    ends = [leg["executed_ns"] for leg in legs if leg["executed_ns"] is not None]
    end_ns = int(max(ends)) if ends else int(document["load_end_ns"])
    lines = []
    blocks = run.read_table("blocks")
    for row in blocks.filter(
        pc.equal(blocks["height"], bundle["height"] if bundle["height"] is not None else -1)
    ).to_pylist():
        if row["kind"] == "sequencer":
            lines.append(f"  height {row['height']} held {row['payloads']:,} payloads, {row['payload_bytes']:,} bytes")
        elif row["node"] in {leg["rollup"] for leg in legs}:
            lines.append(
                f"  {row['node']} had {row['admitted']:,} admitted and {row['dropped']:,} dropped payloads there"
            )
    for fault in document.get("faults", []):
        healed_ns = fault["healed_ns"] or end_ns
        if fault.get("carried_out", True) and fault["injected_ns"] <= end_ns and healed_ns >= begin_ns:
            lines.append(f"  during fault {fault['kind']} of {fault['target']}")
    stalls = run.read_table("stalls").to_pylist()
    lines += [
        f"  {stall['node']} stalled at height {stall['height']}: {stall['reason']} (source {stall['source']})"
        for stall in stalls
        if begin_ns <= stall["at_ns"] <= end_ns
    ]
    for node, recoveries in document.get("recovery", {}).items():
        lines += [
            f"  {node} recovered from height {recovery['checkpoint_height']} in {recovery['duration_s']:.2f} s"
            for recovery in recoveries
            if begin_ns <= recovery["at_ns"] <= end_ns
        ]
    return ["", *lines] if lines else []
