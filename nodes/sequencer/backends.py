"""The table of sequencer backends. To add one: a module with a `BACKEND`, and its line here.

Every backend in the table must pass tests/integration/test_backend_contract.py unasked.
"""

from collections.abc import Mapping

from nodes.sequencer import lazy, solana
from nodes.sequencer.backend import Backend, Expected, SequencerNode, TrustRow

__all__ = ["BACKENDS", "Backend", "Expected", "SequencerNode", "TrustRow"]

BACKENDS: Mapping[str, Backend] = {backend.name: backend for backend in (lazy.BACKEND, solana.BACKEND)}
