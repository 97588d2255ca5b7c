// bullmq.mjs SOCKET ORIGIN COUNT: adds COUNT jobs of 1 KB in bulk, runs each as one HTTP call, keeps the result.
// Prints {"rate"} in jobs/s from the first add to the last completion.
import http from "node:http";
import { Queue, Worker } from "bullmq";

const [path, origin, text] = process.argv.slice(2);
const count = Number(text);
const connection = { path, maxRetriesPerRequest: null };
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
const url = new URL(`${origin}/v1/chat/completions`);

function post(body) {
  return new Promise((resolve, reject) => {
    const call = http.request(url, { method: "POST", agent, headers: { "content-type": "application/json",
      "content-length": Buffer.byteLength(body) } }, (answer) => {
      let data = "";
      answer.setEncoding("utf8");
      answer.on("data", (piece) => (data += piece));
      answer.on("end", () => (answer.statusCode === 200 ? resolve(data) : reject(new Error(data))));
    });
    call.on("error", reject);
    call.end(body);
  });
}

const queue = new Queue("bench", { connection });
await queue.waitUntilReady();
let done = 0;
let finished;
const all = new Promise((resolve) => (finished = resolve));
const body = JSON.stringify({ model: "sim-model", messages: [{ role: "user", content: "x".repeat(800) }] });
const begin = process.hrtime.bigint();
const worker = new Worker("bench", (job) => post(job.data.body), { connection, concurrency: 50 });
worker.on("completed", () => ++done === count && finished());
for (let at = 0; at < count; at += 1000)
  await queue.addBulk(Array.from({ length: Math.min(1000, count - at) }, () => ({ name: "call", data: { body } })));
await all;
console.log(JSON.stringify({ rate: count / (Number(process.hrtime.bigint() - begin) / 1e9) }));
process.exit(0);
