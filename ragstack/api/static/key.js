// The dialog for the API key. The key is kept in this tab's session storage and nowhere else.

import { apiKey, onKeyNeeded, setApiKey } from "./api.js";
import { byId } from "./dom.js";

const FIRST = "It stays in this tab and is forgotten when you close it.";

let settle = null;

/** Bind the dialog, and have refused requests open it. */
export function startKeyDialog() {
  const dialog = byId("key-dialog");
  onKeyNeeded((reason) => openDialog(reason === "" ? `This server asks for a key. ${FIRST}` : `${reason} ${FIRST}`));
  byId("key-button").addEventListener("click", () => openDialog(`Sent with every request. ${FIRST}`));
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = byId("key-input").value.trim();
    if (key === "") return;
    setApiKey(key);
    close(true);
  });
  byId("key-cancel").addEventListener("click", () => close(false));
  byId("key-forget").addEventListener("click", () => {
    setApiKey(null);
    close(false);
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    close(false);
  });
  showWhetherSet();
}

function openDialog(reason) {
  byId("key-reason").textContent = reason;
  byId("key-forget").hidden = apiKey() === null;
  byId("key-input").value = "";
  const opened = new Promise((resolve) => {
    settle = resolve;
  });
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
  byId("key-input").focus();
  return opened;
}

function close(isNew) {
  byId("key-input").value = "";
  byId("key-dialog").close();
  showWhetherSet();
  settle?.(isNew);
  settle = null;
}

function showWhetherSet() {
  byId("key-button").textContent = apiKey() === null ? "API key" : "API key: set";
}
