// The shown branch of a conversation, newest at the bottom and in view while one reads there.

import { say, retry } from "../answering.js";
import { listPath } from "../conversation.js";
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { Answer } from "./answer.js";
import { downIcon } from "./icons.js";
import { Question } from "./question.js";

const NEAR_PX = 80;
const AFTERWARDS_MS = 300;

export function Messages({ state, chat }) {
  const log = useRef(null);
  const top = useRef(0);
  const column = useRef(null);
  const follow = useRef({ isFollowing: true, until: 0 });
  const [isFollowing, setFollowing] = useState(true);
  const path = chat ? listPath(chat) : [];
  const isRunning = Boolean(state.running);

  const toEnd = () => {
    log.current.scrollTop = log.current.scrollHeight;
  };
  // Only moving up stops the following: text that grows below moves nothing by itself.
  const onScroll = ({ target }) => {
    const isNear = target.scrollHeight - target.scrollTop - target.clientHeight < NEAR_PX;
    if (isNear) setFollowing(true);
    else if (target.scrollTop < top.current) setFollowing(false);
    top.current = target.scrollTop;
  };
  useEffect(() => {
    setFollowing(true);
    toEnd();
  }, [state.current, path.length]);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (follow.current.isFollowing && performance.now() < follow.current.until) toEnd();
    });
    observer.observe(column.current);
    return () => observer.disconnect();
  }, []);
  // The last drawing of an answer adds its figures: they are followed too. A fold that is opened later is not.
  follow.current = { isFollowing, until: isRunning ? Infinity : Math.min(follow.current.until, performance.now() + AFTERWARDS_MS) };

  return html`
    <div class="log" ref=${log} role="log" aria-label="Conversation" aria-live="polite" aria-busy=${String(isRunning)} tabindex="0"
      onScroll=${onScroll}>
      ${path.length === 0 && html`<${Welcome} state=${state} />`}
      <div class="column" ref=${column}>
        ${path.map((node) =>
          node.role === "user"
            ? html`<${Question} key=${node.id} chat=${chat} node=${node} isRunning=${isRunning} ask=${(text) => say(text, node.parent)} />`
            : html`<${Answer} key=${node.id} chat=${chat} node=${node} isRunning=${isRunning} again=${() => retry(node)} />`,
        )}
      </div>
    </div>
    ${!isFollowing && html`<button type="button" class="to-end" aria-label="To the newest message" onClick=${toEnd}>${downIcon()}</button>`}
  `;
}

function Welcome({ state }) {
  return html`
    <section class="welcome">
      <img src="/page/icon.svg" alt="" width="56" height="56" />
      <h1>Ask the network</h1>
      <p>
        Different people's computers hold the layers of ${state.settings.model ? html`<strong>${state.settings.model}</strong>` : "a model"} and
        answer together. Under each answer you see who computed it, what it cost, and what the chain found when it recomputed a part.
      </p>
    </section>
  `;
}
