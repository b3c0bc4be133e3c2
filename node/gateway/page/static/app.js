// Puts the page together: what lies where, the keys that work everywhere, and what follows a change of conversation.

import { stop } from "./answering.js";
import { followShown } from "./following.js";
import { currentChat, get, loadModels, set, subscribe } from "./store.js";
import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Composer } from "./views/composer.js";
import { KeyDialog } from "./views/key_dialog.js";
import { Messages } from "./views/messages.js";
import { Sidebar } from "./views/sidebar.js";
import { Topbar } from "./views/topbar.js";

const NARROW = matchMedia("(max-width: 52rem)");

function App() {
  const [state, setState] = useState(get());
  const [isOpen, setOpen] = useState(false); // the list of conversations, on narrow screens
  const [isNarrow, setNarrow] = useState(NARROW.matches);
  const focusNext = useRef(null);
  const chat = currentChat();
  const isDrawn = isNarrow && isOpen;

  useEffect(() => subscribe(setState), []);
  useEffect(() => {
    const onChange = () => setNarrow(NARROW.matches);
    NARROW.addEventListener("change", onChange);
    return () => NARROW.removeEventListener("change", onChange);
  }, []);
  useEffect(() => followShown(currentChat()), [state.current]);
  useEffect(() => {
    document.title = chat?.title ? `${chat.title} · Myelin` : "Myelin";
  }, [chat?.title]);
  useEffect(() => {
    const onKey = (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (isDrawn) close();
      else stop();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [isDrawn]);
  // What is behind the drawn list takes no focus before the list is gone.
  useEffect(() => {
    const target = isDrawn ? "#conversations button" : focusNext.current;
    focusNext.current = null;
    if (target) document.querySelector(target)?.focus();
  }, [isDrawn]);

  const close = (target = "#open-conversations") => {
    focusNext.current = target;
    setOpen(false);
  };

  return html`
    <a class="skip" href="#question" onClick=${skipToQuestion}>Skip to the question</a>
    <div class="page">
      <${Sidebar} state=${state} isHidden=${isNarrow && !isOpen} isDrawn=${isDrawn} close=${close} />
      ${isDrawn && html`<div class="shade" onClick=${() => close()}></div>`}
      <div class="main" inert=${isDrawn}>
        <${Topbar} state=${state} isNarrow=${isNarrow} isOpen=${isOpen} open=${() => setOpen(true)} />
        <main><${Messages} state=${state} chat=${chat} /></main>
        <${Composer} state=${state} chat=${chat} />
      </div>
    </div>
    <p class="hidden" role="status">${state.status}</p>
    ${state.notice && html`<${Notice} notice=${state.notice} />`}
    ${state.keyAsked && html`<${KeyDialog} state=${state} />`}
  `;
}

function Notice({ notice }) {
  return html`
    <div class="notice" role="status">
      <span>${notice.text}</span>
      ${notice.undo && html`<button type="button" onClick=${notice.undo}>Undo</button>`}
      <button type="button" onClick=${() => set({ notice: null })}>Dismiss</button>
    </div>
  `;
}

function skipToQuestion(event) {
  event.preventDefault();
  document.querySelector("#question").focus();
}

render(html`<${App} />`, document.querySelector("#app"));
loadModels();
