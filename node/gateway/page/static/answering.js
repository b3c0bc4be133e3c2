// The course of one answer: ask, take what streams in, end in one of done, stopped, cut or error, then follow its proof.

import { CutError, GatewayError, resumeChat, streamChat } from "./api.js";
import { addNode, listPath, makeId, makeMessages } from "./conversation.js";
import { followProofs } from "./following.js";
import { askKey, currentChat, ensureChat, findChat, get, putChat, set, updateNode } from "./store.js";

const FLUSH_MS = 50;
const FLUSH_MS_MAX = 2_000;
const DRAWING_SHARE = 4; // drawing takes at most a quarter of the time, however odd the text: Stop stays at hand
const KEEP_MS = 1_000;
const RESUMES_MAX = 30;
const RESUME_PAUSE_MS = 1_000;

/** Says `text` after `parent` (a message's id; null: the conversation begins with it) and has it answered. */
export function say(text, parent = currentChat()?.leaf ?? null) {
  if (get().running || !text.trim()) return;
  const chat = ensureChat();
  const node = { id: makeId(), parent, role: "user", text: text.trim(), created: Date.now() };
  putChat(addNode(chat, node, Date.now()));
  answer(chat.id, node.id);
}

/** Another answer beside this one. */
export function retry(node) {
  const chat = currentChat();
  if (get().running || !chat) return;
  const question = listPath(chat, node.id).findLast((one) => one.role === "user");
  if (question) answer(chat.id, question.id);
}

export const stop = () => get().running?.stop();

async function answer(chatId, parent) {
  const { settings } = get();
  const body = makeBody(settings, makeMessages(findChat(chatId), parent, settings.system.trim()));
  const node = { id: makeId(), parent, role: "assistant", text: "", status: "streaming", model: body.model, created: Date.now() };
  putChat(addNode(findChat(chatId), node, Date.now()));
  const aborter = new AbortController();
  set({ running: { chat: chatId, node: node.id, stop: () => aborter.abort() }, status: "Answering." });
  const course = new Course(chatId, node.id);
  let end;
  try {
    for await (const chunk of streamChat(body, aborter.signal, (headers) => course.begin(headers))) course.take(chunk);
    end = { status: "done" };
  } catch (error) {
    end = await goOn(course, error, aborter.signal);
  }
  set({ running: null, status: END_WORDS[end.status] });
  course.finish(end);
  if (end.error?.status === 401) askKey(end.error.message);
  followProofs(chatId, node.id);
}

/** How it ended after all: an answer that was cut goes on where its gateway was started anew, or ends as it was cut. */
async function goOn(course, error, signal) {
  let last = error;
  for (let tries = 0; error instanceof CutError && course.request && tries < RESUMES_MAX; tries += 1) {
    try {
      for await (const chunk of resumeChat(course.request, signal, (headers) => course.begin(headers))) course.take(chunk);
      return { status: "done" };
    } catch (failure) {
      if (failure.name === "AbortError") return describeEnd(failure);
      const isAway = failure instanceof GatewayError && (failure.status === 0 || failure.status === 503);
      if (!isAway && !(failure instanceof CutError)) break;
      last = failure instanceof CutError ? failure : error;
    }
    await new Promise((wake) => setTimeout(wake, RESUME_PAUSE_MS));
  }
  if (last.myelin) course.take({ myelin: last.myelin });
  return describeEnd(last);
}

const END_WORDS = {
  done: "The answer is complete.",
  stopped: "The answer was stopped.",
  cut: "The answer was cut.",
  error: "The request failed.",
};

/** How an answer ended that did not end by itself. */
function describeEnd(error) {
  if (error.name === "AbortError") return { status: "stopped" };
  if (error instanceof CutError) return { status: "cut", error: { message: error.message } };
  const { message, code = null, status = 0, retryAfter = null } = error;
  if (error instanceof GatewayError) return { status: "error", error: { message, code, status, retryAfter } };
  console.error(error);
  return { status: "error", error: { message: `This page failed: ${message}`, code: null, status: 0, retryAfter: null } };
}

/** The body of a request; what was left empty is left to the gateway. */
export function makeBody(settings, messages) {
  const body = { model: settings.model, messages };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    const text = settings[name].trim();
    if (text !== "" && Number.isFinite(Number(text))) body[name] = Number(text);
  }
  return body;
}

/** Collects what streams in and writes it into the conversation, a few times a second and not for every token. */
class Course {
  #text = "";
  #known = {};
  #asked = performance.now();
  #first = null;
  #last = null;
  #timer = null;
  #pause = FLUSH_MS;
  #keptAt = performance.now();

  constructor(chatId, nodeId) {
    this.chatId = chatId;
    this.nodeId = nodeId;
  }

  /** The latest request of the answer; undefined before there is one. */
  get request() {
    return this.#known.requests?.at(-1)?.id;
  }

  /** The headers name the request before anything is computed: a stopped answer can be followed by them. What comes is
   * the answer from its beginning, also where it was cut before. */
  begin({ requests, session }) {
    this.#text = "";
    this.#known.requests = requests.map((id) => ({ id }));
    if (session) this.#known.session = session;
  }

  take(chunk) {
    const choice = chunk.choices?.[0];
    const piece = choice?.delta?.content;
    if (typeof piece === "string" && piece) {
      this.#last = performance.now();
      this.#first ??= this.#last;
      this.#text += piece;
    }
    if (choice?.finish_reason) this.#known.finish = choice.finish_reason;
    if (chunk.usage) this.#known.usage = { prompt: chunk.usage.prompt_tokens, completion: chunk.usage.completion_tokens };
    if (chunk.myelin) this.#takeProof(chunk.myelin);
    this.#timer ??= setTimeout(() => this.#flush(), this.#pause);
  }

  finish(end) {
    clearTimeout(this.#timer);
    updateNode(this.chatId, this.nodeId, { ...this.#describe(), ...end });
  }

  #takeProof({ requests, session, path }) {
    const named = Array.isArray(requests) ? requests.filter((one) => one?.id) : [];
    if (named.length) this.#known.requests = named;
    if (session) this.#known.session = session;
    if (Array.isArray(path)) this.#known.path = path;
  }

  #flush() {
    this.#timer = null;
    const began = performance.now();
    const isKept = performance.now() - this.#keptAt > KEEP_MS;
    if (isKept) this.#keptAt = performance.now();
    updateNode(this.chatId, this.nodeId, this.#describe(), isKept);
    // What was put is drawn before the next task.
    setTimeout(() => {
      const took = performance.now() - began;
      this.#pause = Math.min(FLUSH_MS_MAX, Math.max(FLUSH_MS, DRAWING_SHARE * took));
    });
  }

  #describe() {
    const first = this.#first === null ? null : (this.#first - this.#asked) / 1000;
    const writing = this.#first === null ? null : (this.#last - this.#first) / 1000;
    return { text: this.#text, ...this.#known, first_s: first, writing_s: writing };
  }
}
