"""Starts a resolved testnet and hands it over as addresses. The launchers stand in one table behind one port."""

from collections.abc import Mapping

from coordinator.launch.inprocess import InProcessLauncher
from coordinator.launch.ray_launcher import RayLauncher
from coordinator.launch.running import (
    Endpoints,
    Launcher,
    LaunchOptions,
    RunningRollup,
    RunningTestnet,
    load_endpoints,
)
from nodes.model.errors import InvalidInput, UnknownName

__all__ = [
    "LAUNCHERS",
    "Endpoints",
    "LaunchOptions",
    "Launcher",
    "RunningRollup",
    "RunningTestnet",
    "launcher_named",
    "load_endpoints",
]

LAUNCHERS: Mapping[str, Launcher] = {"ray": RayLauncher(), "inprocess": InProcessLauncher()}


def launcher_named(name: str, *, ray_address: str = "") -> Launcher:
    """The launcher of this name. Raises UnknownName, and InvalidInput where it could not use the Ray cluster given."""
    if name not in LAUNCHERS:
        raise UnknownName(kind="launcher", name=name, known=LAUNCHERS)
    if ray_address and not isinstance(LAUNCHERS[name], RayLauncher):
        raise InvalidInput(f"launcher {name!r} uses no Ray cluster: leave out --ray-address, or add --launcher ray")
    return LAUNCHERS[name]
