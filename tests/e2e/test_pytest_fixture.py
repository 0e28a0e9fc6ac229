"""The fixtures that Lockstep gives to other projects, used as one uses them: by pytest in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "test_my_application.py"
GUIDE = ROOT / "docs" / "testing-your-application.md"
TIMEOUT_S = 400


@pytest.mark.e2e
@pytest.mark.parametrize("workers", ["0", "2"], ids=["alone", "under xdist"])
def test_the_example_of_the_guide_passes_in_a_project_of_its_own(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_my_application.py").write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-n", workers, "-p", "no:cacheprovider"]
    command += ["-p", "coordinator.testing"] if not _is_installed() else []
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def _is_installed() -> bool:
    """Whether this environment was installed after the entry point was declared."""
    from importlib.metadata import entry_points

    return any(point.value == "coordinator.testing" for point in entry_points(group="pytest11"))


def test_the_guide_shows_the_example_that_is_run() -> None:
    guide, example = GUIDE.read_text(encoding="utf-8"), EXAMPLE.read_text(encoding="utf-8")
    for name in ("test_both_legs_of_a_bundle_execute", "test_a_leg_can_revert_alone", "test_balances"):
        assert f"def {name}(lockstep_testnet)" in guide
        assert f"def {name}(lockstep_testnet: LockstepTestnet)" in example
