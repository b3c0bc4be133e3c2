// The page's state in one place, and every change of it that is not the course of an answer (that is answering.js).

import { GatewayError, fetchModels, readKey, saveKey } from "./api.js";
import { makeChat, changeNode } from "./conversation.js";
import { deleteChat, loadChats, loadSettings, onOtherTab, saveChat, saveSettings } from "./storage.js";

const chats = loadChats();

/** Replaced as a whole by `set`; `chats` is newest first, `current` the id of the shown one or null for a new one. */
let state = {
  chats,
  current: chats[0]?.id ?? null,
  settings: loadSettings(),
  models: [],
  modelsState: "loading", // loading | ready | failed
  modelsError: "",
  keyAsked: false,
  keyError: "",
  hasKey: Boolean(readKey()),
  running: null, // {chat, node, stop()}
  status: "", // what screen readers hear
  notice: null, // {text, undo}
};
const listeners = new Set();

export const get = () => state;

export function set(change) {
  state = { ...state, ...change };
  for (const listener of listeners) listener(state);
}

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const findChat = (id) => state.chats.find((chat) => chat.id === id) ?? null;
export const currentChat = () => findChat(state.current);

/** Puts a conversation's new form in place; `isKept` false leaves the write for later. */
export function putChat(chat, isKept = true) {
  const others = state.chats.filter((one) => one.id !== chat.id);
  const sorted = [chat, ...others].sort((a, b) => b.updated - a.updated);
  set({ chats: sorted });
  if (isKept && !saveChat(chat)) set({ notice: { text: "This browser's storage is full or off: the conversation will not outlive this page." } });
}

export function updateNode(chatId, nodeId, change, isKept = true) {
  const chat = findChat(chatId);
  if (chat) putChat(changeNode(chat, nodeId, change), isKept);
}

/** The shown conversation, begun now if there is none. */
export function ensureChat() {
  const chat = currentChat() ?? makeChat(Date.now());
  if (!findChat(chat.id)) putChat(chat, false);
  set({ current: chat.id });
  return chat;
}

export const openChat = (id) => set({ current: id });

export function removeChats(ids) {
  const removed = state.chats.filter((chat) => ids.includes(chat.id));
  if (!removed.length) return;
  if (ids.includes(state.running?.chat)) state.running.stop();
  for (const chat of removed) deleteChat(chat.id);
  const left = state.chats.filter((chat) => !ids.includes(chat.id));
  const current = ids.includes(state.current) ? (left[0]?.id ?? null) : state.current;
  const text = removed.length === 1 ? "Conversation deleted." : `${removed.length} conversations deleted.`;
  const undo = () => {
    for (const chat of removed) putChat(chat);
    set({ current: removed[0].id, notice: null });
  };
  set({ chats: left, current, notice: { text, undo } });
}

export function changeSettings(change) {
  const settings = { ...state.settings, ...change };
  saveSettings(settings);
  set({ settings });
}

/** Asks for the models; a gateway that wants a key makes the page ask for one. */
export async function loadModels() {
  set({ modelsState: "loading", modelsError: "" });
  try {
    const models = await fetchModels();
    const isKnown = models.some((one) => one.id === state.settings.model);
    const first = models.find((one) => one.isServed) ?? models[0];
    if (!isKnown && first) changeSettings({ model: first.id });
    const modelsError = models.length ? "" : "This gateway offers no model now.";
    set({ models, modelsState: models.length ? "ready" : "failed", modelsError, keyAsked: false, keyError: "" });
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    set({ models: [], modelsState: "failed", modelsError: error.message });
    if (error.status === 401 || error.status === 403) askKey(readKey() ? error.message : "");
  }
}

export const askKey = (keyError = "") => set({ keyAsked: true, keyError });

export function takeKey(key) {
  saveKey(key.trim());
  set({ hasKey: Boolean(readKey()), keyAsked: false });
  return loadModels();
}

onOtherTab(() => {
  const running = state.running && findChat(state.running.chat);
  const fresh = loadChats().filter((chat) => chat.id !== running?.id);
  const all = running ? [running, ...fresh] : fresh;
  const current = all.some((chat) => chat.id === state.current) ? state.current : (all[0]?.id ?? null);
  set({ chats: all.sort((a, b) => b.updated - a.updated), current });
});
