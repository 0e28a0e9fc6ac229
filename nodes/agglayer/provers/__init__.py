"""The table of provers: ways to convince L1 that the pessimistic program accepts a batch of certificates.

Every prover has the port `nodes.ports.Prover`. One that makes zero-knowledge proofs is one more line: it names its own
verifier contract and, where it cannot hash with Keccak, the hashes over which it needs state trees.
"""

from collections.abc import Mapping

from nodes.agglayer.provers.attested import ATTESTED
from nodes.agglayer.provers.backend import ProverBackend
from nodes.agglayer.provers.modelled import MODELLED

PROVERS: Mapping[str, ProverBackend] = {backend.name: backend for backend in (ATTESTED, MODELLED)}
