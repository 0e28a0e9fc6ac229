// What a user of @solana/kit does with a node: airdrop, send and confirm, subscribe, read, over HTTP and WebSocket.
// Reads {rpcUrl, wsUrl} as JSON from stdin, writes what it saw as JSON to stdout.
import { readFileSync } from "node:fs";
import {
  address, airdropFactory, appendTransactionMessageInstruction, assertIsTransactionWithBlockhashLifetime,
  createSolanaRpc, createSolanaRpcSubscriptions, createTransactionMessage, generateKeyPairSigner, getBase64EncodedWireTransaction,
  getSignatureFromTransaction, isSolanaError, lamports, pipe, sendAndConfirmTransactionFactory,
  setTransactionMessageFeePayerSigner, setTransactionMessageLifetimeUsingBlockhash, signTransactionMessageWithSigners,
} from "@solana/kit";

const { rpcUrl, wsUrl } = JSON.parse(readFileSync(0, "utf8"));
const rpc = createSolanaRpc(rpcUrl);
const rpcSubscriptions = createSolanaRpcSubscriptions(wsUrl);
const payer = await generateKeyPairSigner();
const friend = await generateKeyPairSigner();
const seen = {};

const airdrop = airdropFactory({ rpc, rpcSubscriptions });
await airdrop({ recipientAddress: payer.address, lamports: lamports(5_000_000_000n), commitment: "confirmed" });
seen.balance = (await rpc.getBalance(payer.address).send()).value;

const SYSTEM = address("11111111111111111111111111111111");
const MEMO = address("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
function pay(amount) {
  const data = new Uint8Array(12);
  const view = new DataView(data.buffer);
  view.setUint32(0, 2, true);
  view.setBigUint64(4, amount, true);
  const accounts = [
    { address: payer.address, role: 3, signer: payer },
    { address: friend.address, role: 1 },
  ];
  return { programAddress: SYSTEM, accounts, data };
}
async function signed(...instructions) {
  const { value: blockhash } = await rpc.getLatestBlockhash({ commitment: "confirmed" }).send();
  let message = pipe(
    createTransactionMessage({ version: 0 }),
    (m) => setTransactionMessageFeePayerSigner(payer, m),
    (m) => setTransactionMessageLifetimeUsingBlockhash(blockhash, m),
  );
  for (const instruction of instructions) message = appendTransactionMessageInstruction(instruction, message);
  const transaction = await signTransactionMessageWithSigners(message);
  assertIsTransactionWithBlockhashLifetime(transaction);
  return transaction;
}

// Subscribed before what they must see.
const stop = new AbortController();
const { signal: abortSignal } = stop;
async function first(pending) {
  for await (const notification of await pending.subscribe({ abortSignal })) return notification;
}
// A subscription is a request of its own; each is under way before anything is sent below.
const slots = first(rpcSubscriptions.slotNotifications());
const account = first(rpcSubscriptions.accountNotifications(friend.address, { commitment: "confirmed", encoding: "base64" }));
const logs = first(rpcSubscriptions.logsNotifications({ mentions: [MEMO] }, { commitment: "confirmed" }));
const root = first(rpcSubscriptions.rootNotifications());
await slots;
await root;

const sendAndConfirm = sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions });
const transaction = await signed(pay(1_000_000_000n), { programAddress: MEMO, data: new TextEncoder().encode("from kit") });
const signature = getSignatureFromTransaction(transaction);
await sendAndConfirm(transaction, { commitment: "confirmed" });
seen.account = (await account).value.lamports;
seen.logs = (await logs).value.logs.some((line) => line.includes("from kit"));
seen.slot = Number((await slots).slot) > 0;

const status = (await rpc.getSignatureStatuses([signature]).send()).value[0];
seen.status = status.confirmationStatus;
const found = await rpc
  .getTransaction(signature, { commitment: "confirmed", encoding: "jsonParsed", maxSupportedTransactionVersion: 0 })
  .send();
seen.version = found.version;
seen.instructions = found.transaction.message.instructions.map((instruction) => instruction.parsed);
seen.fee = found.meta.fee;
const block = await rpc
  .getBlock(status.slot, { commitment: "confirmed", encoding: "base64", maxSupportedTransactionVersion: 0, rewards: false })
  .send();
seen.inBlock = block.transactions.length;
seen.parentBefore = block.parentSlot < status.slot;
seen.signatures = (await rpc.getSignaturesForAddress(friend.address, { commitment: "confirmed" }).send()).length;
seen.info = (await rpc.getAccountInfo(friend.address, { commitment: "confirmed", encoding: "base64" }).send()).value.owner;
seen.several = (await rpc.getMultipleAccounts([friend.address, payer.address], { commitment: "confirmed" }).send()).value.length;
seen.epochSlots = (await rpc.getEpochInfo().send()).slotsInEpoch;
seen.leaders = (await rpc.getSlotLeaders(status.slot, 5).send()).length;
seen.version2 = typeof (await rpc.getVersion().send())["solana-core"];

// Refusals.
const tooMuch = await signed(pay(10n ** 17n));
try {
  await rpc.sendTransaction(getBase64EncodedWireTransaction(tooMuch), { encoding: "base64", preflightCommitment: "confirmed" }).send();
} catch (error) {
  seen.refused = isSolanaError(error) && error.context.__code;
  seen.cause = error.cause?.context?.code;
}
try {
  await rpc.getBlock(10n ** 12n).send();
} catch (error) {
  seen.future = isSolanaError(error) && error.context.__code;
}
const simulated = await rpc.simulateTransaction(getBase64EncodedWireTransaction(tooMuch), { encoding: "base64", commitment: "confirmed" }).send();
seen.simulated = simulated.value.err !== null;

stop.abort();
console.log(JSON.stringify(seen, (_key, value) => (typeof value === "bigint" ? Number(value) : value)));
