"""Ports that a node keeps for life: chosen once, written into the node's directory, used again after every restart.

They are taken from below the range the kernel uses for outgoing connections. A port from inside that range may be
somebody's outgoing connection at the moment the node comes back, and then nobody can listen on it.
"""

import json
import random
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from nodes.model.errors import InvalidInput, Unavailable

FILE_NAME = "ports.json"
GRPC = "grpc"
RPC = "rpc"
CONTROL = "control"
_LOWEST = 20_000
"""Ray gives its workers ports from 10,002 to 19,999."""
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_EPHEMERAL_FROM = 32_768
_ATTEMPTS = 200


class PortBook:
    """The ports of one node by use (`grpc`, `rpc`, `control`), held until the node itself listens on them."""

    def __init__(self, directory: Path, *, host: str) -> None:
        """Read what an earlier run wrote. Raises InvalidInput where the file is damaged."""
        self._path = directory / FILE_NAME
        self._host = host
        self._held: dict[str, socket.socket] = {}
        self._ports: dict[str, int] = {}
        if self._path.exists():
            self._ports = _read(self._path)

    def reserve(self, uses: Sequence[str], *, wanted: int = 0) -> dict[str, int]:
        """The port of each use; `wanted` is taken where it is not 0, otherwise one is chosen and kept.

        A chosen port is held (bound, not listening) until `release`. Raises Unavailable where none can be found,
        InvalidInput where the node has another port than `wanted` already.
        """
        for use in uses:
            if wanted and self._ports.get(use, wanted) != wanted:
                raise InvalidInput(
                    f"{self._path} has port {self._ports[use]} for {use}, and port {wanted} is wanted; a node keeps "
                    "its ports for life: ask for that one, or delete the file"
                )
        missing = [use for use in uses if use not in self._ports]
        for use in missing:
            if wanted:
                self._ports[use] = wanted
            else:
                self._held[use] = _bind_free(self._host, taken=self._neighbours())
                self._ports[use] = self._held[use].getsockname()[1]
        if missing:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replacement = self._path.with_suffix(".new")
            replacement.write_text(json.dumps(self._ports) + "\n", encoding="utf-8")
            replacement.replace(self._path)
        return {use: self._ports[use] for use in uses}

    def release(self, use: str) -> int:
        """Let go of a port, for the caller to listen on right away; returns it."""
        held = self._held.pop(use, None)
        if held is not None:
            held.close()
        return self._ports[use]

    def _neighbours(self) -> set[int]:
        """Ports of the other nodes of the testnet: they are theirs for life, also while nobody listens on them."""
        taken = set(self._ports.values())
        for path in self._path.parent.parent.glob(f"*/{FILE_NAME}"):
            with suppress(InvalidInput):  # its own node says so when it comes
                taken.update(_read(path).values())
        return taken

    def close(self) -> None:
        """Let go of everything."""
        for use in list(self._held):
            self.release(use)


def _read(path: Path) -> dict[str, int]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read ({error}); delete it, and the node gets new ports") from error
    if not isinstance(document, dict) or not all(isinstance(port, int) for port in document.values()):
        raise InvalidInput(f"{path} holds no ports; delete it, and the node gets new ones")
    return document


def _bind_free(host: str, *, taken: Collection[int]) -> socket.socket:
    highest = _ephemeral_from() - 1
    # Not seeded: two testnets of one seed on one machine must not want the same ports.
    chance = random.SystemRandom()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_ATTEMPTS):
        port = chance.randint(_LOWEST, highest)
        if port in taken:
            continue
        candidate = socket.socket(family, socket.SOCK_STREAM)
        try:
            candidate.bind((host, port))
        except OSError:
            candidate.close()
        else:
            return candidate
    raise Unavailable(f"no free port on {host} between {_LOWEST} and {highest} after {_ATTEMPTS} attempts")


def _ephemeral_from() -> int:
    with suppress(OSError, ValueError):
        lowest = int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
        if lowest > _LOWEST + _ATTEMPTS:
            return lowest
    return _DEFAULT_EPHEMERAL_FROM
