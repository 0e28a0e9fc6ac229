// Runs Surfpool, an independent Solana node, inside this process. Prints one line of JSON when it listens.
// Arguments: path of the native package, slot time in ms, lamports for the payer. Ends with SIGTERM or its parent.
"use strict";
const [packagePath, slotTimeMs, airdropLamports] = process.argv.slice(2);
const { Surfnet } = require(packagePath);

const surfnet = Surfnet.startWithConfig({
  offline: true,
  blockProductionMode: "clock",
  slotTimeMs: Number(slotTimeMs),
  airdropSol: Number(airdropLamports),
});
console.log(
  JSON.stringify({
    rpc_url: surfnet.rpcUrl,
    ws_url: surfnet.wsUrl,
    payer: surfnet.payer,
    payer_secret: Array.from(surfnet.payerSecretKey),
    pid: process.pid,
  }),
);

// Surfpool queues an event per transaction for whoever embeds it; unread they would pile up.
const draining = setInterval(() => surfnet.drainEvents(), 1000);
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    clearInterval(draining);
    try {
      surfnet.stop();
    } finally {
      process.exit(0);
    }
  });
}
