// The source panel: one citation opened at its bytes, checked by the server as it opens.

import { byId, corpusText, el, problem } from "./dom.js";
import { headingPath, lines } from "./passages.js";
import { checkCitation } from "./verify.js";

const VERDICTS = {
  verified: "Verified",
  source_changed: "The source has changed",
  source_missing: "The source is gone",
  wrong: "This does not hold",
  unverifiable: "Cannot be verified",
};

const HEX_WIDTH = 8;
const MAX_HEX_LINES = 64;

// From this width the panel stands beside the answer; below it covers the page.
const beside = window.matchMedia("(min-width: 62rem)");
const panel = byId("source");
let open = null; // {entries, index, markerOf, onStatus}
let loading = null;

/** Bind the keyboard. */
export function startSourcePanel() {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && open !== null && document.querySelector("dialog[open]") === null) {
      event.preventDefault();
      closeSource();
    }
  });
  beside.addEventListener("change", coverOrStandBeside);
}

/**
 * Open the panel at `entries[index]`; an entry is {citation, status, detail, sentence}. `markerOf` gives the button of
 * a citation id, which gets the focus back. `onStatus` is called with (citation id, status, detail) after a check.
 */
export function openSource({ entries, index, markerOf, onStatus }) {
  open = { entries, index, markerOf, onStatus };
  document.body.classList.add("with-source");
  panel.hidden = false;
  coverOrStandBeside();
  show();
}

/** Close it and give the focus back. */
export function closeSource() {
  if (open === null) return;
  const marker = open.markerOf(open.entries[open.index].citation.citation_id);
  open = null;
  loading?.abort();
  markCurrent(null);
  panel.hidden = true;
  panel.replaceChildren();
  document.body.classList.remove("with-source");
  coverOrStandBeside();
  if (marker.isConnected) marker.focus();
}

function coverOrStandBeside() {
  const covers = open !== null && !beside.matches;
  for (const element of document.querySelectorAll("#skip, .bar, #main")) element.inert = covers;
  if (covers) {
    panel.setAttribute("role", "dialog");
    panel.setAttribute("aria-modal", "true");
  } else {
    panel.removeAttribute("role");
    panel.removeAttribute("aria-modal");
  }
}

function markCurrent(marker) {
  document.querySelector(".marker[aria-current]")?.removeAttribute("aria-current");
  marker?.setAttribute("aria-current", "true");
}

async function show() {
  loading?.abort();
  const shown = new AbortController();
  loading = shown;
  const { entries, index, markerOf, onStatus } = open;
  const { citation, sentence } = entries[index];
  const verdict = el("p", { class: "verdict", role: "status", "data-status": "checking" }, "Checking…");
  const body = el("div", { class: "source-body" });
  const title = el("h2", { id: "source-title", tabindex: "-1" }, corpusText(citation.place.source_id));
  panel.replaceChildren(heading(title, entries.length, index, citation), verdict, body);
  markCurrent(markerOf(citation.citation_id));
  title.focus();
  let checked;
  try {
    checked = await checkCitation(citation, shown.signal);
  } catch (error) {
    if (shown.signal.aborted) return;
    verdict.dataset.status = "unverifiable";
    verdict.textContent = "Not checked";
    body.replaceChildren(problem(error, "The source could not be opened"));
    return;
  }
  if (shown.signal.aborted) return;
  const { status, detail, found } = checked;
  onStatus(citation.citation_id, status, detail);
  verdict.dataset.status = status;
  verdict.replaceChildren(el("strong", {}, VERDICTS[status] ?? status), ": ", corpusText(detail));
  if (found === null) return;
  body.replaceChildren(...content(found, citation, sentence));
  const mark = body.querySelector("mark");
  const box = body.querySelector(".source-text");
  // The quote a third down the box, so that what comes before it is in sight.
  box.scrollTop = mark.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3;
}

function heading(title, count, index, citation) {
  const step = (by, label, glyph) => {
    const button = el("button", { type: "button", class: "quiet step", "aria-label": label }, glyph);
    button.disabled = index + by < 0 || index + by >= count;
    button.addEventListener("click", () => {
      open.index = index + by;
      show();
    });
    return button;
  };
  return el(
    "header",
    { class: "source-head" },
    el(
      "div",
      { class: "source-nav" },
      el("span", { class: "fine" }, `Citation ${index + 1} of ${count}, marker [${citation.marker}]`),
      step(-1, "Previous citation", "‹"),
      step(1, "Next citation", "›"),
      el("button", { type: "button", class: "quiet", onclick: closeSource }, "Close"),
    ),
    title,
  );
}

function content({ place, context, source_base64: raw }, citation, sentence) {
  const isProse = /^text\/(plain|markdown|html)|pdf|word|presentation|opendocument|rfc822/.test(place.media_type);
  const text = el(
    "div",
    { class: isProse ? "source-text" : "source-text code", tabindex: "0", role: "region", "aria-label": "Text of the source" },
    corpusText(context.before, "span"),
    corpusText(context.text, "mark"),
    corpusText(context.after, "span"),
  );
  const where = el(
    "p",
    { class: "fine path" },
    headingPath(place.heading_path),
    place.heading_path.length ? el("span", { "aria-hidden": "true" }, ", ") : "",
    lines(place),
    `, bytes ${place.byte_start}–${place.byte_end}`,
  );
  return [where, text, supportOf(sentence), facts(place, citation), ...(raw ? [rawBytes(raw, place.source_ranges)] : [])];
}

function supportOf(sentence) {
  const how = sentence.verbatim ? "word for word from the source" : `support ${sentence.support.toFixed(2)} of 1`;
  return el(
    "div",
    { class: "support" },
    el("h3", {}, "The sentence that rests on it"),
    el("p", {}, corpusText(sentence.text)),
    el("p", { class: "fine" }, how),
  );
}

function facts(place, citation) {
  const ranges = place.source_ranges.map(({ byte_start: start, byte_end: end }) => `${start}–${end}`).join(", ");
  const raw = place.source_verbatim ? "word for word" : "after the format's escapes are undone";
  const rows = [
    ["Bytes of the text", `${place.byte_start}–${place.byte_end}`],
    ranges ? ["Bytes of the file", `${ranges} (${place.source_encoding}, ${raw})`] : null,
    place.source_locator ? ["Place in the file", JSON.stringify(place.source_locator)] : null,
    ["Version (SHA-256)", place.source_version],
    place.record ? ["Record", place.record] : null,
    ["Media type", place.media_type],
    ["Parser", place.parser],
    ["Read from", place.source_uri],
    ["Citation id", citation.citation_id],
  ];
  const list = el("dl", { class: "facts" });
  for (const row of rows) {
    if (row !== null) list.append(el("dt", {}, row[0]), el("dd", {}, corpusText(row[1])));
  }
  return list;
}

/** The bytes of the file that the citation rests on, as numbers. */
function rawBytes(base64, ranges) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const lines = [];
  let position = 0;
  for (const { byte_start: start, byte_end: end } of ranges) {
    for (let at = start; at < end && lines.length < MAX_HEX_LINES; at += HEX_WIDTH) {
      const some = bytes.subarray(position, position + Math.min(HEX_WIDTH, end - at));
      position += some.length;
      const hex = [...some].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
      const shown = [...some].map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
      lines.push(`${String(at).padStart(7)}  ${hex.padEnd(3 * HEX_WIDTH)} ${shown}`);
    }
  }
  if (position < bytes.length) lines.push(`… ${bytes.length - position} more`);
  return el(
    "details",
    { class: "raw" },
    el("summary", { class: "fine" }, "Bytes of the file, as numbers"),
    el("pre", { tabindex: "0", role: "region", "aria-label": "Bytes of the file" }, lines.join("\n")),
  );
}
