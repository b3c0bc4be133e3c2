// Route and proof of an answer: who computed which layers at what price, and what the chain has found so far.

import { followAgain } from "../following.js";
import { describeStage, describeState, formatMyl, listRequests, listStages, shortenHex } from "../proof.js";
import { html } from "../vendor/htm-preact.js";
import { CopyButton } from "./copy_button.js";

export function Proof({ chat, node }) {
  const requests = listRequests(node);
  if (!requests.length) return null;
  return html`
    <details class="proof" onToggle=${showOpened}>
      <summary>Route and proof</summary>
      ${requests.map((request) => html`<${RequestProof} key=${request.id} node=${node} request=${request} isOne=${requests.length === 1} />`)}
      ${node.quiet && html`
        <p class="hint">${node.quiet} <button type="button" class="text" onClick=${() => followAgain(chat.id, node.id)}>Ask again</button></p>
      `}
    </details>
  `;
}

/** What opens below the edge comes into view. */
function showOpened({ target }) {
  if (target.open) target.scrollIntoView({ block: "nearest" });
}

function RequestProof({ node, request, isOne }) {
  const words = describeState(request.state, request.proof?.stages);
  const stages = listStages(node.path, request.proof);
  return html`
    <div class="request">
      <p class="verdict">${!isOne && html`<span class=${`badge ${words.tone}`}>${words.label}</span> `}${words.text}</p>
      ${request.returned > 0 && html`<p>${formatMyl(request.returned)} of ${formatMyl(request.cost)} came back to the payer.</p>`}
      ${stages.length > 0 && html`<${Stages} stages=${stages} isSettled=${Boolean(request.proof?.stages?.length)} />`}
      <dl class="ids">
        <${Id} name="Request" hex=${request.id} />
        ${node.session && html`<${Id} name="Session" hex=${node.session} />`}
        ${node.model && html`<div><dt>Model</dt><dd>${node.model}</dd></div>`}
        ${node.usage && html`<div><dt>Tokens</dt><dd>${node.usage.prompt} read, ${node.usage.completion} written</dd></div>`}
        <div><dt>Price</dt><dd>${formatMyl(request.cost) ?? "not known yet"}${request.isFinal ? "" : ", not final"}</dd></div>
      </dl>
    </div>
  `;
}

function Stages({ stages, isSettled }) {
  return html`
    <div class="scroll" tabindex="0" role="group" aria-label="Route">
      <table class="route" role="table">
        <thead role="rowgroup">
          <tr role="row">${["Layers", "Worker", "Read / written", "Outcome"].map((name) => html`<th scope="col" role="columnheader">${name}</th>`)}</tr>
        </thead>
        <tbody role="rowgroup">
          ${stages.map(
            (one) => html`
              <tr role="row">
                <td role="cell">${one.start}–${one.end - 1}</td>
                <td role="cell"><code title=${one.worker}>${shortenHex(String(one.worker))}</code></td>
                <td role="cell">${one.prefill_price ?? "?"} / ${one.decode_price ?? "?"}</td>
                <td role="cell">${isSettled ? describeStage(one.stage) : "not settled yet"}<${Distance} stage=${one.stage} /></td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
    <p class="hint">Prices are in nmyl per layer and token, read and written; 1 MYL is 10⁹ nmyl.</p>
  `;
}

/** How far the verifiers' numbers were from the worker's, in parts of what is tolerated. */
function Distance({ stage }) {
  if (!stage?.drawn || !Number.isFinite(stage.distance_ppb) || !stage.threshold_ppb) return null;
  const share = (100 * stage.distance_ppb) / stage.threshold_ppb;
  const words = share < 0.1 ? "under 0.1" : share.toFixed(share < 10 ? 1 : 0);
  return html`<span class="distance">distance ${words} % of the threshold</span>`;
}

function Id({ name, hex }) {
  return html`
    <div>
      <dt>${name}</dt>
      <dd><code title=${hex}>${shortenHex(hex)}</code> <${CopyButton} text=${hex} label=${`Copy the ${name.toLowerCase()}'s id`} /></dd>
    </div>
  `;
}
