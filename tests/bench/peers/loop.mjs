// loop.mjs SOCKET ORIGIN COUNT PROCESSES: what people write by hand. Bodies in a Redis list, loops that take them, call and
// set a result; no lease, no state, no retry: what a process holds when it dies is lost.
// Prints {"rate"} in jobs/s from the first push to the last result read back.
import { fork } from "node:child_process";
import Redis from "ioredis";
import { Pool } from "undici";

const [path, origin, count, processes, role] = process.argv.slice(2);
const redis = new Redis({ path });
const CALLS = 256, TAKE = 64, PART = 500;

async function work() {
  const pool = new Pool(origin, { connections: CALLS });
  let flying = 0, wake = null;
  const call = async (text) => {
    const { id, body } = JSON.parse(text);
    const answer = await pool.request({ path: "/v1/chat/completions", method: "POST", body,
                                        headers: { "content-type": "application/json" } });
    redis.pipeline().set(`result:${id}`, await answer.body.text()).incr("done").exec();
    flying--;
    wake?.();
  };
  for (;;) {
    if (flying > CALLS - TAKE) await new Promise((resolve) => (wake = resolve));
    const texts = await redis.lpop("jobs", TAKE);
    if (!texts) await new Promise((resolve) => setTimeout(resolve, 1));
    for (const text of texts ?? []) { flying++; call(text); }
  }
}

if (role === "work") {
  process.on("disconnect", () => process.exit(0));
  process.send("ready");
  await work();
}
const workers = [];
for (let n = 0; n < Number(processes); n++) {
  const child = fork(process.argv[1], [path, origin, count, processes, "work"]);
  child.on("exit", () => process.exit(1));
  await new Promise((resolve) => child.once("message", resolve));
  workers.push(child);
}
const body = JSON.stringify({ model: "sim-model", messages: [{ role: "user", content: "x".repeat(800) }] });
const begin = process.hrtime.bigint();
for (let at = 0; at < count; at += PART)
  await redis.rpush("jobs", ...Array.from({ length: Math.min(PART, count - at) }, (_, n) => JSON.stringify({ id: at + n, body })));
while (Number(await redis.get("done")) < count) await new Promise((resolve) => setTimeout(resolve, 2));
for (let at = 0; at < count; at += PART) {
  const results = await redis.mget(Array.from({ length: Math.min(PART, count - at) }, (_, n) => `result:${at + n}`));
  if (results.includes(null)) throw new Error("a result is not there");
}
console.log(JSON.stringify({ rate: count / (Number(process.hrtime.bigint() - begin) / 1e9) }));
process.exit(0);
