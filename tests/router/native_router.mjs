// Runs @metaharness/router's NativeRouter for the tests. Reads one JSON request from stdin, writes one JSON answer.
// Usage: node native_router.mjs FOLDER, where FOLDER/node_modules holds the package and Tiny Dancer.
import fs from "node:fs";
import path from "node:path";

const modules = path.join(process.argv[2], "node_modules");
const { NativeRouter, isNativeRouterAvailable, resolveRouterBackend } = await import(
  path.join(modules, "@metaharness", "router", "dist", "index.js")
);
const { model, query, candidates } = JSON.parse(fs.readFileSync(0, "utf8"));
const answers = { available: await isNativeRouterAvailable(), backend: await resolveRouterBackend("auto") };
const router = await NativeRouter.load({ modelPath: model });
// It names only the best of the candidates it is given: one at a time shows each.
answers.alone = [];
for (const candidate of candidates) answers.alone.push(await router.route(query, [candidate]));
answers.best = await router.route(query, candidates);
answers.circuitClosed = router.circuitBreakerStatus();
process.stdout.write(JSON.stringify(answers));
