// Asks for the API key of a gateway that wants one.

import { set, takeKey } from "../store.js";
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";

export function KeyDialog({ state }) {
  const dialog = useRef(null);
  const [key, setKey] = useState("");
  useEffect(() => dialog.current.showModal(), []);
  const close = () => set({ keyAsked: false });
  const submit = (event) => {
    event.preventDefault();
    takeKey(key);
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="key-title" onClose=${close}>
      <form onSubmit=${submit}>
        <h2 id="key-title">API key</h2>
        <p>Whoever runs this gateway gives out its keys. Yours stays in this tab until you close it, and goes to this gateway alone.</p>
        ${state.keyError && html`<p class="error" role="alert">${state.keyError}</p>`}
        <label>
          <span>Key</span>
          <input type="password" autocomplete="off" spellcheck="false" value=${key} onInput=${(event) => setKey(event.target.value)} />
        </label>
        <div class="row end">
          ${state.hasKey && html`<button type="button" onClick=${() => takeKey("")}>Forget the key</button>`}
          <button type="button" onClick=${close}>Cancel</button>
          <button type="submit" class="primary" disabled=${!key.trim()}>Use this key</button>
        </div>
      </form>
    </dialog>
  `;
}
