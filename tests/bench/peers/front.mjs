// front.mjs SOCKET: Fastify and ioredis: parse a JSON body, one LPUSH, 202. Prints the port once it listens.
import Fastify from "fastify";
import Redis from "ioredis";

const redis = new Redis({ path: process.argv[2], enableAutoPipelining: true });
const app = Fastify();
app.post("/v1/jobs", async (request, reply) => {
  await redis.lpush("jobs", JSON.stringify(request.body));
  reply.code(202);
  return { id: "job" };
});
await app.listen({ port: 0, host: "127.0.0.1" });
console.log(app.server.address().port);
