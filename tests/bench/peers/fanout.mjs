// fanout.mjs CLIENT ORIGIN COUNT chat|embeddings: COUNT calls at once; prints {"wall_s", "cpu_s", "rss_mib", "errors"}.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { Agent, request, setGlobalDispatcher } from "undici";

const [client, origin, text, kind] = process.argv.slice(2);
const count = Number(text);
const isEmbeddings = kind === "embeddings";
const path = isEmbeddings ? "/v1/embeddings" : "/v1/chat/completions";
const body = (i) => isEmbeddings ? { model: "sim-model", input: `document ${i}` }
  : { model: "sim-model", messages: [{ role: "user", content: `prompt ${i}` }] };
let errors = 0;

const clients = {
  undici() {
    setGlobalDispatcher(new Agent({ connections: null, headersTimeout: 0, bodyTimeout: 0 }));
    return async (i) => {
      const answer = await request(origin + path, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body(i)),
      });
      await answer.body.text();
      if (answer.statusCode !== 200) errors++;
    };
  },
  openai() {
    const sdk = new OpenAI({ baseURL: `${origin}/v1`, apiKey: "any", maxRetries: 0, timeout: 600000 });
    return (i) => (isEmbeddings ? sdk.embeddings : sdk.chat.completions).create(body(i));
  },
};

const call = clients[client]();
const begin = process.hrtime.bigint();
await Promise.all(Array.from({ length: count }, (_, i) => call(i).catch(() => errors++)));
const usage = process.resourceUsage();
console.log(JSON.stringify({
  wall_s: Number(process.hrtime.bigint() - begin) / 1e9,
  cpu_s: (usage.userCPUTime + usage.systemCPUTime) / 1e6,
  // usage.maxRSS would be that of the process which started us: Linux hands it on.
  rss_mib: Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "ascii"))[1]) / 1024,
  errors,
}));
process.exit(0);
