// One turn of the conversation: the question, the answer as it streams, its account and its passages.

import { corpusLabel, corpusText, counted, el, problem } from "./dom.js";
import { passageList } from "./passages.js";
import { openSource } from "./source.js";
import { checkChain } from "./verify.js";

/** How a status is said. `verified` is the only good one. */
const STATUS_NAMES = {
  verified: "verified",
  source_changed: "source changed",
  source_missing: "source missing",
  wrong: "wrong",
  unverifiable: "cannot be verified",
};

export class Answer {
  constructor(question, number) {
    this.citations = new Map(); // by id: {citation, status, detail, sentence}
    this.markers = []; // {ids, button} of every marker shown
    this.sentences = [];
    const title = `question-${number}`;
    this.text = el("p", { class: "answer", "aria-live": "polite" });
    this.status = el("p", { class: "turn-status working", role: "status" }, "Searching…");
    this.account = el("div", { class: "account" });
    this.passages = el("div");
    const heading = el("h2", { id: title, class: "question" }, corpusText(question));
    this.element = el("article", { class: "turn", "aria-labelledby": title }, heading);
    this.element.append(this.text, this.status, this.account, this.passages);
  }

  /** Retrieval has ended. */
  passagesFound(chain) {
    this._say(chain.passages.length ? `${counted(chain.passages.length, "passage")} found. Writing…` : "Writing…", true);
    this.passages.replaceChildren(passageList(chain));
  }

  /** One more sentence, with the citations that were not told before. */
  sentenceWritten({ sentence, citations, delta }) {
    for (const { citation, status, detail } of citations) {
      this.citations.set(citation.citation_id, { citation, status, detail, sentence });
    }
    this.sentences.push(sentence);
    const at = delta.indexOf(sentence.text);
    const shown = el("span", { class: "sentence" }, corpusText(sentence.text));
    if (sentence.citation_ids.length === 0) {
      shown.classList.add("without-source");
      shown.append(el("span", { class: "visually-hidden" }, " (no source)"));
    }
    for (const button of this._markersOf(sentence)) shown.append(" ", button);
    this.text.append(at > 0 ? delta.slice(0, at) : "", shown);
  }

  _markersOf(sentence) {
    const byMarker = new Map();
    for (const id of sentence.citation_ids) {
      const found = this.citations.get(id);
      if (found === undefined) continue;
      byMarker.set(found.citation.marker, [...(byMarker.get(found.citation.marker) ?? []), id]);
    }
    return [...byMarker].map(([marker, ids]) => {
      const button = el("button", { type: "button", class: "marker" }, `[${marker}]`);
      const entry = { ids, button };
      button.addEventListener("click", () => this._open(ids[0]));
      this.markers.push(entry);
      this._showStatus(entry);
      return button;
    });
  }

  _showStatus({ ids, button }) {
    const found = ids.map((id) => this.citations.get(id));
    const worst = found.find((entry) => entry.status !== "verified") ?? found[0];
    button.dataset.status = worst.status;
    const { marker, place } = worst.citation;
    const source = corpusLabel(place.source_id);
    button.setAttribute("aria-label", `[${marker}] source ${source}, ${STATUS_NAMES[worst.status]}`);
    button.title = `${source}: ${STATUS_NAMES[worst.status]}`;
  }

  _open(id) {
    openSource({
      entries: [...this.citations.values()],
      index: [...this.citations.keys()].indexOf(id),
      markerOf: (citationId) => this.markers.find(({ ids }) => ids.includes(citationId)).button,
      onStatus: (citationId, status, detail) => this.setStatus(citationId, status, detail),
    });
  }

  /** A citation has been checked again. */
  setStatus(id, status, detail) {
    Object.assign(this.citations.get(id), { status, detail });
    for (const marker of this.markers) if (marker.ids.includes(id)) this._showStatus(marker);
  }

  /** The answer without its markers, as the next question's history. */
  plainText() {
    return this.sentences.map((sentence) => sentence.text).join(" ");
  }

  /** The end: `chain` whole, and its JSON as it was sent. */
  done(chain, chainText) {
    const { answer } = chain;
    this.passages.replaceChildren(passageList(chain));
    if (answer.text === "" && answer.error === null) {
      this._say("Nothing in the corpus answers this.", false);
      this.status.classList.add("plain");
      if (chain.passages.length > 0) this.account.append(el("p", {}, "The nearest passages are below; they do not bear an answer out."));
    } else {
      const sources = new Set(answer.citations.map((citation) => citation.marker)).size;
      this._say(
        `${counted(answer.sentences.length, "sentence")} from ${counted(sources, "source")}, ` +
          `${(1000 * chain.timings_s.total).toFixed(0)} ms, ${answer.generator}`,
        false,
      );
    }
    if (answer.error !== null) {
      this.account.append(problem(answer.error, "The answer broke off"));
      this.openPassages();
    }
    for (const note of notes(chain)) this.account.append(el("p", {}, note));
    this.account.append(this._tools(chain, chainText));
  }

  _tools(chain, chainText) {
    const result = el("div", { class: "check-result", role: "status" });
    const check = el("button", { type: "button", class: "quiet" }, "Verify the chain");
    check.addEventListener("click", async () => {
      check.disabled = true;
      result.replaceChildren("Checking every citation…");
      const report = await checkChain(chain, (id, status, detail) => this.setStatus(id, status, detail));
      result.replaceChildren(report);
      check.disabled = false;
      check.focus();
    });
    const save = el("button", { type: "button", class: "quiet" }, "Download the chain");
    save.addEventListener("click", () => download(chainText, `chain-${chain.digest.slice(0, 12)}.json`));
    const hasCitations = chain.answer.citations.length > 0;
    return el("div", {}, el("div", { class: "account-row" }, hasCitations ? check : null, save), result);
  }

  /** The reader stopped it. */
  stopped() {
    this._say(this.sentences.length ? "Stopped. What is above holds." : "Stopped.", false);
  }

  /** It went wrong; what is shown already stays. */
  failed(error) {
    this._say("", false);
    this.account.append(problem(error));
    this.openPassages();
  }

  /** Unfold the list of passages, if there is one. */
  openPassages() {
    const list = this.passages.querySelector("details");
    if (list !== null) list.open = true;
  }

  _say(text, working) {
    this.status.textContent = text;
    this.status.classList.toggle("working", working);
  }
}

/** What a reader must know about how the answer was made. */
function notes({ query, answer }) {
  const found = [];
  if (query.search_text !== query.text) found.push(el("span", {}, "Searched for: ", corpusText(query.search_text)));
  if (query.filter !== null) found.push(el("span", {}, "Filter: ", el("code", {}, corpusText(JSON.stringify(query.filter)))));
  if (answer.truncated) found.push("The model stopped at its limit: the answer may be unfinished.");
  if (answer.dropped_markers > 0) {
    found.push(`${counted(answer.dropped_markers, "marker")} named no passage and ${were(answer.dropped_markers)} dropped.`);
  }
  if (answer.dropped_quotes > 0) {
    found.push(`${counted(answer.dropped_quotes, "quote")} ${were(answer.dropped_quotes)} not found in the source and dropped.`);
  }
  if (answer.left_out.length > 0) {
    found.push(`${counted(answer.left_out.length, "passage")} did not fit the model's context: ${answer.left_out.join(", ")}.`);
  }
  return found;
}

function were(count) {
  return count === 1 ? "was" : "were";
}

function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
