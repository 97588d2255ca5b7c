// pickup.mjs SOCKET COUNT: adds COUNT jobs of 1 KB, one at a time after a rest of 5 ms, to a queue whose worker is a process of
// its own. Prints {"p50_ms", "p99_ms"} from before the add to the worker's handler; both read the clock of the system.
import { fork } from "node:child_process";
import { Queue, Worker } from "bullmq";

const [path, text, role] = process.argv.slice(2);
const count = Number(text);
const connection = { path, maxRetriesPerRequest: null };

if (role === "work") {
  process.on("disconnect", () => process.exit(0));
  const worker = new Worker("pickup", async () => process.send(process.hrtime.bigint().toString()), { connection });
  await worker.waitUntilReady();
  process.send("ready");
} else {
  const child = fork(process.argv[1], [path, text, "work"]);
  const said = () => new Promise((resolve) => child.once("message", resolve));
  child.on("exit", () => process.exit(1));
  await said();
  const queue = new Queue("pickup", { connection });
  await queue.waitUntilReady();
  const body = JSON.stringify({ model: "sim-model", messages: [{ role: "user", content: "x".repeat(800) }] });
  const times = [];
  for (let n = -20; n < count; n++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const arrival = said();
    const begin = process.hrtime.bigint();
    await queue.add("call", { body });
    const ms = Number(BigInt(await arrival) - begin) / 1e6;
    if (n >= 0) times.push(ms); // the first ones find everything cold
  }
  times.sort((a, b) => a - b);
  const at = (part) => times[Math.min(count - 1, Math.floor(count * part))];
  console.log(JSON.stringify({ p50_ms: at(0.5), p99_ms: at(0.99) }));
  process.exit(0);
}
