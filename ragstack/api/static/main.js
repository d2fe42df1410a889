// Starts the page, and shows the view that the address names.

import { address, unreachable } from "./api.js";
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

/** Say why the server cannot answer yet, such as for want of an index; the question box works all the same. */
async function showReadiness() {
  let faults;
  try {
    const response = await fetch(address("v1/health/ready"), { cache: "no-store" });
    if (response.ok) faults = [];
    else faults = ((await response.json()).checks ?? []).filter(({ ok }) => !ok).map(({ detail }) => detail);
  } catch {
    faults = [unreachable().message];
  }
  const notices = faults.map((fault) => el("p", { class: "notice" }, el("strong", {}, "Not ready: "), corpusText(fault)));
  if (notices.length > 0) notices.push(el("p", {}, el("a", { href: "#corpus" }, "Go to the corpus")));
  byId("ready").replaceChildren(...notices);
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
