// What the user said, and editing it: an edited question begins a branch of its own.

import { html, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { Branches } from "./branches.js";
import { fitHeight } from "./composer.js";
import { CopyButton } from "./copy_button.js";

export function Question({ chat, node, isRunning, ask }) {
  const [isEdited, setEdited] = useState(false);
  const edit = useRef(null);
  const close = () => {
    setEdited(false);
    // The button comes back with the next drawing: it has the focus again then.
    requestAnimationFrame(() => (edit.current ?? document.querySelector("#question"))?.focus());
  };
  const save = (text) => {
    setEdited(false);
    ask(text);
    document.querySelector("#question")?.focus();
  };
  return html`
    <article class="question" aria-label="Question">
      ${isEdited
        ? html`<${Editor} text=${node.text} isRunning=${isRunning} save=${save} close=${close} />`
        : html`
            <div class="bubble">${node.text}</div>
            <div class="tools">
              <${Branches} chat=${chat} node=${node} isRunning=${isRunning} />
              <${CopyButton} text=${node.text} label="Copy the question" />
              <button type="button" class="text edit" ref=${edit} disabled=${isRunning} aria-label="Edit the question" onClick=${() => setEdited(true)}>Edit</button>
            </div>
          `}
    </article>
  `;
}

function Editor({ text: before, isRunning, save, close }) {
  const [text, setText] = useState(before);
  const field = useRef(null);
  useLayoutEffect(() => {
    field.current.focus();
    field.current.setSelectionRange(before.length, before.length);
  }, []);
  useLayoutEffect(() => fitHeight(field.current), [text]);
  const canSave = !isRunning && text.trim() !== "";
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (canSave) save(text);
    } else if (event.key === "Escape") {
      event.preventDefault();
      close();
    }
  };
  return html`
    <div class="editor">
      <textarea ref=${field} aria-label="Edit your question" value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${onKeyDown}></textarea>
      <div class="row end">
        <button type="button" onClick=${close}>Cancel</button>
        <button type="button" class="primary" disabled=${!canSave} onClick=${() => save(text)}>Ask anew</button>
      </div>
    </div>
  `;
}
