// Calls every part of the API that the SDK reaches today; prints {"name": "ok" | "why not"}.
import assert from "node:assert/strict";

const { default: OpenAI } = await import(process.argv[2] ?? "openai");

const client = new OpenAI({ baseURL: process.env.BASE_URL, maxRetries: 0 });
const messages = [{ role: "user", content: "hello" }];
const model = "sim-model";

const checks = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages });
    assert.equal(answer.object, "chat.completion");
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer._request_id);
  },
  async completions() {
    const answer = await client.completions.create({ model, prompt: "once", max_tokens: 16 });
    assert.equal(answer.object, "text_completion");
  },
  async embeddings() {
    const plain = await client.embeddings.create({ model, input: "a", encoding_format: "float" });
    const packed = await client.embeddings.create({ model, input: "a" });
    assert.equal(plain.data[0].embedding.length, packed.data[0].embedding.length);
    plain.data[0].embedding.forEach((value, i) =>
      assert.ok(Math.abs(value - packed.data[0].embedding[i]) < 1e-6));
  },
  async models() {
    // Workers publish their models once a second.
    const ids = [];
    for (const end = Date.now() + 5000; !ids.includes(model) && Date.now() < end; )
      for await (const entry of client.models.list()) ids.push(entry.id);
    assert.ok(ids.includes(model));
    assert.equal((await client.models.retrieve(model)).id, model);
  },
  async unknown_model_is_404() {
    await assert.rejects(client.models.retrieve("org/none:x"), OpenAI.NotFoundError);
  },
  async bad_request() {
    await assert.rejects(client.chat.completions.create({ messages }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "model");
      return true;
    });
  },
  async respond_async() {
    const { data, response } = await client.chat.completions
      .create({ model, messages }, { headers: { Prefer: "respond-async" } })
      .withResponse();
    assert.equal(response.status, 202);
    assert.equal(response.headers.get("location"), `/v1/jobs/${data.id}`);
    assert.equal(data.object, "job");
  },
  async many_at_once() {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        client.chat.completions.create({
          model,
          messages: [{ role: "user", content: `n${i}` }],
          user: "sim:delay_ms=200",
        }),
      ),
    );
    assert.equal(new Set(answers.map((answer) => answer.id)).size, 100);
  },
};

const results = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    results[name] = "ok";
  } catch (error) {
    results[name] = String(error.stack ?? error);
  }
}
console.log(JSON.stringify(results));
