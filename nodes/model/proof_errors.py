"""Why a certificate, its witness or its proof is refused, variant by variant with AggLayer's names and numbers.

TestbedError
└── InvalidInput
    ├── InvalidGlobalIndex   a global index that is not in canonical form
    ├── ExitTreeError        an exit tree cannot do what was asked (`LeafIndexOverflow`)
    ├── SparseTreeError      neither can a sparse tree (`KeyPresent`)
    ├── BridgeError          `unified_bridge::Error`: what is wrong with a claim
    ├── MultisigError        what is wrong with the signatures of a committee
    ├── WitnessError         `agglayer_types::Error`: no witness can be made from a certificate and the trees before it
    └── ProofError           `ProofError`: the pessimistic program refuses its input

A refusal of the same kind can come as WitnessError or as ProofError: witnesses are made first, so an honest host meets
the former. `code` is the number of a variant in the order of AggLayer's enum. It knows no rule that raises them.
Sources: agglayer/agglayer `pessimistic-proof-core` and `agglayer-types`; agglayer/interop `unified-bridge`.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from nodes.model.agglayer import GlobalIndex, TokenInfo
from nodes.model.errors import InvalidInput


def _readable(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, GlobalIndex):
        return f"leaf {value.leaf_index} of network {value.network_id}"
    if isinstance(value, TokenInfo):
        return f"0x{value.origin_token_address.hex()} of network {value.origin_network}"
    return str(value)


def _rebuilt(kind: "type[Refusal]", values: dict[str, Any]) -> "Refusal":
    return kind(**values)


@dataclass(eq=False, kw_only=True)
class Refusal(InvalidInput):
    """Base of all below: an error whose text is its `MESSAGE` with its fields filled in, and which can be pickled."""

    MESSAGE: ClassVar[str] = ""
    code: ClassVar[int] = -1
    """Number of the variant in AggLayer's enum; -1 where that has none."""

    def __str__(self) -> str:
        return self.MESSAGE.format(**{field.name: _readable(getattr(self, field.name)) for field in fields(self)})

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are rebuilt from positional arguments, which these do not have."""
        return _rebuilt, (type(self), {field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(eq=False, kw_only=True)
class _RootMismatch(Refusal):
    """Two roots that should be one."""

    declared: bytes
    computed: bytes


@dataclass(eq=False, kw_only=True)
class InvalidGlobalIndex(Refusal):
    """A global index must be in its one canonical form."""

    MESSAGE: ClassVar[str] = "{value} is no global index: bits above the mainnet flag, or a rollup index that cannot be"
    value: int


class ExitTreeError(Refusal):
    """An exit tree cannot do what was asked."""


class LeafIndexOverflow(ExitTreeError):
    """The tree is full."""

    MESSAGE: ClassVar[str] = "an exit tree holds at most 2**32 - 1 leaves, and this one is full"
    code: ClassVar[int] = 0


class SparseTreeError(Refusal):
    """A sparse tree cannot give the proof that was asked for."""


@dataclass(eq=False, kw_only=True)
class KeyPresent(SparseTreeError):
    """There is no proof of absence for what is present."""

    MESSAGE: ClassVar[str] = "path {path} of the sparse tree is set already"
    path: int


# --- claims -----------------------------------------------------------------------------------------------------------


class BridgeError(Refusal):
    """What is wrong with one imported exit."""


class MismatchGlobalIndexInclusionProof(BridgeError):
    """Flag and claim contradict each other."""

    MESSAGE: ClassVar[str] = "the global index says mainnet and the claim rollup, or the other way round"
    code: ClassVar[int] = 0


class MismatchL1Root(BridgeError):
    """Proven against another L1 info root."""

    MESSAGE: ClassVar[str] = "the claim leads to another L1 info root than the certificate's"
    code: ClassVar[int] = 1


class MismatchMER(BridgeError):
    """Proven against another mainnet exit root."""

    MESSAGE: ClassVar[str] = "the claim leads to another mainnet exit root than its L1 info leaf's"
    code: ClassVar[int] = 2


class MismatchRER(BridgeError):
    """Proven against another rollup exit root."""

    MESSAGE: ClassVar[str] = "the claim leads to another rollup exit root than its L1 info leaf's"
    code: ClassVar[int] = 3


class InvalidMerklePathLeafToLER(BridgeError):
    """The exit is not under the local (or mainnet) exit root."""

    MESSAGE: ClassVar[str] = "the exit is not at its leaf index under the local exit root of the claim"
    code: ClassVar[int] = 4


class InvalidMerklePathLERToRER(BridgeError):
    """The local exit root is not under the rollup exit root."""

    MESSAGE: ClassVar[str] = "the local exit root is not at its rollup index under the rollup exit root of the claim"
    code: ClassVar[int] = 5


class InvalidMerklePathGERToL1Root(BridgeError):
    """The L1 info leaf is not under the L1 info root."""

    MESSAGE: ClassVar[str] = "the L1 info leaf is not at its index under the L1 info root"
    code: ClassVar[int] = 6


class InvalidExitNetwork(BridgeError):
    """The exit goes elsewhere."""

    MESSAGE: ClassVar[str] = "the exit goes to another network than the one that imports it"
    code: ClassVar[int] = 7


# --- committee --------------------------------------------------------------------------------------------------------


class MultisigError(Refusal):
    """What is wrong with the signatures of a committee. Signature `i` belongs to signer `i`."""


@dataclass(eq=False, kw_only=True)
class TooManySigners(MultisigError):
    """More places than signers."""

    MESSAGE: ClassVar[str] = "{count} places for signatures, but there are {maximum} signers"
    code: ClassVar[int] = 0
    count: int
    maximum: int


@dataclass(eq=False, kw_only=True)
class UnderThreshold(MultisigError):
    """Too few signatures."""

    MESSAGE: ClassVar[str] = "{got} signatures, but {expected} are needed"
    code: ClassVar[int] = 1
    got: int
    expected: int


@dataclass(eq=False, kw_only=True)
class MultisigInvalidSignature(MultisigError):
    """`InvalidSignature` of the multisig: nobody can have made it."""

    MESSAGE: ClassVar[str] = "signature {index} is nobody's"
    code: ClassVar[int] = 2
    index: int


@dataclass(eq=False, kw_only=True)
class MultisigInvalidSigner(MultisigError):
    """`InvalidSigner` of the multisig: somebody else's signature in this place."""

    MESSAGE: ClassVar[str] = "signature {index} over {commitment} is {recovered}'s, not {expected}'s"
    code: ClassVar[int] = 3
    index: int
    expected: bytes
    recovered: bytes
    commitment: bytes


# --- witness ----------------------------------------------------------------------------------------------------------


class WitnessError(Refusal):
    """A certificate does not follow from the trees before it."""


class MultipleL1InfoRoot(WitnessError):
    """Claims disagree."""

    MESSAGE: ClassVar[str] = "imported exits are proven against several L1 info roots; a certificate has one"


class MismatchNewLocalExitRoot(_RootMismatch, WitnessError):
    """The certificate's exits do not lead to its new root."""

    MESSAGE: ClassVar[str] = "new local exit root: the certificate declares {declared}, its exits give {computed}"


class MismatchPrevLocalExitRoot(_RootMismatch, WitnessError):
    """The certificate does not continue the settled tree."""

    MESSAGE: ClassVar[str] = "previous local exit root: the certificate declares {declared}, settled is {computed}"


@dataclass(eq=False, kw_only=True)
class BalanceOverflow(WitnessError):
    """The balance afterwards exceeds 256 bits."""

    MESSAGE: ClassVar[str] = "balance of token {token} afterwards would exceed 2**256 - 1"
    token: TokenInfo


@dataclass(eq=False, kw_only=True)
class BalanceUnderflow(WitnessError):
    """More leaves than there is."""

    MESSAGE: ClassVar[str] = "exits of token {token} exceed its balance by {missing}"
    token: TokenInfo
    missing: int
    """In the token's smallest unit, at the first exit that exceeds the balance."""


@dataclass(eq=False, kw_only=True)
class NullifierPathGenerationFailed(WitnessError):
    """Claimed before."""

    MESSAGE: ClassVar[str] = "{global_index} cannot be imported: {source}"
    global_index: GlobalIndex
    source: SparseTreeError


@dataclass(eq=False, kw_only=True)
class ExitTreeOperationFailed(WitnessError):
    """`InvalidLocalExitTreeOperation` of the witness."""

    MESSAGE: ClassVar[str] = "local exit tree: {source}"
    source: ExitTreeError


@dataclass(eq=False, kw_only=True)
class L1InfoRootIncorrect(WitnessError):
    """The claims' root is not L1's."""

    MESSAGE: ClassVar[str] = "claims lead to L1 info root {declared}, but L1 has {retrieved} at {leaf_count} leaves"
    declared: bytes
    retrieved: bytes
    leaf_count: int


class InconsistentGlobalExitRoot(WitnessError):
    """A leaf contradicts itself."""

    MESSAGE: ClassVar[str] = "the global exit root of a claim's L1 info leaf is not that of its two roots"


@dataclass(eq=False, kw_only=True)
class InvalidChainData(WitnessError):
    """Signed in a form that the network does not have."""

    MESSAGE: ClassVar[str] = "one signature without places, but the network has {signer_count} signers: send a multisig"
    signer_count: int


# --- program ----------------------------------------------------------------------------------------------------------


class ProofError(Refusal):
    """The pessimistic program refuses its input."""


class InvalidPreviousLocalExitRoot(_RootMismatch, ProofError):
    """Of earlier programs; not raised any more, like all up to 8 except 6."""

    MESSAGE: ClassVar[str] = "previous local exit root: {declared} is declared, {computed} computed"
    code: ClassVar[int] = 0


class InvalidPreviousBalanceRoot(_RootMismatch, ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "previous balance root: {declared} is declared, {computed} computed"
    code: ClassVar[int] = 1


class InvalidPreviousNullifierRoot(_RootMismatch, ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "previous nullifier root: {declared} is declared, {computed} computed"
    code: ClassVar[int] = 2


class InvalidNewLocalExitRoot(_RootMismatch, ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "new local exit root: {declared} is declared, {computed} computed"
    code: ClassVar[int] = 3


class InvalidNewBalanceRoot(_RootMismatch, ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "new balance root: {declared} is declared, {computed} computed"
    code: ClassVar[int] = 4


class InvalidNewNullifierRoot(_RootMismatch, ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "new nullifier root: {declared} is declared, {computed} computed"
    code: ClassVar[int] = 5


@dataclass(eq=False, kw_only=True)
class InvalidImportedBridgeExit(ProofError):
    """A claim does not hold."""

    MESSAGE: ClassVar[str] = "import of {global_index}: {source}"
    code: ClassVar[int] = 6
    source: BridgeError
    global_index: GlobalIndex


class InvalidImportedExitsRoot(_RootMismatch, ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "imported exits: commitment {declared} is declared, {computed} computed"
    code: ClassVar[int] = 7


class MismatchImportedExitsRoot(ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "exits are imported, but no commitment to them is declared"
    code: ClassVar[int] = 8


class InvalidNullifierPath(ProofError):
    """Claimed before, or a wrong proof."""

    MESSAGE: ClassVar[str] = "an import is not proven to be unclaimed"
    code: ClassVar[int] = 9


class InvalidBalancePath(ProofError):
    """The witness contradicts the balance root."""

    MESSAGE: ClassVar[str] = "a balance of the witness is not in the balance tree"
    code: ClassVar[int] = 10


class BalanceOverflowInBridgeExit(ProofError):
    """The balance afterwards exceeds 256 bits."""

    MESSAGE: ClassVar[str] = "a balance afterwards would exceed 2**256 - 1"
    code: ClassVar[int] = 11


class BalanceUnderflowInBridgeExit(ProofError):
    """More leaves than there is."""

    MESSAGE: ClassVar[str] = "an exit exceeds the balance of its token"
    code: ClassVar[int] = 12


class CannotExitToSameNetwork(ProofError):
    """An exit must change networks."""

    MESSAGE: ClassVar[str] = "an exit goes to, or an import comes from, the network itself"
    code: ClassVar[int] = 13


class InvalidMessageOriginNetwork(ProofError):
    """A message exit must be the network's own."""

    MESSAGE: ClassVar[str] = "a message exit names another origin network than the one that sends it"
    code: ClassVar[int] = 14


@dataclass(eq=False, kw_only=True)
class InvalidL1TokenInfo(ProofError):
    """Address zero stands for ether, which is born on L1 only."""

    MESSAGE: ClassVar[str] = "token {token} cannot be: address zero is ether, of network 0"
    code: ClassVar[int] = 15
    token: TokenInfo


@dataclass(eq=False, kw_only=True)
class MissingTokenBalanceProof(ProofError):
    """Moved, but not in the witness."""

    MESSAGE: ClassVar[str] = "the witness lacks the balance of token {token}"
    code: ClassVar[int] = 16
    token: TokenInfo


@dataclass(eq=False, kw_only=True)
class DuplicateTokenBalanceProof(ProofError):
    """Twice in the witness."""

    MESSAGE: ClassVar[str] = "the witness has two balances of token {token}"
    code: ClassVar[int] = 17
    token: TokenInfo


class InvalidSignature(ProofError):
    """A single signature is not the signer's for any commitment."""

    MESSAGE: ClassVar[str] = "the signature is not the signer's, for commitment V5, V3 or V2"
    code: ClassVar[int] = 18


@dataclass(eq=False, kw_only=True)
class InvalidSigner(ProofError):
    """Of earlier programs."""

    MESSAGE: ClassVar[str] = "the signature is {recovered}'s, not {declared}'s"
    code: ClassVar[int] = 19
    declared: bytes
    recovered: bytes


@dataclass(eq=False, kw_only=True)
class InvalidLocalExitTreeOperation(ProofError):
    """The local exit tree is full."""

    MESSAGE: ClassVar[str] = "local exit tree: {source}"
    code: ClassVar[int] = 20
    source: ExitTreeError


@dataclass(eq=False, kw_only=True)
class UnknownProofError(ProofError):
    """`Unknown`: what another prover could not say better."""

    MESSAGE: ClassVar[str] = "the prover reports: {text}"
    code: ClassVar[int] = 21
    text: str


@dataclass(eq=False, kw_only=True)
class InvalidPreviousPessimisticRoot(ProofError):
    """L1 has settled another state."""

    MESSAGE: ClassVar[str] = (
        "L1 has pessimistic root {declared}; the state gives {computed_v2} (V2), {computed_v3} (V3)"
    )
    code: ClassVar[int] = 22
    declared: bytes
    computed_v2: bytes
    computed_v3: bytes


class InconsistentSignedPayload(ProofError):
    """Downgrade."""

    MESSAGE: ClassVar[str] = "version V3 is settled, but the certificate is signed over commitment V2"
    code: ClassVar[int] = 23


class HeightOverflow(ProofError):
    """No height after this one."""

    MESSAGE: ClassVar[str] = "height 2**64 - 1 has no successor"
    code: ClassVar[int] = 24


@dataclass(eq=False, kw_only=True)
class InvalidMultisig(ProofError):
    """The committee did not sign."""

    MESSAGE: ClassVar[str] = "multisig: {source}"
    code: ClassVar[int] = 25
    source: MultisigError
