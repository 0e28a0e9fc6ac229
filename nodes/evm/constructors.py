"""Runs the constructors of users' contracts and returns the accounts they leave, for the genesis file.

Each constructor runs as the code of its own final address, in block 1 of a short-lived engine that holds the rest of
the genesis. So `address(this)` (which UUPS and EIP-712 contracts keep as an immutable), the chain id and the other
contracts are those it will live with, and children it creates stand where they belong. To deploy it anywhere and move
the code was rejected: its immutables would keep the address of that deployment. The one difference from a creation is
that `address(this).code.length` is not 0 while the constructor runs.

Does not know what a scenario file looks like, nor how the rollup's own engine is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nodes.evm.contracts import Artifact, RevertTable, address_of, canonical_type
from nodes.evm.genesis import MAX_CODE_BYTES, PREDEPLOYED, Account, ChainParameters, genesis_document
from nodes.evm.scratch_engine import ScratchEngine
from nodes.evm.storage_layout import storage_overrides
from nodes.model.errors import EngineFailure, InvalidInput
from nodes.model.ids import Address, hex_of

DEFAULT_DEPLOYER = Address(bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"))
"""`msg.sender` of a constructor unless stated: the first account of the mnemonic that anvil and Hardhat share, so that
whoever the contract makes its owner has a key that every tool knows."""
MAX_CREATION_CODE_BYTES = 2 * MAX_CODE_BYTES
"""EIP-3860, arguments included."""

_SYSTEM_ACCOUNTS = {
    # Block history (EIP-2935) and the CREATE2 deployer: the engine adds both to every state itself.
    address_of("0x0000f90827f1c53a10cb7a02335b175320002935"),
    address_of("0x4e59b44847b379578588920ca78fbf26c0b4956c"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisContract:
    """A user's contract that stands in the genesis."""

    artifact: Artifact
    address: Address
    constructor_args: Sequence[object] = ()
    """As TOML or JSON holds them: integers may be text, addresses and bytes are hex, tuples and arrays are lists."""
    storage: Mapping[str, object] = field(default_factory=dict)
    """Words to set after the constructor: see `storage_layout.storage_overrides`."""
    deployer: Address = DEFAULT_DEPLOYER


def with_contracts(
    engine_binary: Path,
    *,
    chain: ChainParameters,
    alloc: Mapping[Address, Account],
    contracts: Sequence[GenesisContract],
) -> dict[Address, Account]:
    """`alloc` with the contracts added, constructed in the given order; each sees those before it.

    Blocks for about 100 ms, and not at all without contracts. Raises InvalidInput where a contract is wrong, naming
    its artifact; EngineFailure where the engine does not start or answer.
    """
    accounts = dict(alloc)
    if not contracts:
        return accounts
    prepared: list[tuple[GenesisContract, bytes]] = []
    for contract in contracts:
        _check_address(contract, accounts, [other.address for other, _ in prepared])
        prepared.append((contract, creation_code(contract.artifact, contract.constructor_args)))
    with ScratchEngine.started(engine_binary, genesis_document(chain, accounts)) as engine:
        for contract, code in prepared:
            accounts |= run_constructor(engine, contract, code, accounts=accounts, gas_limit=chain.gas_limit)
    return accounts


def _check_address(contract: GenesisContract, accounts: Mapping[Address, Account], taken: Sequence[Address]) -> None:
    name = f"artifact {contract.artifact.source} at {hex_of(contract.address)}"
    for label, address in PREDEPLOYED.items():
        if contract.address == address:
            raise InvalidInput(f"{name}: Lockstep's own {label} stands there; choose another address")
    if contract.address in taken or accounts.get(contract.address, Account()).code:
        raise InvalidInput(f"{name}: another genesis contract stands there; choose another address")
    number = int.from_bytes(contract.address, "big")
    if number < 2**16 or number >> 16 == 0x4200 << 128 or contract.address in _SYSTEM_ACCOUNTS:
        raise InvalidInput(f"{name}: the address is reserved for precompiles and system contracts; choose another")


def creation_code(artifact: Artifact, constructor_args: Sequence[object]) -> bytes:
    """Creation code with its arguments. Raises InvalidInput naming the artifact, what is missing, and the remedy."""
    where = f"artifact {artifact.source}"
    if artifact.unlinked:
        raise InvalidInput(
            f"{where}: bytecode lacks the addresses of {', '.join(artifact.unlinked)}; "
            "put the libraries into the genesis too and build with `forge build --libraries FILE:NAME:ADDRESS`"
        )
    if not artifact.creation_code:
        raise InvalidInput(
            f"{where}: bytecode is empty, so it is an interface or abstract; name the contract to deploy"
        )
    types = artifact.constructor_types()
    if len(types) != len(constructor_args):
        raise InvalidInput(
            f"{where}: the constructor takes {len(types)} arguments ({', '.join(types) or 'none'}), "
            f"constructor_args has {len(constructor_args)}"
        )
    code = artifact.creation_code + _encode_arguments(artifact, types, constructor_args)
    if len(code) > MAX_CREATION_CODE_BYTES:
        raise InvalidInput(f"{where}: creation code of {len(code)} bytes, at most {MAX_CREATION_CODE_BYTES} (EIP-3860)")
    return code


def _encode_arguments(artifact: Artifact, types: Sequence[str], arguments: Sequence[object]) -> bytes:
    if not types:
        return b""
    # Imported here: it costs 0.4 s, and only a genesis with constructor arguments needs it.
    from eth_abi.abi import encode
    from eth_abi.exceptions import EncodingError

    inputs = next(entry for entry in artifact.abi if entry.get("type") == "constructor")["inputs"]
    where = f"artifact {artifact.source}: constructor argument"
    values = [
        _argument(declared, str(declared["type"]), value, f"{where} {declared.get('name') or index}")
        for index, (declared, value) in enumerate(zip(inputs, arguments, strict=True))
    ]
    try:
        return encode(list(types), values)
    except (EncodingError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{where}s {list(arguments)!r} do not fit ({', '.join(types)}): {error}") from error


def _argument(declared: Mapping[str, Any], type_name: str, value: object, where: str) -> object:
    """The value a TOML file holds, as the encoder wants it."""
    if type_name.endswith("]"):
        if not isinstance(value, (list, tuple)):
            raise InvalidInput(f"{where}: {value!r} is not a list, but the type is {canonical_type(declared)}")
        return [_argument(declared, type_name[: type_name.rindex("[")], part, where) for part in value]
    if type_name == "tuple":
        parts = declared.get("components", ())
        if isinstance(value, Mapping):
            value = [value.get(part.get("name")) for part in parts]
        if not isinstance(value, (list, tuple)) or len(value) != len(parts):
            raise InvalidInput(
                f"{where}: {value!r} is not a list of {len(parts)} values for {canonical_type(declared)}"
            )
        pairs = zip(parts, value, strict=True)
        return tuple(_argument(part, str(part["type"]), item, f"{where}.{part.get('name')}") for part, item in pairs)
    if not isinstance(value, str) or type_name == "string":
        return value
    try:
        if type_name == "address":
            return hex_of(address_of(value))
        if type_name.startswith("bytes"):
            return bytes.fromhex(value.removeprefix("0x"))
        return int(value, 0)
    except (ValueError, InvalidInput) as error:
        raise InvalidInput(f"{where}: {value!r} is not a value of type {type_name}") from error


def run_constructor(
    engine: ScratchEngine,
    contract: GenesisContract,
    code: bytes,
    *,
    accounts: Mapping[Address, Account],
    gas_limit: int,
) -> dict[Address, Account]:
    """The accounts that one constructor changed, its own among them, `storage` applied.

    `code` is its creation code with arguments; `accounts` is the state that `engine` holds, funded balances included.
    """
    target, deployer = hex_of(contract.address), hex_of(contract.deployer)
    where = f"artifact {contract.artifact.source} at {target}"
    engine.call("anvil_setNonce", target, "0x1")
    engine.call("anvil_setCode", target, hex_of(code))
    engine.call("anvil_impersonateAccount", deployer)
    call = {"from": deployer, "to": target, "gas": hex(gas_limit), "gasPrice": "0x0"}
    transaction_hash = engine.call("eth_sendTransaction", call)
    engine.call("evm_mine")
    receipt = engine.call("eth_getTransactionReceipt", transaction_hash)
    if not receipt:
        raise EngineFailure(f"{where}: the engine did not execute the constructor")
    trace = engine.call("debug_traceTransaction", transaction_hash, {"tracer": "callTracer"})
    output = bytes.fromhex(str(trace.get("output", "0x")).removeprefix("0x"))
    if receipt["status"] != "0x1":
        reason = RevertTable.of([contract.artifact.abi]).text(output) if output else trace.get("error", "no reason")
        raise InvalidInput(f"{where}: the constructor reverted: {reason}; check constructor_args")
    if not output or output[0] == 0xEF or len(output) > MAX_CODE_BYTES:
        raise InvalidInput(
            f"{where}: the constructor left {len(output)} bytes of code; a contract has 1 to {MAX_CODE_BYTES} bytes "
            "(EIP-170) that do not start with 0xef (EIP-3541)"
        )
    engine.call("anvil_setCode", target, hex_of(output))
    changed = _changed(engine.accounts(), accounts, contract.deployer)
    built = changed[contract.address]
    words = storage_overrides(contract.artifact, built.storage, contract.storage.items())
    for slot in sorted(built.storage.keys() | words.keys()):
        engine.call("anvil_setStorageAt", target, hex(slot), hex_of(words.get(slot, 0).to_bytes(32, "big")))
    changed[contract.address] = replace(built, storage=words)
    return changed


def _changed(
    after: Mapping[Address, Account], before: Mapping[Address, Account], deployer: Address
) -> dict[Address, Account]:
    changed = {}
    for address, account in after.items():
        old = before.get(address, Account())
        if address == deployer:
            # It sent the transaction that ran the constructor, which the genesis does not hold.
            account = replace(account, nonce=old.nonce)
        if account != old and address not in _SYSTEM_ACCOUNTS:
            changed[address] = account
    return changed
