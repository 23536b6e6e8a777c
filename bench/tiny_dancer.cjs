// The released Tiny Dancer's trainer, kept running between measurements. One JSON request a line on stdin, one JSON
// answer a line on the file descriptor given (the trainer itself writes to stdout).
// Usage: node tiny_dancer.cjs FOLDER DESCRIPTOR, where FOLDER/node_modules holds the package.
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const { trainRouter, version } = require(path.join(process.argv[2], "node_modules", "@ruvector", "tiny-dancer"));
const descriptor = Number(process.argv[3]);
let rows = [];

const tasks = {
  async version() {
    return version();
  },
  // n rows of d features and a label, float32.
  async load({ file, n, d }) {
    const bytes = fs.readFileSync(file);
    const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, n * (d + 1));
    rows = [];
    for (let at = 0; at < numbers.length; at += d + 1) {
      const embedding = Array.from(numbers.subarray(at, at + d));
      rows.push({ embedding, scores: { light: numbers[at + d], powerful: 1 } });
    }
    return rows.length;
  },
  async train({ output, d, hidden, epochs, learningRate }) {
    const options = { outputPath: output, inputDim: d, hiddenDim: hidden, epochs, learningRate, tolerance: 0.05 };
    const cpu = process.cpuUsage();
    const start = process.hrtime.bigint();
    const result = await trainRouter(rows, { light: 1, powerful: 10 }, options);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const used = process.cpuUsage(cpu);
    return { ...result, seconds, cpuSeconds: (used.user + used.system) / 1e6 };
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    const answer = await tasks[request.task](request);
    fs.writeSync(descriptor, JSON.stringify(answer) + "\n");
  }
})();
