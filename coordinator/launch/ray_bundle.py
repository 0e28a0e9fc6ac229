"""What is shipped to the machines of an existing Ray cluster: this code and the engine, as Ray's working directory.

Third-party packages are not shipped: they are compiled for one platform and large. The machines need them installed
(docs/cloud.md says how).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from coordinator.launch.ray_actor import BUNDLED_ENGINE

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "nodes", "coordinator")
DATA = (Path("contracts") / "artifacts", Path("benchmarks") / "scenarios")
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.proto", "*.pyi")


@contextmanager
def staged_bundle(engine: Path) -> Iterator[Path]:
    """A folder with the packages, their data and the engine binary, for as long as the block lasts."""
    with TemporaryDirectory(prefix="lockstep-bundle-") as folder:
        target = Path(folder)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, target / package, ignore=_IGNORED)
        for data in DATA:
            shutil.copytree(ROOT / data, target / data)
        (target / BUNDLED_ENGINE).parent.mkdir()
        shutil.copyfile(engine, target / BUNDLED_ENGINE)
        yield target


def runtime_environment(bundle: Path) -> dict[str, object]:
    """Ray's runtime environment for the actors of one testnet."""
    return {
        "working_dir": str(bundle),
        # Compiled files are kept on the machine: an actor that is restarted starts two seconds sooner.
        "env_vars": {"PYTHONDONTWRITEBYTECODE": "", "RAY_USAGE_STATS_ENABLED": "0"},
    }
