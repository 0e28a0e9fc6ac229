"""The model's world: a log, a resolver that may restart, nodes, and messages that wait until a test delivers them."""

from collections.abc import Sequence
from random import Random

from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.ids import Height
from nodes.model.verdict import (
    MailboxEvent,
    Notice,
    NoticePosted,
    SignedNotice,
    SignedReport,
    SignedVerdict,
    VerdictSigned,
    VoidedBundle,
)
from nodes.rules.resolution import Resolution
from nodes.rules.resolver_steps import (
    CloseRound,
    Instruction,
    Kept,
    KeptNotice,
    KeptRound,
    KeptVerdict,
    LogNotice,
    PublishEvidence,
    SignVerdict,
)
from nodes.rules.signing import sign_digest
from nodes.rules.verdict import decode_report, encode_notice, notice_digest, verdict_digest, verdict_hash
from tests.support.verdict_model import CHAIN_ID, RESOLVER_KEY, Block, Node, touched_of

TIMEOUT_NS = 1_000
LATER_NS = 400
"""Less than half a timeout: a longer pause of the resolver accuses nobody."""


def sign_notice(notice: Notice) -> SignedNotice:
    """By the resolver."""
    encoded = encode_notice(notice)
    return SignedNotice(encoded, sign_digest(notice_digest(encoded, chain_id=CHAIN_ID), RESOLVER_KEY))


class World:
    """Everything that is durable stands in `log`, `journal`, `outgoing` and `accused`."""

    def __init__(self, params: AgglayerParams, *, depth: int = 2) -> None:
        self.params = params
        self.depth = depth
        self.now_ns = 0
        self.log: list[Block] = []
        self.notices: list[tuple[Notice, ...]] = []
        self.journal: list[Kept] = []
        self.outgoing: list[Notice] = []
        self.accused: dict[NetworkId, str] = {}
        self.verdicts: dict[Height, VerdictSigned] = {}
        self.read = 0
        self.resolver = self._new_resolver()
        self.nodes = {network.network_id: Node(network.network_id, params, depth=depth) for network in params.networks}
        self.mail: list[SignedReport] = []
        self.sent: set[bytes] = set()

    def _new_resolver(self) -> Resolution:
        return Resolution(params=self.params, report_timeout_ns=TIMEOUT_NS, now_ns=self.now_ns)

    # The sequencer

    def sequence(self, block: Block = (), notices: Sequence[Notice] = ()) -> None:
        """A new height."""
        self.log.append(block)
        self.notices.append(tuple(notices))

    # The resolver

    def read_height(self) -> bool:
        """The resolver reads one more height."""
        if self.read == len(self.log):
            return False
        signed = [(sign_notice(notice), notice) for notice in self.notices[self.read]]
        self.read += 1
        for made, notice in signed:
            self.journal.append(KeptNotice(signed=made, notice=notice))
            if notice in self.outgoing:
                self.outgoing.remove(notice)
        touched = touched_of(self.log[self.read - 1])
        self._do(self.resolver.sequenced(Height(self.read), touched, signed, now_ns=self.now_ns))
        return True

    def restart(self) -> None:
        """The resolver forgets everything that is not durable; nodes connect again and repeat their reports."""
        self.resolver = self._new_resolver()
        self.resolver.restore(
            heights=[(Height(at + 1), touched_of(block)) for at, block in enumerate(self.log[: self.read])],
            journal=self.journal,
            outgoing=self.outgoing,
            banned=self.accused,
            now_ns=self.now_ns,
        )
        self.sent.clear()

    def deliver(self, signed: SignedReport) -> None:
        """A report reaches the resolver."""
        self._do(self.resolver.report(signed, decode_report(signed.report), now_ns=self.now_ns))

    def wait(self) -> None:
        """Time passes."""
        self.now_ns += LATER_NS
        self._do(self.resolver.tick(self.now_ns))

    def void(self, bundles: Sequence[VoidedBundle]) -> None:
        """The command."""
        self._do(self.resolver.void(bundles, now_ns=self.now_ns))

    def _do(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SignVerdict(verdict=verdict, encoded=encoded, rounds=rounds, heads=heads):
                    signature = sign_digest(verdict_digest(encoded, chain_id=CHAIN_ID), RESOLVER_KEY)
                    self.verdicts[verdict.height] = VerdictSigned(
                        signed=SignedVerdict(encoded, signature), rounds=rounds
                    )
                    kept = KeptVerdict(
                        epoch=verdict.epoch, height=verdict.height, hash=verdict_hash(encoded), heads=heads
                    )
                    self.journal = [
                        entry
                        for entry in self.journal
                        if not (isinstance(entry, KeptRound) and entry.height >= verdict.height)
                    ]
                    self.journal.append(kept)
                case CloseRound(event=event):
                    kept_round = KeptRound(epoch=event.epoch, height=event.height, reports=event.reports)
                    self.journal.append(kept_round)
                case LogNotice(notice=notice):
                    self.outgoing.append(notice)
                case PublishEvidence(network_id=network, detail=detail):
                    self.accused[network] = detail
                case _:
                    pass  # followers read it from the state

    # Nodes

    def post(self, node: Node) -> bool:
        """Give one node everything that the resolver has for it; whether there was anything."""
        moved = False
        while (event := self._next(node)) is not None:
            node.take(event, self.log)
            moved = True
        told: Sequence[MailboxEvent] = self.resolver.pending_events
        if node.height + 1 == self.resolver.lowest:
            for event in told:
                node.take(event, self.log)
        return moved

    def _next(self, node: Node) -> MailboxEvent | None:
        void = self.resolver.next_void(node.reader.epoch, Height(node.height))
        if void is not None:
            return NoticePosted(signed=void.signed)
        return self.verdicts[Height(node.height + 1)] if node.height + 1 < self.resolver.lowest else None

    def report(self, node: Node, *, visible: int | None = None) -> None:
        """A node puts what it has to report and has not reported into the mail."""
        for signed in node.reports(self.log[:visible]):
            if signed.report not in self.sent:
                self.sent.add(signed.report)
                self.mail.append(signed)

    # Until nothing moves

    def settle(self, random: Random, *, silent: Sequence[int] = ()) -> None:
        """Deliver everything, in an order by chance, until every height has a verdict."""
        for _ in range(100_000):
            self.read_height()
            for network, node in self.nodes.items():
                self.post(node)
                if network not in silent:
                    self.report(node)
            if self.mail:
                signed = self.mail.pop(random.randrange(len(self.mail)))
                if decode_report(signed.report).network_id not in silent:
                    self.deliver(signed)
            elif self.resolver.lowest > len(self.log) == self.read:
                if not self.outgoing:
                    return
                self.sequence((), list(self.outgoing))
            elif self.read == len(self.log):
                if self.outgoing:
                    self.sequence((), list(self.outgoing))
                else:
                    self.wait()
        raise AssertionError(f"height {self.resolver.lowest} is never resolved; waits for {self.resolver.waits_for}")
