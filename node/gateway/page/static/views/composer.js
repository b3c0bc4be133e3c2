// Where one writes: the question, send or stop, and the parameters in a fold.

import { say, stop } from "../answering.js";
import { changeSettings } from "../store.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { sendIcon, stopIcon } from "./icons.js";

const HEIGHT_MAX = 240;

export function Composer({ state, chat }) {
  const [text, setText] = useState("");
  const field = useRef(null);
  const isRunning = Boolean(state.running);
  const canSend = !isRunning && state.modelsState === "ready" && text.trim() !== "";

  useEffect(() => field.current.focus(), []);
  useLayoutEffect(() => fitHeight(field.current), [text]);

  const send = () => {
    if (!canSend) return;
    say(text);
    setText("");
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && text === "" && !isRunning && chat) {
      const edits = document.querySelectorAll("button.edit");
      edits[edits.length - 1]?.click();
      if (edits.length) event.preventDefault();
    }
  };
  const onSubmit = (event) => {
    event.preventDefault();
    send();
  };
  return html`
    <form class="composer" onSubmit=${onSubmit}>
      <${Parameters} settings=${state.settings} />
      <div class="ask">
        <label class="hidden" for="question">Your question</label>
        <textarea id="question" ref=${field} rows="1" placeholder="Ask something" autocomplete="off" value=${text}
          aria-describedby="keys" onInput=${(event) => setText(event.target.value)} onKeyDown=${onKeyDown}></textarea>
        ${isRunning
          ? html`<button type="button" class="round" aria-label="Stop" title="Stop (Esc)" onClick=${stop}>${stopIcon()}</button>`
          : html`<button type="submit" class="round" aria-label="Send" title="Send (Enter)" disabled=${!canSend}>${sendIcon()}</button>`}
      </div>
      <p class="hint keys" id="keys">Enter sends, Shift+Enter starts a line, Esc stops, ↑ edits your last question. Models err: check what matters.</p>
    </form>
  `;
}

/** As high as its text, up to a limit; set through the style object, which the page's policy permits. */
export function fitHeight(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, HEIGHT_MAX)}px`;
}

const NUMBERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: "any", hint: "0 is the likeliest token" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: "any", hint: "share of likely tokens" },
  { name: "max_tokens", label: "Max tokens", min: 1, step: 1, hint: "longest answer" },
  { name: "seed", label: "Seed", min: 0, step: 1, hint: "same seed, same answer" },
];

function Parameters({ settings }) {
  const set = Object.entries(settings).filter(([name, value]) => name !== "model" && value.trim() !== "");
  return html`
    <details class="parameters">
      <summary>Parameters${set.length ? html` <span class="count">${set.length} set</span>` : ""}</summary>
      <div class="fields">
        ${NUMBERS.map(
          ({ name, label, hint, ...limits }) => html`
            <label key=${name}>
              <span>${label}</span>
              <input type="number" inputmode="decimal" name=${name} placeholder="default" title=${hint} value=${settings[name]} ...${limits}
                onInput=${(event) => changeSettings({ [name]: event.target.value })} />
            </label>
          `,
        )}
        <label class="wide">
          <span>System prompt</span>
          <textarea name="system" rows="2" placeholder="none" value=${settings.system}
            onInput=${(event) => changeSettings({ system: event.target.value })}></textarea>
        </label>
      </div>
    </details>
  `;
}
