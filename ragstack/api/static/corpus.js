// The corpus: what is indexed, page by page, and deleting and re-indexing it.

import { sendJson } from "./api.js";
import { byId, corpusLabel, corpusText, counted, el, problem, size } from "./dom.js";
import { offer } from "./filter.js";
import { followJob, refreshJobs, startJobs, stopJobs } from "./jobs.js";
import { startUpload } from "./upload.js";

const PAGE = 50;

let cursor = null;
let shown = [];
let loads = 0;

/** Bind the view. */
export function startCorpus() {
  startJobs(() => loadDocuments(false));
  startUpload((job) => followJob(job), showProblem);
  byId("documents-more").addEventListener("click", () => loadDocuments(true));
  byId("reindex-button").addEventListener("click", reindex);
  byId("delete-cancel").addEventListener("click", () => byId("delete-dialog").close());
}

/** The view came into sight, or left it. */
export function showCorpus(isShown) {
  if (!isShown) {
    stopJobs();
    return;
  }
  refreshJobs();
  loadDocuments(false);
}

function showProblem(error, title) {
  byId("corpus-problem").replaceChildren(...(error === null ? [] : [problem(error, title)]));
}

async function loadDocuments(more) {
  byId("documents-more").disabled = true;
  loads += 1;
  const mine = loads;
  const query = new URLSearchParams({ limit: String(PAGE), ...(more && cursor ? { cursor } : {}) });
  try {
    const page = await sendJson(`v1/documents?${query}`);
    if (mine !== loads) return; // a later one is under way
    cursor = page.next_cursor ?? null;
    shown = more ? [...shown, ...page.documents] : page.documents;
    const rows = page.documents.map(documentRow);
    if (more) byId("documents").append(...rows);
    else byId("documents").replaceChildren(...rows);
    // The button that was pressed may be about to go.
    if (more) (rows[0]?.querySelector("button") ?? byId("documents-title")).focus();
  } catch (error) {
    showProblem(error, "The documents could not be listed");
    return;
  }
  byId("documents-more").disabled = false;
  byId("documents-empty").hidden = shown.length > 0;
  byId("documents-more").hidden = cursor === null;
  byId("documents-status").textContent = `${counted(shown.length, "document")} listed${cursor === null ? "" : ", more to show"}.`;
  offer(shown);
}

function documentRow(document_) {
  const { source_id: id } = document_;
  const remove = el("button", { type: "button", class: "quiet" }, "Delete");
  remove.setAttribute("aria-label", `Delete ${corpusLabel(id)}`);
  remove.addEventListener("click", () => confirmDelete(document_, remove));
  const facts = [
    size(document_.size_bytes),
    counted(document_.chunk_count, "chunk"),
    `indexed ${new Date(document_.indexed_at).toLocaleString()}`,
    `version ${document_.source_version.slice(0, 12)}`,
    document_.uploaded ? "uploaded" : null,
    document_.skipped === null ? null : `left out: ${document_.skipped}`,
  ];
  return el(
    "li",
    { class: "row" },
    el(
      "div",
      { class: "row-text" },
      el("span", { class: "row-name" }, corpusText(id)),
      el("span", { class: "fine" }, corpusText(facts.filter((fact) => fact !== null).join(" · "))),
    ),
    remove,
  );
}

function confirmDelete(document_, opener) {
  const dialog = byId("delete-dialog");
  const { source_id: id } = document_;
  byId("delete-text").replaceChildren(
    corpusText(id),
    " is erased from index and archive, and its citations can no longer be opened. ",
    document_.uploaded
      ? "The uploaded file is deleted too."
      : "The file itself stays in its folder; indexing that folder brings it back.",
  );
  const confirm = byId("delete-confirm");
  const act = async () => {
    dialog.close();
    try {
      const job = await sendJson(`v1/documents/${id.split("/").map(encodeURIComponent).join("/")}`, { method: "DELETE" });
      showProblem(null);
      followJob(job);
      byId("documents-title").focus();
    } catch (error) {
      showProblem(error, "The document was not deleted");
    }
  };
  confirm.addEventListener("click", act, { once: true });
  dialog.addEventListener(
    "close",
    () => {
      confirm.removeEventListener("click", act);
      if (opener.isConnected) opener.focus();
    },
    { once: true },
  );
  dialog.showModal();
  byId("delete-cancel").focus();
}

async function reindex() {
  try {
    followJob(await sendJson("v1/documents/reindex", { method: "POST", json: {} }));
    showProblem(null);
  } catch (error) {
    showProblem(error, "Re-indexing did not start");
  }
}
