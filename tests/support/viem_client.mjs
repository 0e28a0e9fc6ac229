// What a viem user does with a rollup: deploy, watch, call, send, decode events and custom errors, over HTTP and WebSocket.
// Reads {url, chainId, key, artifact} as JSON from stdin, writes what it saw as JSON to stdout.
import { readFileSync } from "node:fs";
import {
  BaseError, ContractFunctionRevertedError, createPublicClient, createWalletClient, defineChain, http, webSocket,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";

const { url, chainId, key, artifact } = JSON.parse(readFileSync(0, "utf8"));
const { abi, bytecode } = artifact;
const chain = defineChain({
  id: chainId,
  name: "rollup",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [url], webSocket: [url.replace("http", "ws")] } },
});
const account = privateKeyToAccount(key);
const reader = createPublicClient({ chain, transport: http(), pollingInterval: 50 });
const socket = createPublicClient({ chain, transport: webSocket() });
const wallet = createWalletClient({ account, chain, transport: http() });

// A plain transfer first: fees are filled in by viem.
const transferHash = await wallet.sendTransaction({ to: "0x1111111111111111111111111111111111111111", value: 5n });
const transfer = await reader.waitForTransactionReceipt({ hash: transferHash });

const deployHash = await wallet.deployContract({ abi, bytecode });
const deployed = await reader.waitForTransactionReceipt({ hash: deployHash });
const address = deployed.contractAddress;

// Subscribed before the transaction that they must see.
let seen;
const events = new Promise((resolve, reject) => {
  seen = { unwatchEvents: socket.watchContractEvent({ address, abi, onLogs: resolve, onError: reject }) };
});
const heads = new Promise((resolve, reject) => {
  seen.unwatchHeads = socket.watchBlocks({ onBlock: resolve, onError: reject });
});
// watchBlocks and watchContractEvent subscribe in the background; a request on the same socket comes after them.
await socket.getChainId();
await socket.getChainId();

const { request } = await reader.simulateContract({ account, address, abi, functionName: "increment", args: [7n] });
const hash = await wallet.writeContract(request);
const receipt = await reader.waitForTransactionReceipt({ hash });
const logs = await events;
const head = await heads;
seen.unwatchEvents();
seen.unwatchHeads();

let revert;
try {
  await reader.simulateContract({ account, address, abi, functionName: "incrementIf", args: [7n, 9n] });
} catch (error) {
  const cause = error instanceof BaseError && error.walk((e) => e instanceof ContractFunctionRevertedError);
  revert = { name: cause?.data?.errorName, args: cause?.data?.args?.map(String) };
}
const transaction = await reader.getTransaction({ hash });
const block = await reader.getBlock({ blockHash: receipt.blockHash, includeTransactions: true });
const found = await reader.getContractEvents({ address, abi, fromBlock: 0n });
const fees = await reader.estimateFeesPerGas();
const nonce = await reader.getTransactionCount({ address: account.address, blockTag: "pending" });

const plain = (_, value) => (typeof value === "bigint" ? value.toString() : value);
process.stdout.write(JSON.stringify({
  transferStatus: transfer.status, deployStatus: deployed.status, status: receipt.status, hash,
  value: await reader.readContract({ address, abi, functionName: "valueOf", args: [7n] }),
  event: { name: logs[0].eventName, args: logs[0].args, hash: logs[0].transactionHash },
  headNumber: head.number, receiptNumber: receipt.blockNumber, from: transaction.from.toLowerCase(),
  blockHashes: block.transactions.map((each) => each.hash), foundEvents: found.length, revert, fees, nonce,
  chainId: await reader.getChainId(), finalized: (await reader.getBlock({ blockTag: "finalized" })).number,
}, plain));
process.exit(0);
