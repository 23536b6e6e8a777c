// Serves routing decisions over HTTP. Usage: node server.js MODELS [PORT]
//   POST /route   {"queryEmbedding": [...], "candidates": [{"id": "a", "embedding": [...], ...}], "metadata": {...}}
//   GET  /health  which version serves, and why not the current one, if it does not
import http from "node:http";
import { Follower } from "./follower.js";

const BODY_LIMIT_BYTES = 4 * 1024 * 1024;
const [modelsDir, port = "8080"] = process.argv.slice(2);
if (!modelsDir) {
  console.error("usage: node server.js MODELS [PORT]");
  process.exit(2);
}

const follower = new Follower(modelsDir);
await follower.start();

const server = http.createServer(async (request, response) => {
  const [status, answer] = await respond(request).catch((error) => [error.status ?? 500, { error: error.message }]);
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    server.close();
    server.closeAllConnections();
    await follower.close();
  });
}

async function respond(request) {
  if (request.method === "GET" && request.url === "/health") {
    const { version, failure, router } = follower;
    return [version ? 200 : 503, { version, failure, circuitClosed: router?.circuitBreakerStatus() ?? null }];
  }
  if (request.method !== "POST" || request.url !== "/route") return [404, { error: "POST /route or GET /health" }];
  const asked = parse(await body(request));
  const answer = await follower.route(asked).catch((error) => {
    throw mistake(422, error.message);
  });
  if (answer === null) return [503, { error: `no version is published in ${modelsDir} yet` }];
  const { version, decisions, inferenceTimeUs } = answer;
  return [200, { version, decisions, inferenceTimeUs }];
}

async function body(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > BODY_LIMIT_BYTES) throw mistake(413, `the request is longer than ${BODY_LIMIT_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

function parse(text) {
  let asked;
  try {
    asked = JSON.parse(text);
  } catch (error) {
    throw mistake(400, `not JSON: ${error.message}`);
  }
  const { queryEmbedding, candidates, metadata } = asked ?? {};
  if (!Array.isArray(candidates) || candidates.length === 0) throw mistake(400, "candidates: expected at least one");
  return {
    queryEmbedding: vector("queryEmbedding", queryEmbedding),
    candidates: candidates.map((candidate, i) => ({
      ...candidate,
      embedding: vector(`candidates[${i}].embedding`, candidate?.embedding),
      metadata: asText(candidate?.metadata),
    })),
    metadata: asText(metadata),
  };
}

// Tiny Dancer takes only this type of array, whatever its declarations say.
function vector(name, values) {
  if (!Array.isArray(values) || !values.length || !values.every(Number.isFinite)) {
    throw mistake(400, `${name}: expected an array of numbers`);
  }
  return Float32Array.from(values);
}

// It takes metadata as JSON text.
function asText(metadata) {
  return metadata === undefined || typeof metadata === "string" ? metadata : JSON.stringify(metadata);
}

function mistake(status, message) {
  return Object.assign(new Error(message), { status });
}
