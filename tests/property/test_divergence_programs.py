"""Random small programs on both EVMs: whatever they do, the footprints must be equal. The engine is the oracle for
EELS, for what makes EELS faster, and for the state that it works on, all at once.
"""

import random
from pathlib import Path

import pytest

from nodes.model.ids import Address
from tests.support.divergence import Checked
from tests.support.engine_chain import (
    ADDRESSES,
    CALLER,
    GENESIS_TIME_S,
    HASH_STORER,
    PARAMS,
    REVERTER,
    STORER,
    creation,
    engine_at,
    genesis,
    signed,
    words,
)

SEEDS = range(12)
BLOCKS, PROGRAMS, STEPS = 4, 10, 60
PLAIN = bytes.fromhex("0102030405060708090a0b101112131415161718191a1b1c1d20303132333435363738393a3b3d3e3f")
"""Arithmetic, comparison, hashing, environment."""
BLOCK = bytes.fromhex("404142434445464748495a58 59".replace(" ", ""))
MEMORY = bytes.fromhex("51525354555c5d5e")
"""Memory, storage, transient storage, MCOPY."""
CALLS = bytes.fromhex("f0f1f2f4f5fa")
ENDS = bytes.fromhex("00f3fdfeff")
KNOWN = (
    STORER,
    REVERTER,
    CALLER,
    HASH_STORER,
    *ADDRESSES[:2],
    *(Address(bytes(19) + bytes([n])) for n in range(1, 12)),
)


def program(chance: random.Random) -> bytes:
    """Code that mostly gets somewhere: operands are pushed before an instruction, results often go into storage."""
    code = bytearray()
    for _ in range(chance.randrange(5, STEPS)):
        roll = chance.random()
        if roll < 0.1:
            _known_call(code, chance)
        elif roll < 0.45:
            _pushes(code, chance, 3)
            code.append(chance.choice(PLAIN))
            _keep(code, chance)
        elif roll < 0.55:
            code.append(chance.choice(BLOCK))
            _keep(code, chance)
        elif roll < 0.8:
            _pushes(code, chance, 3, small=True)
            code.append(chance.choice(MEMORY))
        elif roll < 0.85:
            _pushes(code, chance, 6, small=True)
            code.append(chance.choice((0x50, *range(0x80, 0x84), *range(0x90, 0x94), *range(0xA0, 0xA5))))
        elif roll < 0.88:
            # Over one byte, to a JUMPDEST; now and then to somewhere else.
            target = len(code) + 6 if chance.random() < 0.8 else chance.randrange(len(code) + 9)
            code += bytes([0x60, chance.randrange(2), 0x60, target % 256, 0x57, 0x01, 0x5B])
        elif roll < 0.95:
            _pushes(code, chance, 7, small=True)
            code.append(chance.choice(CALLS))
            _keep(code, chance)
        elif roll < 0.98:
            code += chance.randbytes(chance.randrange(1, 4))
    _pushes(code, chance, 2, small=True)
    code.append(chance.choice((*ENDS, 0x00, 0x00, 0x00, 0xF3, 0xF3)))
    return bytes(code)


def _keep(code: bytearray, chance: random.Random) -> None:
    """What is on top of the stack goes into a slot, or away."""
    code += bytes([0x60, chance.randrange(4), 0x55]) if chance.random() < 0.5 else b"\x50"


def _pushes(code: bytearray, chance: random.Random, count: int, *, small: bool = False) -> None:
    for _ in range(count):
        if small:
            code += bytes([0x60, chance.choice((0, 0, 1, 2, 7, 32, 64, 255))])
        else:
            _push(code, chance)


def _push(code: bytearray, chance: random.Random) -> None:
    size = chance.choice((0, 1, 1, 1, 1, 2, 20, 32))
    code.append(0x5F + size)
    if size == 20:
        code += chance.choice(KNOWN)
    elif size == 1:
        code.append(chance.choice((0, 1, 2, 7, 32, 64, 255)))
    else:
        code += chance.randbytes(size)


def _known_call(code: bytearray, chance: random.Random) -> None:
    """CALL of somebody with gas, perhaps with ether; its result into a slot."""
    code += bytes.fromhex("60206000604060006000") if chance.random() < 0.7 else bytes.fromhex("60206000604060006003")
    code += b"\x73" + chance.choice(KNOWN) + b"\x61\x75\x30\xf1" + bytes([0x60, chance.randrange(4), 0x55])


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_programs_end_alike(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    nonces = dict.fromkeys(range(PROGRAMS), 0)
    made: list[Address] = []
    async with engine_at(tmp_path, rewind_window=8) as engine:
        checked = await Checked.on(engine, tmp_path, PARAMS, genesis())
        for number in range(1, BLOCKS + 1):
            block = []
            for key in range(PROGRAMS):
                is_creation = number % 2 == 1 or not made
                code = program(chance)
                price = chance.choice((0, 1, 5))  # what is paid for gas makes the gas itself a part of the footprint
                block.append(
                    signed(
                        key,
                        nonces[key] + (chance.random() < 0.03),
                        to=b"" if is_creation else chance.choice(made),
                        value=chance.choice((0, 0, 1, 5)),
                        gas_limit=chance.choice((60_000, 300_000, 1_000_000)),
                        max_fee_per_gas=price,
                        max_priority_fee_per_gas=price,
                        calldata=(creation(code) if chance.random() < 0.6 else code) if is_creation else words(number),
                        access_list=((STORER, (words(1),)),) if chance.random() < 0.2 else (),
                    )
                )
            built, found = await checked.build(block, timestamp_s=GENESIS_TIME_S + number)
            assert not found, (found, [payload.hex() for payload, _ in block])
            samples = await checked.samples(built, block)
            assert not samples, samples
            for address, after in _created(checked):
                if after and address not in made:
                    made.append(address)
            for key in range(PROGRAMS):
                nonces[key] = checked.nonce(ADDRESSES[key])


def _created(checked: Checked) -> list[tuple[Address, bool]]:
    return [(address, bool(code)) for address, code in checked.codes() if address not in KNOWN]
