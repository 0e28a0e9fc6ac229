"""The viem example of the documentation, run as its reader would run it."""

import json
import subprocess
from pathlib import Path

import pytest

from coordinator.testing import running_testnet
from nodes.model.json_form import to_json
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
def test_a_bundle_built_with_viem_executes(tmp_path: Path) -> None:
    with running_testnet(tmp_path / "testnet", overrides=["testnet.rollups=2"]) as testnet:
        description = tmp_path / "testnet.json"
        document = {"accounts": to_json(testnet.accounts), "rollups": to_json(testnet.rollups)}
        description.write_text(json.dumps(document) + "\n", encoding="utf-8")
        done = subprocess.run(
            ["node", str(ROOT / "docs" / "examples" / "viem.mjs"), str(description)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("bundle 0x")
    assert [line.partition(",")[0] for line in lines[1:]] == [
        "leg 1 on rollup-1: success",
        "leg 2 on rollup-2: success",
    ]
