// Follows what the chain says of answers until it is final, more and more slowly, and only while the page is visible.

import { GatewayError, fetchRequest } from "./api.js";
import { listPath } from "./conversation.js";
import { listRequests } from "./proof.js";
import { findChat, updateNode } from "./store.js";

const PAUSES_MS = [1_000, 1_000, 2_000, 2_000, 3_000, 5_000];
const LAST_PAUSE_MS = 10_000;
const TRIES_MAX = 90;

const followed = new Set();

/** Asks for every request of an answer that is not final yet, one after another; returns at once. */
export function followProofs(chatId, nodeId) {
  const node = findChat(chatId)?.nodes[nodeId];
  if (!node || node.status === "streaming") return;
  for (const request of listRequests(node)) {
    const isNew = !followed.has(request.id);
    if (request.isFinal || !isNew) continue;
    followed.add(request.id);
    follow(chatId, nodeId, request.id).finally(() => followed.delete(request.id));
  }
}

/** Takes up what was left open when the conversation was last shown. */
export function followShown(chat) {
  if (chat) for (const node of listPath(chat)) if (node.role === "assistant" && !node.quiet) followProofs(chat.id, node.id);
}

/** Asks anew after the page had given up. */
export function followAgain(chatId, nodeId) {
  updateNode(chatId, nodeId, { quiet: "" });
  followProofs(chatId, nodeId);
}

async function follow(chatId, nodeId, requestId) {
  for (let attempt = 0; attempt < TRIES_MAX; attempt += 1) {
    await untilVisible();
    const outcome = await askOnce(requestId);
    const node = findChat(chatId)?.nodes[nodeId];
    if (!node) return;
    if (outcome.proof) updateNode(chatId, nodeId, { quiet: "", proofs: { ...node.proofs, [requestId]: outcome.proof } });
    if (outcome.isOver) return;
    if (outcome.refused) return updateNode(chatId, nodeId, { quiet: outcome.refused });
    await sleep(PAUSES_MS[attempt] ?? LAST_PAUSE_MS);
  }
  updateNode(chatId, nodeId, { quiet: "No final word after a quarter of an hour." });
}

/** {proof, isOver} of an answer; {refused} where asking again is no use; {} where it may be. */
async function askOnce(requestId) {
  try {
    const proof = await fetchRequest(requestId);
    return { proof, isOver: Boolean(proof?.final) };
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    // A request that has just ended may not be known yet (404); what refuses the key will refuse it again.
    return [401, 403].includes(error.status) ? { refused: error.message } : {};
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function untilVisible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}
