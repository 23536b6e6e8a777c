// Trains with the released Tiny Dancer for the tests, and scores rows with the file that it wrote, or with another.
// Reads one JSON request from stdin. The trainer prints its epochs on stdout, so the answer is the last line.
// Usage: node tiny_dancer_trainer.cjs FOLDER, where FOLDER/node_modules holds the package.
"use strict";
const fs = require("fs");
const path = require("path");
const { trainRouter, score } = require(path.join(process.argv[2], "node_modules", "@ruvector", "tiny-dancer"));

async function answer({ train, model, rows }) {
  if (train) await trainRouter(train.rows, train.prices, { ...train.options, outputPath: model });
  const scores = [];
  for (const row of rows) scores.push(await score(model, row));
  return scores;
}

answer(JSON.parse(fs.readFileSync(0, "utf8"))).then((scores) => process.stdout.write("\n" + JSON.stringify(scores)));
