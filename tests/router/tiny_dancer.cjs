// Runs the released Tiny Dancer for the tests. Reads one JSON request from stdin, writes one JSON answer.
// Usage: node tiny_dancer.cjs FOLDER, where FOLDER/node_modules holds the package.
"use strict";
const fs = require("fs");
const path = require("path");
const { Router, score } = require(path.join(process.argv[2], "node_modules", "@ruvector", "tiny-dancer"));

const tasks = {
  // One model file, many rows of numbers: the score of each.
  async score({ model, rows }) {
    const scores = [];
    for (const row of rows) scores.push(await score(model, row));
    return scores;
  },
  // Each file by itself: its score, or the message of the error.
  async load({ models, row }) {
    const found = [];
    for (const model of models) {
      try {
        found.push(await score(model, row));
      } catch (error) {
        found.push(String(error.message));
      }
    }
    return found;
  },
  // A router on a path through `current`: its confidence, and again after the link was swapped and reloadModel().
  async reload({ model, link, targets }) {
    const router = new Router({ modelPath: model });
    const request = {
      queryEmbedding: new Float32Array([1, 0]),
      candidates: [{ id: "a", embedding: new Float32Array([1, 0]), createdAt: 4e9, accessCount: 10000, successRate: 1 }],
    };
    const confidences = [];
    for (const target of targets) {
      fs.symlinkSync(target, link + ".next");
      fs.renameSync(link + ".next", link);
      await router.reloadModel();
      confidences.push((await router.route(request)).decisions[0].confidence);
    }
    return confidences;
  },
  // Every candidate of one request, by its id, all in the same second of the clock, which is told as well.
  async route({ model, query, metadata, candidates }) {
    const router = new Router({ modelPath: model });
    const asked = {
      queryEmbedding: new Float32Array(query),
      metadata: JSON.stringify(metadata),
      candidates: [],
    };
    for (;;) {
      const second = Math.floor(Date.now() / 1000);
      asked.candidates = candidates.map((one) => ({
        id: one.id,
        embedding: new Float32Array(one.embedding),
        metadata: JSON.stringify(one.metadata),
        createdAt: second - one.age,
        accessCount: one.accessCount,
        successRate: one.successRate,
      }));
      const { decisions } = await router.route(asked);
      if (Math.floor(Date.now() / 1000) !== second) continue;
      return decisions;
    }
  },
};

const request = JSON.parse(fs.readFileSync(0, "utf8"));
tasks[request.task](request).then((answer) => process.stdout.write(JSON.stringify(answer)));
