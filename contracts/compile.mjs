// Compiles Solidity: standard JSON input on stdin, standard JSON output on stdout.
// It knows no path and no setting; contracts/build.py decides both. The first argument is the node_modules folder.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";

const folder = resolve(process.argv[2] ?? "node_modules");
let solc;
try {
  solc = createRequire(folder + "/")("solc");
} catch (error) {
  if (error.code !== "MODULE_NOT_FOUND") throw error;
  console.error(`the Solidity compiler is not installed in ${folder}; run \`npm ci\` in the repository`);
  process.exit(2);
}
const output = JSON.parse(solc.compile(readFileSync(0, "utf8")));
output.compilerVersion = solc.version();
process.stdout.write(JSON.stringify(output));
