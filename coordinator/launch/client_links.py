"""How users reach a testnet whose nodes stand in regions: the links of region `clients`, in the coordinator's process.

The load generator uses them, and so does every program that reads `endpoints.json` while the testnet runs.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from coordinator.launch.plan import authority_of, located
from coordinator.spec import ResolvedTestnet
from nodes.model.config import NodeEndpoint
from nodes.model.wide_area import CLIENTS, WideArea
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import LinkSampled
from nodes.wire.links import Links


class ClientLinks:
    """The links of users; every address stays what it is where nothing is emulated."""

    def __init__(self, wide_area: WideArea | None) -> None:
        self._wide_area = wide_area
        self._links: Links | None = None

    def locate(self, nodes: Iterable[NodeEndpoint]) -> None:
        """Say where the nodes are, before the first address is asked for."""
        peers: dict[str, str] = {}
        for node in nodes:
            peers |= {address: node.name for address in (node.grpc_address, authority_of(node.rpc_url)) if address}
        wide_area = located(self._wide_area, peers)
        if wide_area is not None:
            self._links = Links(wide_area, clock=SystemClock())

    def local(self, address: str) -> str:
        """What a user connects to in place of a node's address."""
        return address if self._links is None else self._links.local(address, node=CLIENTS)

    def samples(self) -> list[LinkSampled]:
        """Totals so far."""
        return [] if self._links is None else self._links.samples(CLIENTS)

    def close(self) -> None:
        """Break every connection off."""
        if self._links is not None:
            self._links.close()


@contextmanager
def client_links(testnet: ResolvedTestnet) -> Iterator[ClientLinks]:
    """The links of a testnet's users, open while the block lasts."""
    links = ClientLinks(testnet.wide_area)
    try:
        yield links
    finally:
        links.close()
