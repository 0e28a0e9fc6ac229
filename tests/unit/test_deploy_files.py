"""The files for clouds: Ray's own schema for its cluster file, stated fields for KubeRay's manifest, pins as locked.

Ray ships no schema of KubeRay's resources; what is required of them is written out here from the RayCluster API
(ray.io/v1) and the Kubernetes pod.
"""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "deploy" / "aws.yaml"
MANIFEST = ROOT / "deploy" / "kuberay.yaml"
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi)?")


def ray_folder() -> Path:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(CLUSTER.read_text())
    return document


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return document


def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ray_folder() / "autoscaler" / "ray-schema.json").read_text())
    return document


def test_the_cluster_file_fits_rays_schema(cluster: dict[str, Any]) -> None:
    jsonschema.validate(cluster, schema())


@pytest.mark.parametrize(
    "damage",
    [{"max_worker": 3}, {"provider": {"region": "x"}}, {"max_workers": "many"}, {"setup_commands": "one"}],
)
def test_the_schema_refuses_a_damaged_cluster_file(cluster: dict[str, Any], damage: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, **damage}, schema())


def test_the_cluster_file_is_consistent(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert cluster["head_node_type"] in types
    for kind in types.values():
        assert kind["min_workers"] <= kind["max_workers"] <= cluster["max_workers"]
    assert len({kind["node_config"]["ImageId"] for kind in types.values()}) == 1
    for source in cluster["file_mounts"].values():
        assert source.startswith("~") or (ROOT / source).exists()
    starts = [cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]]
    environment = next(command for command in cluster["setup_commands"] if "lockstep-env" in command)
    assert "RAY_AUTH_MODE=token" in environment
    for command in starts:
        assert command.startswith(". ~/lockstep-env && ")
        assert "--disable-usage-stats" in command
    assert "--head" in starts[0]
    assert "$RAY_HEAD_IP:6379" in starts[1]


def containers(group: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = group["template"]["spec"]["containers"]
    return found


def groups(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [manifest["spec"]["headGroupSpec"], *manifest["spec"]["workerGroupSpecs"]]


def test_the_manifest_is_a_ray_cluster(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])
    known = {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    assert set(manifest["spec"]) <= known
    assert set(manifest["spec"]["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in manifest["spec"]["workerGroupSpecs"]:
        assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    names = [group["groupName"] for group in manifest["spec"]["workerGroupSpecs"]]
    assert len(names) == len(set(names)) > 0


def test_every_pod_of_the_manifest_can_run(manifest: dict[str, Any]) -> None:
    images = set()
    for group in groups(manifest):
        # KubeRay wants every parameter as text.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for container in containers(group):
            assert {"name", "image", "env", "resources"} <= set(container)
            images.add(container["image"])
            for amounts in container["resources"].values():
                assert set(amounts) == {"cpu", "memory"}
                assert all(QUANTITY.fullmatch(amount) for amount in amounts.values())
    assert images == {f"lockstep:{version_of_lockstep()}"}


def test_every_pod_has_the_token(manifest: dict[str, Any]) -> None:
    for group in groups(manifest):
        for container in containers(group):
            variables = {entry["name"]: entry for entry in container["env"]}
            assert variables["RAY_AUTH_MODE"]["value"] == "token"
            reference = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
            assert reference == {"name": "lockstep-ray", "key": "token"}


def test_versions_are_those_of_the_lock(manifest: dict[str, Any]) -> None:
    pinned = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned is not None
    assert manifest["spec"]["rayVersion"] == pinned[1]


def version_of_lockstep() -> str:
    found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
