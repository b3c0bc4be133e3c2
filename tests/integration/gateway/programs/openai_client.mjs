// The npm package `openai`, unmodified: argv is the directory that has it, the gateway's base URL, a key, a model.
import { createRequire } from "node:module";

const [directory, baseURL, apiKey, model] = process.argv.slice(2);
const { default: OpenAI } = createRequire(`${directory}/`)("openai");
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const base = { model, messages, temperature: 0, max_tokens: 24 };
const told = {};

const whole = await client.chat.completions.create(base);
told.whole = whole.choices[0].message.content;

let streamed = "";
const stream = await client.chat.completions.create({ ...base, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  told.usage = chunk.usage ?? told.usage;
}
told.streamed = streamed;

const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 } },
  required: ["city"],
  additionalProperties: false,
};
const tooled = await client.chat.completions.create({
  ...base,
  max_tokens: 80,
  tools: [{ type: "function", function: { name: "get_weather", parameters } }],
  tool_choice: { type: "function", function: { name: "get_weather" } },
});
told.call = tooled.choices[0].message.tool_calls[0].function;
told.finish = tooled.choices[0].finish_reason;

const schema = { type: "object", properties: { sure: { type: "boolean" } }, required: ["sure"], additionalProperties: false };
const parsed = await client.chat.completions.parse({
  ...base,
  response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } },
});
told.json = JSON.parse(parsed.choices[0].message.content);

const control = new AbortController();
const { data: long, response } = await client.chat.completions
  .create({ ...base, max_tokens: 6000, stream: true, logit_bias: { 0: -100, 2: -100 } }, { signal: control.signal })
  .withResponse();
told.aborted = response.headers.get("x-myelin-request");
let pieces = 0;
for await (const _ of long) {
  if (++pieces === 40) control.abort();
}
told.pieces = pieces;

try {
  await client.chat.completions.create({ ...base, model: "gpt-4o" });
} catch (error) {
  told.error = [error.status, error.code, error instanceof OpenAI.NotFoundError];
}
const answer = await client.responses.create({ model, input: messages[0].content, temperature: 0, max_output_tokens: 24 });
told.responded = answer.output_text;
console.log(JSON.stringify(told));
