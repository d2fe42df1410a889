// Starts the page, and shows the view that the address names.

import { sendJson } from "./api.js";
import { startAsking } from "./ask.js";
import { showCorpus, startCorpus } from "./corpus.js";
import { byId, corpusText, el } from "./dom.js";
import { startFilter } from "./filter.js";
import { startKeyDialog } from "./key.js";
import { closeSource, startSourcePanel } from "./source.js";

const VIEWS = { ask: "Ask", corpus: "Corpus" };

function showView(byReader) {
  const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "ask";
  closeSource();
  for (const view of Object.keys(VIEWS)) byId(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[name]} – ragstack`;
  showCorpus(name === "corpus");
  if (name === "ask") showReadiness();
  // The heading says where the reader is now; on the first load the focus stays where the browser puts it.
  if (byReader && name === "corpus") byId("corpus-title").focus();
  else if (byReader) byId("question").focus();
}

async function showReadiness() {
  const place = byId("ready");
  try {
    await sendJson("v1/health/ready", { quiet: true });
    place.replaceChildren();
  } catch (error) {
    if (error.status === 401 || error.status === 403) return; // asked for once there is a question
    place.replaceChildren(
      el("p", { class: "notice" }, corpusText(error.message), " ", error.hint ? corpusText(error.hint) : ""),
      el("p", {}, el("a", { href: "#corpus" }, "Open the corpus")),
    );
  }
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash names views
  byId("main").focus();
});
window.addEventListener("hashchange", () => showView(true));
startKeyDialog();
startFilter();
startSourcePanel();
startAsking();
startCorpus();
showView(false);
