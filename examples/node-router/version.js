// A published version, verified before Tiny Dancer may see it: its loader takes NaN for weights, and a damaged type in
// a file's header can end the whole process, which no try/catch survives.
import { createHash } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";

export const MODEL_FILE = "fastgrnn.safetensors";
const SEAL = /\n {2}"manifest_sha256": "([0-9a-f]{64})"\n\}\n$/;

/** A version that does not verify: it will not get better by trying again. */
export class VersionError extends Error {}

/** The version that `current` points to, e.g. "versions/v1763838000"; null while nothing is published. */
export async function readCurrent(modelsDir) {
  try {
    return await fs.readlink(path.join(modelsDir, "current"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
}

/** Check the manifest by its own seal and the model file by the manifest. Returns the absolute path of the model file. */
export async function verify(modelsDir, target) {
  const folder = path.resolve(modelsDir, target);
  const manifest = await fs.readFile(path.join(folder, "manifest.json"), "utf8");
  const seal = SEAL.exec(manifest);
  if (!seal || sha256(manifest.slice(0, seal.index)) !== seal[1]) {
    throw new VersionError(`${folder}: manifest.json was changed or cut after it was written`);
  }
  const { files, version } = JSON.parse(manifest);
  if (version !== path.basename(folder)) throw new VersionError(`${folder}: its manifest calls it ${version}`);
  const file = path.join(folder, MODEL_FILE);
  const data = await fs.readFile(file);
  const listed = files[MODEL_FILE];
  if (!listed || data.length !== listed.size || sha256(data) !== listed.sha256) {
    throw new VersionError(`${folder}: ${MODEL_FILE} is not what the manifest says`);
  }
  return file;
}

function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}
