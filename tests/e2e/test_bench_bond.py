"""A whole run in which a builder promises without looking: who is paid, and what the record says of the bond."""

from pathlib import Path

import pytest

from tests.support.bench import bench, check_sound, rows, run_json

pytestmark = pytest.mark.e2e


@pytest.mark.slow
def test_every_split_flash_loan_is_paid_from_the_bond(tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = ["load.duration_s=4", "slot_time_ms=200", "certificate_interval_s=0.3"]
    # On a machine that stands still for seconds no promise shall expire, and nobody be taken for silent.
    changes += ["promise_blocks=5000", "withdrawal_delay_blocks=6000", "report_timeout_ms=60000"]
    done = bench("adversaries/careless-builder", out, *(part for change in changes for part in ("--set", change)))
    check_sound(done, out)
    record = run_json(out)
    assert all(entry["ok"] for entry in record["invariants"].values()), record["invariants"]
    split = sum(row["outcome"] == "partly" for row in rows(out, "bundles"))
    bond = record["bond"]
    assert split == bond["paid"] == bond["promises"]["paid"] == bond["executed_not_whole"] > 0
    assert bond["unpaid"] == {}
    assert int(bond["paid_wei"]) == split * 10**18
    assert bond["promises"]["open"] == 0
    assert 0 < bond["claim_gas"] / split < 200_000
    account = bond["account"]
    assert account["expected_per_s"] == pytest.approx((100 - split) / account["release_s"])
