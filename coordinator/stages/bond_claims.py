"""At the end of a run with a bonded builder: have the users of split bundles paid, and reckon up.

Nothing is claimed in a run itself: that is for users to do. Here it is done for all of them, so that the report can say
what the bond paid, what that cost, and how much load so much capital carries.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from coordinator.bundle.bond import BondAccess, BondAccount, BondClaims
from coordinator.launch import RunningTestnet
from nodes.model.json_form import to_json

MAX_REASONS = 20
"""Kinds of refusal that are listed."""


async def claim_bonds(
    running: RunningTestnet, partly: Iterable[bytes], *, load_s: float, wait_s: float, all_settled: bool
) -> dict[str, Any]:
    """The part of run.json about the bond: `partly` are bundle hashes, `load_s` how long bundles came.

    Where everything is settled, every promise has ended; the builder hears of that from L1 a little later than others.

    What is not settled after `wait_s` is left unpaid and said. Raises Unavailable where builder or L1 is away.
    """
    async with BondClaims(BondAccess.of_directory(running.directory)) as claims:
        totals = await claims.claim_all(partly, wait_s=wait_s)
        status = await claims.caught_up(paid=len(totals.paid), all_ended=all_settled, wait_s=wait_s)
    reasons = Counter(totals.refused.values())
    return {
        "paid": len(totals.paid),
        "paid_wei": str(totals.paid_wei),
        "claim_gas": totals.gas_used,
        "unpaid": dict(reasons.most_common(MAX_REASONS)),
        "account": {
            name: str(value) if name.endswith("_wei") else value
            for name, value in to_json(BondAccount.of(status, elapsed_s=load_s)).items()
        },
        "promises": {
            "made": status.made,
            "open": status.open,
            "due": status.due,
            "kept": status.kept,
            "paid": status.paid,
            "expired": status.expired,
        },
        "executed_not_whole": status.not_whole,
    }
