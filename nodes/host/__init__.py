"""Runs the nodes of one process: `process` is the host, `ports` keeps its addresses, `__main__` runs one alone."""

from nodes.host.process import Host, collect_garbage_rarely, new_event_loop, reserve_address

__all__ = ["Host", "collect_garbage_rarely", "new_event_loop", "reserve_address"]
