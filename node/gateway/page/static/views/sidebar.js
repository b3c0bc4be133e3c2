// The conversations kept in this browser: begin, open, delete, save as a file.

import { saveFile } from "../clipboard.js";
import { findChat, openChat, removeChats } from "../store.js";
import { html } from "../vendor/htm-preact.js";
import { plusIcon, trashIcon } from "./icons.js";

export function Sidebar({ state, isHidden, isDrawn, close }) {
  const { chats, current } = state;
  const show = (id) => {
    openChat(id);
    if (isDrawn) close(id === null ? "#question" : "#open-conversations");
    else document.querySelector("#question").focus();
  };
  return html`
    <nav id="conversations" class=${`sidebar${isDrawn ? " drawn" : ""}`} hidden=${isHidden} aria-label="Conversations">
      <p class="brand"><img src="/page/icon.svg" alt="" width="26" height="26" /> Myelin</p>
      <button type="button" class="new" onClick=${() => show(null)}>${plusIcon()} New conversation</button>
      <ul class="chats" onKeyDown=${moveByArrows}>
        ${chats.map(
          (chat) => html`
            <li key=${chat.id} class=${chat.id === current ? "chat current" : "chat"}>
              <button type="button" class="open" aria-current=${chat.id === current ? "true" : "false"} onClick=${() => show(chat.id)}>
                ${chat.title || "Untitled"}
              </button>
              <button type="button" class="quiet square small" aria-label=${`Delete “${chat.title || "Untitled"}”`} title="Delete"
                onClick=${() => removeChats([chat.id])}>${trashIcon()}</button>
            </li>
          `,
        )}
      </ul>
      <div class="sidebar-end">
        <p class="hint">Conversations stay in this browser.</p>
        <div class="row">
          <button type="button" class="text" disabled=${!findChat(current)} onClick=${() => exportChats([findChat(current)])}>Export this</button>
          <button type="button" class="text" disabled=${!chats.length} onClick=${() => exportChats(chats)}>Export all</button>
          <button type="button" class="text" disabled=${!chats.length} onClick=${() => removeChats(chats.map((chat) => chat.id))}>Delete all</button>
        </div>
        ${isDrawn && html`<button type="button" class="text" onClick=${() => close()}>Close</button>`}
      </div>
    </nav>
  `;
}

/** Arrows walk through the list; Tab goes through every button as ever. */
function moveByArrows(event) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const buttons = [...event.currentTarget.querySelectorAll("button.open")];
  const item = event.target.closest("li");
  const index = buttons.findIndex((one) => one.closest("li") === item);
  buttons[index + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
  event.preventDefault();
}

function exportChats(chats) {
  const day = new Date().toISOString().slice(0, 10);
  const name = chats.length === 1 ? `myelin-conversation-${day}.json` : `myelin-conversations-${day}.json`;
  saveFile(name, `${JSON.stringify({ format: "myelin-conversations/1", conversations: chats }, null, 2)}\n`);
}
