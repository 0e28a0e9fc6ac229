// What a user of @solana/web3.js does with a node: airdrop, send and confirm, subscribe, read, over HTTP and WebSocket.
// It checks every answer against a schema of its own, and looks for the WebSocket on the port behind the RPC's.
// Reads {rpcUrl} as JSON from stdin, writes what it saw as JSON to stdout.
import { readFileSync } from "node:fs";
import {
  Connection, Keypair, PublicKey, SendTransactionError, SystemProgram, Transaction, TransactionInstruction,
  TransactionMessage, VersionedTransaction, sendAndConfirmTransaction,
} from "@solana/web3.js";

const { rpcUrl } = JSON.parse(readFileSync(0, "utf8"));
const connection = new Connection(rpcUrl, { commitment: "confirmed" });
const payer = Keypair.generate();
const friend = Keypair.generate().publicKey;
const MEMO = new PublicKey("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const seen = {};

const airdrop = await connection.requestAirdrop(payer.publicKey, 5_000_000_000);
const latest = await connection.getLatestBlockhash();
await connection.confirmTransaction({ signature: airdrop, ...latest });
seen.balance = await connection.getBalance(payer.publicKey);

let opened;
const slotSeen = new Promise((resolve) => (opened = connection.onSlotChange(resolve)));
const rootSeen = new Promise((resolve) => connection.onRootChange(resolve));
const accountSeen = new Promise((resolve) => connection.onAccountChange(friend, resolve));
const logsSeen = new Promise((resolve) => connection.onLogs(MEMO, resolve));
const programSeen = new Promise((resolve) => connection.onProgramAccountChange(SystemProgram.programId, resolve));
// Both come by themselves; by then the other subscriptions, asked for on the same socket, stand as well.
await slotSeen;
await rootSeen;

const pay = (lamports) => SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: friend, lamports });
const memo = new TransactionInstruction({ programId: MEMO, keys: [], data: Buffer.from("from web3") });
const signature = await sendAndConfirmTransaction(connection, new Transaction().add(pay(1_000_000_000), memo), [payer]);
seen.account = (await accountSeen).lamports;
seen.logs = (await logsSeen).logs.some((line) => line.includes("from web3"));
seen.program = (await programSeen).accountInfo.lamports > 0;
await connection.removeSlotChangeListener(opened);

const { value: status } = await connection.getSignatureStatus(signature);
seen.status = status.confirmationStatus;
const options = { commitment: "confirmed", maxSupportedTransactionVersion: 0 };
const found = await connection.getParsedTransaction(signature, options);
seen.instructions = found.transaction.message.instructions.map((instruction) => instruction.parsed);
seen.plain = (await connection.getTransaction(signature, options)).transaction.message.compiledInstructions.length;
seen.inBlock = (await connection.getBlock(status.slot, options)).transactions.length;
seen.parsedBlock = (await connection.getParsedBlock(status.slot, options)).transactions.length;
seen.accountsBlock = (await connection.getBlock(status.slot, { ...options, transactionDetails: "accounts" })).transactions.length;
seen.noneBlock = (await connection.getBlock(status.slot, { ...options, transactionDetails: "none" })).blockhash.length > 30;
seen.blockSignatures = (await connection.getBlockSignatures(status.slot, "confirmed")).signatures.length;
seen.signatures = (await connection.getSignaturesForAddress(friend)).length;
seen.owner = (await connection.getAccountInfo(friend)).owner.toBase58();
seen.parsed = (await connection.getParsedAccountInfo(friend)).value.lamports;
seen.several = (await connection.getMultipleAccountsInfo([friend, payer.publicKey])).length;
seen.tokens = (await connection.getTokenAccountsByOwner(friend, { programId: new PublicKey("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA") })).value.length;
seen.reads = [];
for (const [name, read] of Object.entries({
  slot: () => connection.getSlot(),
  height: () => connection.getBlockHeight(),
  time: () => connection.getBlockTime(status.slot),
  blocks: () => connection.getBlocks(status.slot, status.slot + 2),
  first: () => connection.getFirstAvailableBlock(),
  epoch: () => connection.getEpochInfo(),
  schedule: () => connection.getEpochSchedule(),
  leaders: () => connection.getLeaderSchedule(),
  leader: () => connection.getSlotLeader(),
  nextLeaders: () => connection.getSlotLeaders(status.slot, 4),
  nodes: () => connection.getClusterNodes(),
  votes: () => connection.getVoteAccounts(),
  genesis: () => connection.getGenesisHash(),
  version: () => connection.getVersion(),
  supply: () => connection.getSupply(),
  largest: () => connection.getLargestAccounts(),
  samples: () => connection.getRecentPerformanceSamples(2),
  fees: () => connection.getRecentPrioritizationFees({ lockedWritableAccounts: [friend] }),
  governor: () => connection.getInflationGovernor(),
  rate: () => connection.getInflationRate(),
  reward: () => connection.getInflationReward([friend]),
  production: () => connection.getBlockProduction(),
  rent: () => connection.getMinimumBalanceForRentExemption(100),
  delegation: () => connection.getStakeMinimumDelegation(),
  minimum: () => connection.getMinimumLedgerSlot(),
  count: () => connection.getTransactionCount(),
  valid: () => connection.isBlockhashValid(latest.blockhash),
  programs: () => connection.getProgramAccounts(MEMO),
})) {
  const value = await read();
  if (value !== undefined && value !== null) seen.reads.push(name);
}

const { blockhash } = await connection.getLatestBlockhash();
const message = new TransactionMessage({ payerKey: payer.publicKey, recentBlockhash: blockhash, instructions: [pay(1e15)] });
const tooMuch = new VersionedTransaction(message.compileToV0Message());
tooMuch.sign([payer]);
seen.fee = (await connection.getFeeForMessage(tooMuch.message)).value;
try {
  await connection.sendTransaction(tooMuch);
} catch (error) {
  seen.refused = error instanceof SendTransactionError && error.logs.some((line) => line.includes("insufficient lamports"));
}
seen.simulated = (await connection.simulateTransaction(tooMuch)).value.err;
console.log(JSON.stringify(seen));
process.exit(0); // its WebSocket would keep the process for minutes
