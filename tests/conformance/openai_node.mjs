// Uses the official JavaScript client as an application would, and prints what it saw as one JSON document.
// node openai_node.mjs PACKAGE BASE_URL KEY MODEL

import { createRequire } from "node:module";

const [, , packageFolder, baseURL, apiKey, model] = process.argv;
const require = createRequire(import.meta.url);
const OpenAI = require(packageFolder);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say something nice about lanterns." }];
const seen = {};

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, requestID: error.requestID };
  }
  return null;
}

const whole = await client.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0 });
seen.whole = { text: whole.choices[0].message.content, usage: whole.usage, requestID: whole._request_id };

const stream = await client.chat.completions.create({
  model, messages, max_tokens: 12, temperature: 0, stream: true, stream_options: { include_usage: true },
});
seen.stream = { text: "", finish: null, usage: null };
for await (const event of stream) {
  for (const choice of event.choices) {
    seen.stream.text += choice.delta.content ?? "";
    seen.stream.finish = choice.finish_reason ?? seen.stream.finish;
  }
  seen.stream.usage = event.usage ?? seen.stream.usage;
}

const helper = client.chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0 });
seen.helper = { text: await helper.finalContent() };

const { response } = await client.chat.completions.create({ model, messages, max_tokens: 2 }).withResponse();
seen.headers = { region: response.headers.get("x-router-region"), backend: response.headers.get("x-router-backend") };

seen.models = (await client.models.list()).data.map((entry) => entry.id);
const embedded = await client.embeddings.create({ model, input: ["one", "two"] });
seen.embeddings = embedded.data.map((entry) => entry.embedding.length > 0);

const left = await client.chat.completions.create({ model, messages, max_tokens: 2000, stream: true });
seen.left = 0;
for await (const event of left) {
  seen.left += event.choices.length;
  if (seen.left >= 3) break; // aborts the request
}

seen.unknownModel = await failure(() => client.chat.completions.create({ model: "nope", messages }));
const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
seen.wrongKey = await failure(() => stranger.chat.completions.create({ model, messages }));
seen.wrongKeyStream = await failure(() => stranger.chat.completions.create({ model, messages, stream: true }));

console.log(JSON.stringify(seen));
