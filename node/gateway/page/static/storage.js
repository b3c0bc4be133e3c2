// What the page keeps in this browser: conversations one by one, and settings. The API key is never here.

import { parseChat } from "./conversation.js";

const CHAT = "myelin.chat.";
const SETTINGS = "myelin.settings";

export const DEFAULT_SETTINGS = { model: "", temperature: "", top_p: "", max_tokens: "", seed: "", system: "" };

/** Every conversation that can be read, newest first. */
export function loadChats() {
  const found = [];
  try {
    for (const key of Object.keys(localStorage).filter((one) => one.startsWith(CHAT))) {
      const chat = parseChat(localStorage.getItem(key));
      if (chat && CHAT + chat.id === key) found.push(chat);
    }
  } catch {
    return [];
  }
  return found.sort((a, b) => b.updated - a.updated);
}

/** Whether it could be kept: storage may be full or off. */
export function saveChat(chat) {
  return write(CHAT + chat.id, JSON.stringify(chat));
}

export function deleteChat(id) {
  try {
    localStorage.removeItem(CHAT + id);
  } catch {
    // Nothing is kept where storage is off.
  }
}

export function loadSettings() {
  let stored = {};
  try {
    stored = JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") ?? {};
  } catch {
    // Damaged or switched off: the defaults.
  }
  const pairs = Object.keys(DEFAULT_SETTINGS).map((key) => [key, typeof stored[key] === "string" ? stored[key] : ""]);
  return Object.fromEntries(pairs);
}

export const saveSettings = (settings) => write(SETTINGS, JSON.stringify(settings));

/** Calls back when another tab changed a conversation. */
export function onOtherTab(callback) {
  addEventListener("storage", (event) => {
    if (event.key === null || event.key.startsWith(CHAT)) callback();
  });
}

function write(key, text) {
  try {
    localStorage.setItem(key, text);
    return true;
  } catch {
    return false;
  }
}
