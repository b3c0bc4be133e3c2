// A conversation is a tree of messages; what is shown is the way from its root to one leaf. Pure: no storage, no page.

/** A name that is unique enough for a browser's storage. crypto.randomUUID exists on https and localhost alone. */
export function makeId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function makeChat(now) {
  return { id: makeId(), title: "", created: now, updated: now, leaf: null, nodes: {} };
}

/** The conversation with a message more: a child of `node.parent` (null: a new root), shown from now on. */
export function addNode(chat, node, now) {
  const title = chat.title || (node.role === "user" ? makeTitle(node.text) : "");
  return { ...chat, title, updated: now, leaf: node.id, nodes: { ...chat.nodes, [node.id]: node } };
}

export function changeNode(chat, id, change) {
  if (!chat.nodes[id]) return chat;
  return { ...chat, nodes: { ...chat.nodes, [id]: { ...chat.nodes[id], ...change } } };
}

/** Messages from the root to `leaf`, in order. */
export function listPath(chat, leaf = chat.leaf) {
  const path = [];
  for (let node = chat.nodes[leaf]; node; node = chat.nodes[node.parent]) path.unshift(node);
  return path;
}

/** A message and those beside it, oldest first. */
export function listSiblings(chat, node) {
  return Object.values(chat.nodes).filter((one) => one.parent === node.parent);
}

/** The conversation on the branch of `id`, at its newest leaf. */
export function showBranch(chat, id) {
  let leaf = id;
  for (;;) {
    const children = Object.values(chat.nodes).filter((one) => one.parent === leaf);
    if (!children.length) return { ...chat, leaf };
    leaf = children.at(-1).id;
  }
}

/** What the model is asked: the system prompt and all that was said up to `leaf`. Answers without text say nothing. */
export function makeMessages(chat, leaf, system) {
  const said = listPath(chat, leaf).filter((one) => one.text);
  const messages = said.map((one) => ({ role: one.role, content: one.text }));
  return system ? [{ role: "system", content: system }, ...messages] : messages;
}

/** A conversation read from storage, or null where it is none. An answer that was being written was cut. */
export function parseChat(text) {
  let chat;
  try {
    chat = JSON.parse(text);
  } catch {
    return null;
  }
  const isChat = chat && typeof chat.id === "string" && chat.nodes && typeof chat.nodes === "object";
  if (!isChat || !Object.values(chat.nodes).every(isNode) || hasCycle(chat.nodes)) return null;
  for (const node of Object.values(chat.nodes)) {
    if (node.status === "streaming") Object.assign(node, { status: "cut", error: { message: "The page was left before the answer was complete." } });
  }
  return { ...chat, title: String(chat.title ?? ""), created: Number(chat.created) || 0, updated: Number(chat.updated) || 0 };
}

const isNode = (node) =>
  node && typeof node.id === "string" && typeof node.text === "string" && ["user", "assistant"].includes(node.role);

function hasCycle(nodes) {
  return Object.values(nodes).some((node) => {
    const seen = new Set();
    for (let at = node; at; at = nodes[at.parent]) {
      if (seen.has(at.id)) return true;
      seen.add(at.id);
    }
    return false;
  });
}

function makeTitle(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}
