// Markdown to safe nodes. Whatever the model wrote, no script, style, form, remote image or odd link comes out.

import { copyText } from "./clipboard.js";
import DOMPurify from "./vendor/dompurify.js";
import { Marked } from "./vendor/marked.js";

const TEXT_CHARS_MAX = 400_000;
const INLINE_HTML = /^<\/?(?:b|br|em|i|kbd|mark|s|strong|sub|sup|u)\s*\/?>$/i;
const LINK = /^(?:https?|mailto):/i;
const IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;

const SAFE = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "mark",
    "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
  ],
  ALLOWED_ATTR: ["href", "src", "alt", "title", "start", "align", "class"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: LINK,
  RETURN_DOM_FRAGMENT: true,
};

const escapeHtml = (text) =>
  text.replace(/[&<>"']/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[char]);

const marked = new Marked({
  gfm: true,
  renderer: {
    // Raw HTML is shown as it was written: a tag that vanished would hide what the model said.
    html: ({ text }) => (INLINE_HTML.test(text.trim()) ? text : escapeHtml(text)),
    image({ href, text }) {
      if (IMAGE.test(href)) return `<img src="${escapeHtml(href)}" alt="${escapeHtml(text)}">`;
      const label = `image: ${escapeHtml(text || href)}`;
      return LINK.test(href) ? `<a href="${escapeHtml(href)}">${label}</a>` : label;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  const name = node.nodeName;
  if (name === "IMG" && !IMAGE.test(node.getAttribute("src") ?? "")) node.remove();
  if (name === "A" && node.hasAttribute("href")) {
    node.setAttribute("rel", "noopener noreferrer");
    node.setAttribute("target", "_blank");
  }
  const isLabel = name === "CODE" && /^language-[\w+#.-]{1,30}$/.test(node.className);
  if (node.hasAttribute("class") && !isLabel) node.removeAttribute("class");
});

/** HTML from anywhere -> a fragment that is safe to insert. */
export const sanitise = (html) => DOMPurify.sanitize(html, SAFE);

/** [{mark, token}]: the blocks of a text; equal marks make equal nodes, so that a stream redraws its last block alone. */
export function splitBlocks(text) {
  let tokens;
  try {
    if (text.length > TEXT_CHARS_MAX) throw new RangeError("too long to be laid out");
    tokens = marked.lexer(text);
  } catch {
    return [{ mark: text, token: null, text }];
  }
  const links = Object.keys(tokens.links ?? {}).join(" ");
  return tokens.filter((one) => one.type !== "space" && one.type !== "def").map((token) => ({ mark: `${links}\n${token.raw}`, token, text: token.raw }));
}

/** A block as nodes; plain text where the parser gives up on it. */
export function renderBlock({ token, text }) {
  try {
    if (!token) throw new RangeError("no token");
    return decorate(sanitise(marked.parser([token])));
  } catch {
    const plain = document.createElement("p");
    plain.className = "plain";
    plain.textContent = text;
    return plain;
  }
}

function decorate(fragment) {
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(frameCode(pre));
  for (const table of fragment.querySelectorAll("table")) {
    const frame = make("div", "scroll");
    frame.tabIndex = 0;
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Table");
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

/** A code block with a bar that names its language and copies it. */
function frameCode(pre) {
  const code = pre.querySelector("code");
  const language = code?.className.replace(/^language-/, "") || "text";
  const frame = make("div", "code");
  const bar = make("div", "code-bar");
  const label = make("span", "code-language");
  label.textContent = language;
  const button = make("button", "quiet");
  button.type = "button";
  const say = (word) => {
    button.textContent = word;
    button.setAttribute("aria-label", word === "Copy" ? `Copy the ${language} code` : word);
  };
  say("Copy");
  button.addEventListener("click", async () => {
    say((await copyText(pre.textContent.replace(/\n$/, ""))) ? "Copied" : "Cannot copy");
    setTimeout(() => say("Copy"), 1500);
  });
  const body = pre.cloneNode(true);
  body.tabIndex = 0;
  body.setAttribute("role", "group");
  body.setAttribute("aria-label", `Code, ${language}`);
  bar.append(label, button);
  frame.append(bar, body);
  return frame;
}

function make(name, className) {
  const node = document.createElement(name);
  node.className = className;
  return node;
}
