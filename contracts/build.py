"""Compiles contracts/src to contracts/artifacts, or with --check says whether the artifacts are what the sources give.

Run from anywhere: `python contracts/build.py [--check]`. The compiler is the npm package pinned in package.json. The
bytecode carries no metadata, so equal sources give equal artifacts on every machine. An artifact has the field names of
Foundry (`abi`, `bytecode.object`, `storageLayout`, ...), so one loader reads ours and those of users.

It does not know what the contracts are for, nor where they are deployed.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).resolve().parent
ROOT = CONTRACTS.parent
SOURCES = CONTRACTS / "src"
ARTIFACTS = CONTRACTS / "artifacts"
COMPILE_TIMEOUT_S = 120
SETTINGS: dict[str, Any] = {
    "evmVersion": "cancun",
    # The contracts run millions of times and are deployed by genesis: cheap calls matter, size does not.
    "optimizer": {"enabled": True, "runs": 10_000},
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
}
OUTPUTS = ["abi", "evm.bytecode.object", "evm.bytecode.linkReferences", "evm.deployedBytecode.object",
           "evm.methodIdentifiers", "storageLayout"]  # fmt: skip


class BuildError(Exception):
    """The sources do not compile, or the compiler cannot be run."""


def compile_sources(node_modules: Path, folder: Path = SOURCES) -> dict[str, str]:
    """Artifact text by file name, for every contract (not interface) in `folder`. Raises BuildError."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sol"))}
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": SETTINGS | {"outputSelection": {"*": {"*": OUTPUTS}}},
    }
    answer = _run_compiler(request, node_modules)
    complaints = [entry["formattedMessage"] for entry in answer.get("errors", [])]
    if complaints:
        # Warnings fail too: a committed contract has none.
        raise BuildError("\n".join(complaints))
    artifacts = {}
    version = answer["compilerVersion"]
    for source_name, contracts in sorted(answer["contracts"].items()):
        digest = hashlib.sha256(sources[source_name].encode()).hexdigest()
        for name, output in sorted(contracts.items()):
            if output["evm"]["bytecode"]["object"]:
                artifact = _artifact(name, f"{folder.relative_to(ROOT)}/{source_name}", digest, output, version)
                artifacts[f"{name}.json"] = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
    return artifacts


def _run_compiler(request: dict[str, Any], node_modules: Path) -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        raise BuildError("node is not installed; compiling contracts needs Node.js 20 or later")
    command = [node, str(CONTRACTS / "compile.mjs"), str(node_modules)]
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"the compiler did not answer within {COMPILE_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise BuildError(done.stderr.strip() or f"the compiler ended with status {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _artifact(name: str, source_name: str, digest: str, output: dict[str, Any], version: str) -> dict[str, Any]:
    evm = output["evm"]
    layout = output["storageLayout"]
    return {
        "contractName": name,
        "sourceName": source_name,
        "sourceSha256": digest,
        "compiler": {"version": version, "settings": SETTINGS},
        "abi": output["abi"],
        "bytecode": {"object": "0x" + evm["bytecode"]["object"], "linkReferences": evm["bytecode"]["linkReferences"]},
        "deployedBytecode": {"object": "0x" + evm["deployedBytecode"]["object"]},
        "methodIdentifiers": evm["methodIdentifiers"],
        "storageLayout": {
            # Without the syntax-tree ids, which change when unrelated lines do.
            "storage": [{key: slot[key] for key in ("label", "offset", "slot", "type")} for slot in layout["storage"]],
            "types": layout["types"],
        },
    }


def differences(artifacts: dict[str, str]) -> list[str]:
    """One line for every committed artifact that is missing, different, or of no source."""
    found = []
    for name in sorted(artifacts.keys() | {path.name for path in ARTIFACTS.glob("*.json")}):
        path = ARTIFACTS / name
        if name not in artifacts:
            found.append(f"contracts/artifacts/{name} has no contract in contracts/src")
        elif not path.is_file():
            found.append(f"contracts/artifacts/{name} is missing")
        elif path.read_text(encoding="utf-8") != artifacts[name]:
            found.append(f"contracts/artifacts/{name} is not what its source compiles to")
    return found


def main() -> int:
    """Entry point. Returns the exit status: 1 on a failed build or a failed check."""
    parser = argparse.ArgumentParser(description="Compile contracts/src to contracts/artifacts.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if an artifact is stale")
    parser.add_argument("--node-modules", type=Path, default=ROOT / "node_modules", help="where npm put the compiler")
    options = parser.parse_args()
    try:
        artifacts = compile_sources(options.node_modules)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    stale = differences(artifacts)
    if options.check:
        for line in stale:
            print(f"{line}; run `python contracts/build.py` and commit the result", file=sys.stderr)
        return 1 if stale else 0
    ARTIFACTS.mkdir(exist_ok=True)
    for path in ARTIFACTS.glob("*.json"):
        if path.name not in artifacts:
            path.unlink()
    for name, text in artifacts.items():
        (ARTIFACTS / name).write_text(text, encoding="utf-8")
    print(f"{len(artifacts)} artifacts, {len(stale)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
