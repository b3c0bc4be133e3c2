// Steps between the branches of a conversation that a message begins.

import { listSiblings, showBranch } from "../conversation.js";
import { putChat } from "../store.js";
import { html } from "../vendor/htm-preact.js";

export function Branches({ chat, node, isRunning }) {
  const siblings = listSiblings(chat, node);
  if (siblings.length < 2) return null;
  const index = siblings.findIndex((one) => one.id === node.id);
  const step = (by) => () => putChat(showBranch(chat, siblings[index + by].id));
  return html`
    <span class="branches" role="group" aria-label="Versions">
      <button type="button" class="text" aria-label="The version before" disabled=${isRunning || index === 0} onClick=${step(-1)}>‹</button>
      <span>${index + 1} / ${siblings.length}</span>
      <button type="button" class="text" aria-label="The version after" disabled=${isRunning || index === siblings.length - 1} onClick=${step(1)}>›</button>
    </span>
  `;
}
