"""The Control service of a node process: readiness, clocks, orderly stop, faults; and its client.

Knows nothing of how nodes are built; a host hands itself in as `HostControl`.
"""

from typing import Any, NamedTuple, Protocol

import grpc

from nodes.model.config import HostReady
from nodes.model.faults import Fault
from nodes.telemetry.clock import Clock, boot_id
from nodes.wire.client import Client
from nodes.wire.control_messages import (
    fault_from_proto,
    fault_to_proto,
    host_ready_from_proto,
    host_ready_to_proto,
)
from protos.lockstep.control.v1 import control_pb2 as pb
from protos.lockstep.control.v1 import control_pb2_grpc as pb_grpc


class HostControl(Protocol):
    """What a node process lets the coordinator do."""

    async def wait_ready(self) -> HostReady:
        """Returns once every node of the process is usable. Raises what a node failed with."""
        ...

    async def inject(self, node: str, fault: Fault) -> None:
        """Give one node a fault; returns once it has it. Raises UnknownName, InvalidInput where it cannot have it."""
        ...

    def stop(self) -> None:
        """Ask the process to end in order. Returns at once; idempotent."""
        ...


class ClockReading(NamedTuple):
    """A process's clocks at one moment, in nanoseconds."""

    monotonic_ns: int
    wall_ns: int
    boot_id: str
    """Equal in two processes = they share one monotonic clock."""


class ControlServicer(pb_grpc.ControlServicer):
    """Serves one node process."""

    def __init__(self, host: HostControl, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._boot_id = boot_id()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        pb_grpc.add_ControlServicer_to_server(self, server)

    async def WaitReady(  # noqa: N802
        self, _request: pb.WaitReadyRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.WaitReadyResponse:
        """Answer once every node is usable."""
        return host_ready_to_proto(await self._host.wait_ready())

    async def ReadClock(  # noqa: N802
        self, _request: pb.ReadClockRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.ReadClockResponse:
        """Answer the clocks of this moment."""
        return pb.ReadClockResponse(
            monotonic_ns=self._clock.monotonic_ns(), wall_ns=self._clock.wall_ns(), boot_id=self._boot_id
        )

    async def InjectFault(  # noqa: N802
        self, request: pb.InjectFaultRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.InjectFaultResponse:
        """Give one node a fault."""
        node, fault = fault_from_proto(request)
        await self._host.inject(node, fault)
        return pb.InjectFaultResponse()

    async def Stop(  # noqa: N802
        self, _request: pb.StopRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.StopResponse:
        """Begin the orderly end."""
        self._host.stop()
        return pb.StopResponse()


class ControlClient(Client):
    """The coordinator's hand on one node process. Every method raises Unavailable where there is no answer."""

    def _make_stub(self, metered: Any) -> pb_grpc.ControlStub:
        return pb_grpc.ControlStub(metered)

    async def wait_ready(self, *, timeout_s: float) -> HostReady:
        """The host's endpoints once all are usable; waits for a process that does not listen yet."""
        request = pb.WaitReadyRequest()
        return host_ready_from_proto(await self._call("WaitReady", request, timeout_s=timeout_s, wait_for_ready=True))

    async def read_clock(self) -> ClockReading:
        """The host's clocks at some moment between call and return."""
        answer = await self._call("ReadClock", pb.ReadClockRequest())
        return ClockReading(answer.monotonic_ns, answer.wall_ns, answer.boot_id)

    async def inject(self, node: str, fault: Fault) -> None:
        """Give a node a fault. Raises UnknownName, InvalidInput where the node cannot have it."""
        await self._call("InjectFault", fault_to_proto(node, fault))

    async def stop(self) -> None:
        """Ask the process to end; it may still run when this returns."""
        await self._call("Stop", pb.StopRequest())
