// The bar above a conversation: which model answers, light or dark, the key.

import { askKey, changeSettings, loadModels } from "../store.js";
import { html, useState } from "../vendor/htm-preact.js";
import { keyIcon, menuIcon } from "./icons.js";

const THEMES = { system: "Auto", light: "Light", dark: "Dark" };

export function Topbar({ state, isNarrow, isOpen, open }) {
  return html`
    <header class="topbar">
      ${isNarrow &&
      html`<button type="button" class="quiet square" id="open-conversations" aria-label="Conversations" aria-controls="conversations"
        aria-expanded=${String(isOpen)} onClick=${open}>${menuIcon()}</button>`}
      <${ModelChoice} state=${state} />
      <span class="spring"></span>
      <${ThemeChoice} />
      <button type="button" class="quiet square" aria-label=${state.hasKey ? "Change the API key" : "Enter an API key"} title="API key"
        onClick=${() => askKey()}>${keyIcon()}</button>
    </header>
  `;
}

function ModelChoice({ state }) {
  if (state.modelsState === "loading") return html`<span class="model-state">Looking for models…</span>`;
  if (state.modelsState === "failed") {
    return html`
      <span class="model-state" role="alert">${state.modelsError}</span>
      <button type="button" onClick=${loadModels}>Try again</button>
    `;
  }
  return html`
    <label class="hidden" for="model">Model</label>
    <select id="model" class="model" value=${state.settings.model} onChange=${(event) => changeSettings({ model: event.target.value })}>
      ${state.models.map(
        ({ id, isServed }) => html`
          <option value=${id} selected=${id === state.settings.model}>${isServed ? id : `${id} (no workers now)`}</option>
        `,
      )}
    </select>
  `;
}

function ThemeChoice() {
  const [theme, setTheme] = useState(window.myelinTheme.read());
  const choose = (event) => {
    window.myelinTheme.choose(event.target.value);
    setTheme(event.target.value);
  };
  return html`
    <label class="hidden" for="theme">Colours</label>
    <select id="theme" class="theme" value=${theme} onChange=${choose}>
      ${Object.entries(THEMES).map(([value, label]) => html`<option value=${value} selected=${value === theme}>${label}</option>`)}
    </select>
  `;
}
