"""The emulated wide-area links of one process: local addresses that stand for peers in other regions.

A program is given `local(address)` in place of the peer's own address. Behind it listens a relay that connects to the
peer and delays what passes, both ways, by the model of `nodes.rules.link`. It works below every protocol: gRPC, HTTP
and WebSocket alike. The relays of a process share one thread with a loop of its own, so that a busy node delays none.

What is not a connection between nodes is not delayed: the coordinator reads traces, clocks and logs directly.
"""

import asyncio
import logging
import random
import socket
import sys
import threading
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.wide_area import NOWHERE, WideArea
from nodes.ports import Link
from nodes.rules.link import Bucket, Draws, LinkRule
from nodes.telemetry.clock import Clock
from nodes.telemetry.events import LinkSampled
from nodes.wire.link_meter import DirectionMeter
from nodes.wire.relay import Direction, RelayedConnection

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 4_096
"""Relayed by one process at a time; further ones are broken off at once."""
BACKLOG = 256
STOP_TIMEOUT_S = 30.0
SWITCH_INTERVAL_S = 0.0005
"""How long a thread of Python code may keep the relay's thread waiting; Python's default is ten times as long."""
BITS_PER_MBIT = 1_000_000
_LAST_TURNS = 3
"""Turns of the loop that a connection needs to be made, broken off and closed."""
_DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "ws": 80}

_LOG = logging.getLogger(__name__)


class _Link(NamedTuple):
    """From a node of this process to a peer, and back."""

    node: str
    peer: str
    regions: tuple[str, str]
    connections: list[int]
    """One number: how many were opened. Counted by the relay's thread."""
    there: Direction
    back: Direction


class Links:
    """The links of the nodes of one process. Nothing is started before the first address that needs it."""

    def __init__(self, wide_area: WideArea, *, clock: Clock) -> None:
        self._wide_area = wide_area
        self._clock = clock
        self._links: dict[tuple[str, str], _Link] = {}
        self._local: dict[tuple[str, str, str], str] = {}
        """(node, peer, host:port) to local host:port."""
        self._thread: _RelayThread | None = None

    def local(self, address: str, *, node: str, peer: str = "") -> str:
        """What a node of this process uses in place of a peer's `address`: host:port, or a URL of http or ws.

        The address itself where both stand in one region, or one of them nowhere. `peer` names who listens there,
        unless it is a node of the testnet. Raises InvalidInput for an address that cannot be relayed or that nobody is
        known to have.
        """
        if not address:
            return address
        host, port = _split(address)
        target = _join(host, port)
        peer = peer or self._wide_area.peers.get(target, "")
        if not peer:
            raise InvalidInput(f"{node} is to reach {address}, and no node is known there: name the peer")
        regions = (self._wide_area.region_of(node), self._wide_area.region_of(peer))
        if NOWHERE in regions or regions[0] == regions[1]:
            return address
        if "://" in address and urlsplit(address).scheme not in _DEFAULT_PORTS:
            raise InvalidInput(
                f"the link from {node} to {_authority(address)} cannot be emulated: a relay has no certificate of that "
                f'host. Such an endpoint has a distance of its own: set {peer} = "{NOWHERE}" in [regions]'
            )
        key = (node, peer, target)
        if key not in self._local:
            self._local[key] = self._open(self._link(node, peer, regions), host, port)
        # Only the authority changes: a path may be the endpoint's key.
        return address.replace(_authority(address), self._local[key], 1)

    def of(self, node: str) -> Link:
        """`local` for one node."""
        return partial(_local_of, self, node)

    def samples(self, node: str) -> list[LinkSampled]:
        """Totals of every link of a node, each way on its own. Raises Unavailable where relaying broke."""
        if self._thread is not None:
            self._thread.check()
        links = [link for link in list(self._links.values()) if link.node == node]
        return [sample for link in links for sample in (_sample(link, back=False), _sample(link, back=True))]

    def close(self) -> None:
        """Break every connection off. Idempotent."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _link(self, node: str, peer: str, regions: tuple[str, str]) -> _Link:
        if (node, peer) not in self._links:
            area = self._wide_area
            rule = LinkRule(
                one_way_ns=round(area.round_trip_ms(*regions) * 1_000_000 / 2),
                jitter_share=area.jitter_share,
                loss=area.loss,
                bytes_per_s=area.bandwidth_mbit * BITS_PER_MBIT / 8,
            )
            there, back = (
                Direction(rule, Bucket(rule.bytes_per_s), draws(area.seed, node, peer, way), DirectionMeter())
                for way in ("there", "back")
            )
            self._links[node, peer] = _Link(node, peer, regions, [0], there, back)
        return self._links[node, peer]

    def _open(self, link: _Link, host: str, port: int) -> str:
        if self._thread is None:
            self._thread = _RelayThread(self._clock)
        return self._thread.listen(link, host, port)


def _local_of(links: Links, node: str, address: str, peer: str = "") -> str:
    return links.local(address, node=node, peer=peer)


def draws(seed: int, node: str, peer: str, way: str) -> partial[Draws]:
    """The chance of one direction (`there` or `back`) of a link: the same numbers for the same seed and names."""
    chance = random.Random(f"lockstep link {seed} {node} {peer} {way}")  # text: the same in every process
    return partial(_draws, chance)


def _draws(chance: random.Random) -> Draws:
    return Draws(chance.random(), chance.random(), chance.random())


class _RelayThread:
    """The thread in which the relays of a process run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._broken: BaseException | None = None
        self._connections: set[RelayedConnection] = set()
        self._listeners: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop
        self._group: asyncio.TaskGroup
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self._thread = threading.Thread(target=self._main, name="links", daemon=True)
        self._thread.start()
        self._started.wait()

    def listen(self, link: _Link, host: str, port: int) -> str:
        """Relay what connects to the address returned. May be called from any thread."""
        self.check()
        # Bound here, so that the address is known and connections may come before the thread has noticed.
        listener = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._loop.call_soon_threadsafe(self._begin, listener, link, host, port)
        return _join(LOOPBACK, int(listener.getsockname()[1]))

    def check(self) -> None:
        """Raises Unavailable where the thread has ended by itself."""
        if self._broken is not None:
            raise Unavailable(f"the relay of emulated links broke: {self._broken!r}") from self._broken

    def close(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_TIMEOUT_S)
        for listener in self._listeners:
            listener.close()  # of one that the thread had not come to

    def _main(self) -> None:
        # Python's own loop: timers of uvloop are in whole milliseconds.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            try:
                runner.run(self._serve())
            # The thread's last frame: whatever broke it is told to the owner by `check`.
            except BaseException as error:  # noqa: BLE001
                self._broken = error
                _LOG.error("the relay of emulated links broke", exc_info=error)
            finally:
                self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._group:
                self._started.set()
                await self._stopping.wait()
                raise _Stopped
        except* _Stopped:
            pass
        finally:
            for connection in self._connections:
                connection.close()  # of one that had not begun
            for _ in range(_LAST_TURNS):
                await asyncio.sleep(0)

    def _begin(self, listener: socket.socket, link: _Link, host: str, port: int) -> None:
        self._group.create_task(self._accept(listener, link, host, port))

    async def _accept(self, listener: socket.socket, link: _Link, host: str, port: int) -> None:
        def accepted() -> asyncio.Protocol:
            if len(self._connections) >= MAX_CONNECTIONS:
                _LOG.warning("link %s to %s: more than %d connections", link.node, link.peer, MAX_CONNECTIONS)
                return _Refusal()
            connection = RelayedConnection(link.there, link.back, self._clock)
            self._connections.add(connection)
            link.connections[0] += 1
            self._group.create_task(self._relay(connection, host, port))
            return connection.client

        server = await self._loop.create_server(accepted, sock=listener)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _relay(self, connection: RelayedConnection, host: str, port: int) -> None:
        try:
            await connection.run(host, port)
        finally:
            self._connections.discard(connection)
            connection.close()


class _Stopped(Exception):
    """Ends the group of a relay's thread."""


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.abort()  # type: ignore[attr-defined]  # a stream's transport


def _sample(link: _Link, *, back: bool) -> LinkSampled:
    direction = link.back if back else link.there
    meter, rule = direction.meter, direction.rule
    return LinkSampled(
        peer=link.peer,
        region=link.regions[0],
        peer_region=link.regions[1],
        is_back=back,
        one_way_ns=rule.one_way_ns,
        connections=link.connections[0],
        chunks=meter.chunks,
        bytes=meter.bytes,
        lost=meter.lost,
        delay_mean_ns=meter.delay.mean_ns(),
        delay_p50_ns=meter.delay.percentile_ns(50),
        delay_p99_ns=meter.delay.percentile_ns(99),
        delay_max_ns=meter.delay.most_ns,
        late_mean_ns=meter.late.mean_ns(),
        late_p99_ns=meter.late.percentile_ns(99),
    )


def _authority(address: str) -> str:
    """Host and port as they stand in the address, without a user's name and password."""
    return (urlsplit(address).netloc if "://" in address else address).rpartition("@")[2]


def _split(address: str) -> tuple[str, int]:
    """Host and port of an address or a URL. Raises InvalidInput."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 443 if parts.scheme in ("https", "wss") else 0)
    except ValueError:
        port = 0
    if not parts.hostname or not port:
        raise InvalidInput(f"{address!r} is no address: host:port, or a URL of http or ws")
    return parts.hostname, port


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
