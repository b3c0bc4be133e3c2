// The gateway's routes as the page uses them. The key lives in this tab's sessionStorage and leaves in one header only.

import { EventReader } from "./sse.js";

const KEY = "myelin.key";

export const readKey = () => sessionStorage.getItem(KEY) ?? "";
export const saveKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

/** What the gateway refused, or that it cannot be reached (status 0). `retryAfter` is in seconds, or null;
 * `myelin` says which requests it cost nevertheless, or is null. */
export class GatewayError extends Error {
  constructor(message, { status = 0, code = null, retryAfter = null, myelin = null } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter, myelin });
  }
}

/** The stream ended without `[DONE]`: what arrived may be only a part of the answer. */
export class CutError extends Error {}

async function call(path, options = {}) {
  const key = readKey();
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error instanceof TypeError && !/^[\x20-\x7e]*$/.test(key)) {
      throw new GatewayError("The API key holds characters that no key has. Enter it again.", { status: 401 });
    }
    throw new GatewayError("The gateway cannot be reached. Is it running, and are you online?");
  }
  if (!response.ok) throw await readError(response);
  return response;
}

async function readError(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // No JSON: something between the page and the gateway answered. The status alone is shown.
  }
  const wait = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return makeError(error, response.status, Number.isFinite(wait) ? wait : null);
}

function makeError(error, status, retryAfter = null) {
  const message = typeof error?.message === "string" && error.message ? error.message : `The gateway answered with status ${status}.`;
  return new GatewayError(message, { status, code: error?.code ?? error?.type ?? null, retryAfter, myelin: error?.myelin ?? null });
}

async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new GatewayError("What answered is no gateway: its answer is not JSON.", { status: response.status });
  }
}

/** [{id, isServed}]: the models that this key may ask, and whether workers serve them now. */
export async function fetchModels() {
  const { data } = await readJson(await call("/v1/models"));
  const named = (Array.isArray(data) ? data : []).filter((one) => typeof one?.id === "string");
  return named.map((one) => ({ id: one.id, isServed: one.myelin?.is_served !== false }));
}

/** What the chain says of a request by now. */
export async function fetchRequest(id) {
  return readJson(await call(`/v1/requests/${encodeURIComponent(id)}`));
}

/**
 * Asks for a chat completion and yields its chunks as they come; `onHeaders` gets {requests, session} before the first.
 * Throws GatewayError (refused, or an error inside the stream), CutError, or the AbortError of `signal`.
 */
export async function* streamChat(body, signal, onHeaders) {
  const response = await call("/v1/chat/completions", {
    method: "POST",
    signal,
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
  yield* readAnswer(response, onHeaders);
}

/** The whole of an answer that was cut when its gateway died, from its beginning; as `streamChat`. */
export async function* resumeChat(request, signal, onHeaders) {
  const response = await call(`/v1/requests/${encodeURIComponent(request)}/resume`, { method: "POST", signal });
  yield* readAnswer(response, onHeaders);
}

async function* readAnswer(response, onHeaders) {
  const ids = (response.headers.get("x-myelin-request") ?? "").split(",").map((id) => id.trim());
  onHeaders({ requests: ids.filter(Boolean), session: response.headers.get("x-myelin-session") });
  const events = new EventReader();
  const decoder = new TextDecoder(); // not a TextDecoderStream: where a connection breaks, it would drop what had come
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { value, done } = await readOrCut(reader);
      if (done) throw new CutError("The connection closed before the answer was complete.");
      for (const data of events.feed(decoder.decode(value, { stream: true }))) {
        if (data === "[DONE]") return;
        yield readChunk(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function readOrCut(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CutError("The connection broke before the answer was complete.");
  }
}

function readChunk(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new CutError("The stream holds a line that is not JSON.");
  }
  if (chunk?.error) throw makeError(chunk.error, 200);
  return chunk ?? {};
}
