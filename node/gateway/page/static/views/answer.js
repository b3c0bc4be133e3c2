// One answer: its text as it streams, how it ended, and the line that says what it took.

import { countTokens, formatMyl, formatSeconds, describeState, joinStates, listRequests, sumCost } from "../proof.js";
import { askKey } from "../store.js";
import { html } from "../vendor/htm-preact.js";
import { Branches } from "./branches.js";
import { CopyButton } from "./copy_button.js";
import { Proof } from "./proof_fold.js";
import { Text } from "./text.js";

export function Answer({ chat, node, isRunning, again }) {
  const isStreaming = node.status === "streaming";
  return html`
    <article class="answer" aria-label="Answer" aria-busy=${String(isStreaming)}>
      <${Text} text=${node.text} />
      ${isStreaming && html`<p class=${node.text ? "writing" : "writing waiting"}><span class="hidden">Writing</span></p>`}
      <${Ending} node=${node} />
      ${!isStreaming && html`
        <${Figures} node=${node} />
        <div class="tools">
          <${Branches} chat=${chat} node=${node} isRunning=${isRunning} />
          ${node.text && html`<${CopyButton} text=${node.text} label="Copy the answer" />`}
          <button type="button" class="text" disabled=${isRunning} aria-label="Retry this answer" onClick=${again}>Retry</button>
        </div>
        <${Proof} chat=${chat} node=${node} />
      `}
    </article>
  `;
}

/** What one has to know of an answer that did not end by itself. */
function Ending({ node }) {
  if (node.status === "stopped") return html`<p class="ending">You stopped this answer. What was delivered until then is charged.</p>`;
  if (node.status === "cut") {
    return html`<p class="ending warn" role="alert"><strong>Cut short.</strong> ${node.error?.message} What you see may be incomplete.</p>`;
  }
  if (node.status === "error") {
    const { message, code, status, retryAfter } = node.error;
    return html`
      <p class="ending bad" role="alert">
        <strong>The request failed.</strong> ${message}
        ${retryAfter !== null && retryAfter !== undefined && html` Try again in ${retryAfter} s.`}
        ${code && html` <code>${code}</code>`}
        ${status === 401 && html` <button type="button" class="text" onClick=${() => askKey()}>Enter a key</button>`}
      </p>
    `;
  }
  if (node.finish === "length") return html`<p class="ending">The answer reached its longest length: raise “Max tokens” for more.</p>`;
  if (node.finish === "content_filter") return html`<p class="ending warn">The gateway withheld the rest of this answer.</p>`;
  return null;
}

function Figures({ node }) {
  const requests = listRequests(node);
  const state = joinStates(requests.map((one) => one.state));
  const words = state && describeState(state);
  const tokens = countTokens(node, requests);
  const speed = tokens > 1 && node.writing_s > 0.02 ? `${((tokens - 1) / node.writing_s).toFixed(1)} tok/s` : null;
  const figures = [
    Number.isFinite(tokens) && `${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`,
    Number.isFinite(node.first_s) && `first after ${formatSeconds(node.first_s)}`,
    speed,
    formatMyl(sumCost(requests)),
  ].filter(Boolean);
  if (!figures.length && !words) return null;
  return html`
    <p class="figures">
      ${figures.map((one) => html`<span>${one}</span>`)}
      ${words && html`<span class=${`badge ${words.tone}`}>${words.label}</span>`}
    </p>
  `;
}
