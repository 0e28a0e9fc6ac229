// The Solidity compiler from npm with the command line that forge expects of a native `solc`.
// forge asks for `--version`, and hands standard JSON to stdin. Usage: node solc.mjs <node_modules> <arguments of solc>
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";

const [modules, ...options] = process.argv.slice(2);
const solc = createRequire(resolve(modules) + "/")("solc");
if (options.includes("--version")) {
  // forge reads the version from the second line and knows native platforms only.
  const version = solc.version().replace("Emscripten.clang", "Linux.g++");
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${version}`);
} else if (options.includes("--standard-json")) {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
  console.error(`only --version and --standard-json are known, got: ${options.join(" ")}`);
  process.exit(1);
}
