"""Runs the nodes of one process: `process` is the host, `ports` keeps its addresses, `__main__` runs one alone."""

from nodes.host.process import Host, new_event_loop, reserve_address

__all__ = ["Host", "new_event_loop", "reserve_address"]
