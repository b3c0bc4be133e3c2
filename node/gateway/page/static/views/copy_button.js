// A button that copies a text and says that it did.

import { copyText } from "../clipboard.js";
import { html, useState } from "../vendor/htm-preact.js";

export function CopyButton({ text, label, className = "text" }) {
  const [word, setWord] = useState("Copy");
  const copy = async () => {
    setWord((await copyText(text)) ? "Copied" : "Cannot copy");
    setTimeout(() => setWord("Copy"), 1500);
  };
  return html`<button type="button" class=${className} aria-label=${word === "Copy" ? label : word} onClick=${copy}>${word}</button>`;
}
