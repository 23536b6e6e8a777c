// The released Tiny Dancer, following `current` by path: its Router with reloadModel(), and its score().
// Usage: node soak_reader.cjs FOLDER MODELS PROBE, where FOLDER/node_modules holds the package and PROBE is what score()
// takes. Ends when stdin is closed, with one JSON object.
"use strict";
const fs = require("fs");
const path = require("path");
const { Router, score } = require(path.join(process.argv[2], "node_modules", "@ruvector", "tiny-dancer"));

const link = path.join(process.argv[3], "current");
const model = path.join(link, "fastgrnn.safetensors");
const probe = JSON.parse(process.argv[4]);
const request = {
  queryEmbedding: new Float32Array([1, 0]),
  candidates: [{ id: "a", embedding: new Float32Array([1, 0]), createdAt: 4e9, accessCount: 10000, successRate: 1 }],
};
const found = { looked: 0, missing: 0, late: 0, failed: [], scores: {}, unsure: [] };
let going = true;
process.stdin.on("close", () => (going = false)).on("end", () => (going = false)).resume();

// Where `current` points and which link that is: a new one each time, so a change in between shows, there and back too.
function look() {
  const seen = fs.lstatSync(link, { bigint: true });
  return { version: path.basename(fs.readlinkSync(link)), id: `${seen.ino} ${seen.ctimeNs}` };
}

function note(kind, before, after, value) {
  if (before.id !== after.id) {
    // It moved meanwhile: any version that was current may have answered.
    if (found.unsure.length < 100000) found.unsure.push(value);
    return;
  }
  const scores = (found.scores[before.version] ??= []);
  if (!scores.includes(value)) scores.push(value);
}

async function main() {
  const router = new Router({ modelPath: model });
  while (going) {
    found.looked++;
    let before;
    try {
      before = look();
    } catch (error) {
      found.missing++;
      continue;
    }
    try {
      await router.reloadModel();
      const answered = (await router.route(request)).decisions[0].confidence;
      note("router", before, look(), answered);
      before = look();
      const scored = await score(model, probe);
      note("score", before, look(), scored);
    } catch (error) {
      if (look().id !== before.id) found.late++;
      else found.failed.push(String(error.message));
    }
    // Whatever happened: it always has a model.
    const confidence = (await router.route(request)).decisions[0].confidence;
    if (!(confidence >= 0 && confidence <= 1)) found.failed.push(`a confidence of ${confidence}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  process.stdout.write(JSON.stringify(found));
}

main();
