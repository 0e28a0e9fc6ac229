// Builds a two-leg bundle with viem alone and sends it by JSON-RPC.
//
//   lockstep up --json > testnet.json &      # one line of JSON once the testnet is usable
//   node docs/examples/viem.mjs testnet.json
//
// What a bundle is: docs/life-of-a-bundle.md. Run it from the repository, where viem is installed.

import { readFileSync } from "node:fs";
import {
  concatHex, createPublicClient, defineChain, http, keccak256, numberToHex, parseEther, toHex, toRlp,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";

const testnet = JSON.parse(readFileSync(process.argv[2] ?? "testnet.json", "utf8").split("\n")[0]);
const [alice, bob] = testnet.accounts.slice(0, 2).map((entry) => privateKeyToAccount(entry.private_key));
const clients = testnet.rollups.slice(0, 2).map(({ name, chain_id, rpc_url }) => {
  const nativeCurrency = { name: "Ether", symbol: "ETH", decimals: 18 };
  const chain = defineChain({ id: chain_id, name, nativeCurrency, rpcUrls: { default: { http: [rpc_url] } } });
  return createPublicClient({ chain, transport: http() });
});

// 1. The legs, without trailer. Fees are 0 on a Lockstep rollup.
const legs = [
  { client: clients[0], signer: alice, to: bob.address, value: parseEther("0.5"), data: "0x" },
  { client: clients[1], signer: bob, to: alice.address, value: parseEther("0.25"), data: "0x" },
];
for (const leg of legs) {
  leg.nonce = await leg.client.getTransactionCount({ address: leg.signer.address, blockTag: "pending" });
  leg.gas = 30_000n;
}

// 2. Each leg's hash: everything its sender signs, except the trailer. RLP writes 0 as the empty string.
const integer = (value) => (BigInt(value) === 0n ? "0x" : numberToHex(value, { size: byteLength(value) }));
const byteLength = (value) => Math.ceil(BigInt(value).toString(16).length / 2);
const legHash = (leg) =>
  keccak256(toRlp([
    integer(2), integer(leg.client.chain.id), leg.signer.address, integer(leg.nonce), leg.to, integer(leg.value),
    integer(leg.gas), integer(0), integer(0), keccak256("0xc0"), keccak256(leg.data),
  ]));

// 3. The bundle's hash: version, expiry (a sequenced height), and the legs in order.
const { height } = await clients[0].request({ method: "lockstep_status", params: [] });
const expiry = Number(height) + 1_000;
const bundleHash = keccak256(toRlp([integer(1), integer(expiry), legs.map(legHash)]));

// 4. The trailer ends each leg's calldata: bundle hash, index, count, "LkS1". Then each sender signs its own leg.
const magic = toHex("LkS1");
const signed = await Promise.all(legs.map((leg, index) =>
  leg.signer.signTransaction({
    type: "eip1559",
    chainId: leg.client.chain.id,
    nonce: leg.nonce,
    to: leg.to,
    value: leg.value,
    gas: leg.gas,
    maxFeePerGas: 0n,
    maxPriorityFeePerGas: 0n,
    data: concatHex([leg.data, bundleHash, toHex(index, { size: 1 }), toHex(legs.length, { size: 1 }), magic]),
  })));

// 5. Send it to any rollup's node; receipts come from each rollup as for any transaction.
const sent = await clients[0].request({ method: "lockstep_sendBundle", params: [signed, { expiry: toHex(expiry) }] });
console.log(`bundle ${sent.bundleHash}`);
const receipts = await Promise.all(sent.transactionHashes.map((hash, index) =>
  legs[index].client.waitForTransactionReceipt({ hash, pollingInterval: 50, timeout: 20_000 })));
receipts.forEach(({ status, blockNumber }, index) =>
  console.log(`leg ${index + 1} on ${legs[index].client.chain.name}: ${status}, block ${blockNumber}`));
process.exitCode = receipts.every(({ status }) => status === "success") ? 0 : 1;
