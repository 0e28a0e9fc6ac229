"""Runs the nodes of one process: `process` is the host, `parts` what it gives to nodes, `run_*` the kinds of nodes,
`ports` keeps addresses, `__main__` runs one host alone.
"""

from nodes.host.ports import GRPC, RPC
from nodes.host.process import Host, collect_garbage_rarely, new_event_loop, reserve_address

__all__ = ["GRPC", "RPC", "Host", "collect_garbage_rarely", "new_event_loop", "reserve_address"]
