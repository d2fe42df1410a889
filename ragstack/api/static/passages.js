// The passages an answer was made from, and why each was chosen.

import { corpusText, counted, el } from "./dom.js";

/** A folded list of the chain's passages, best first; an empty fragment when there are none. */
export function passageList(chain) {
  if (chain.passages.length === 0) return document.createDocumentFragment();
  const candidates = new Map(chain.candidates.map((candidate) => [candidate.chunk_id, candidate]));
  const cited = new Map();
  for (const { passage_rank: rank, marker } of chain.answer?.citations ?? []) cited.set(rank, marker);
  const rows = chain.passages.map((passage) => {
    const links = passage.chunk_ids.map((id) => candidates.get(id)).filter((link) => link !== undefined);
    return el("li", {}, passageRow(passage, links, cited.get(passage.rank)));
  });
  return el(
    "details",
    { class: "passages" },
    el("summary", {}, counted(chain.passages.length, "passage")),
    el("ol", { class: "passage-list" }, ...rows),
  );
}

function passageRow(passage, links, marker) {
  const { place } = passage;
  const summary = el(
    "summary",
    {},
    el("span", { class: "passage-rank", "aria-hidden": "true" }, String(passage.rank)),
    el(
      "span",
      { class: "passage-name" },
      corpusText(place.source_id),
      place.heading_path.length ? el("span", { class: "fine path" }, headingPath(place.heading_path)) : null,
    ),
    el(
      "span",
      { class: "fine passage-figures" },
      marker === undefined ? null : el("span", { class: "cited" }, `cited as [${marker}]`),
      el("span", {}, lines(place)),
      el("span", {}, `relevance ${passage.relevance.toFixed(2)}`),
    ),
  );
  return el(
    "details",
    { class: "passage" },
    summary,
    el("blockquote", { class: "corpus-text" }, corpusText(place.text)),
    sameWords(passage),
    whyTable(passage, links),
  );
}

/** Where else the words of a passage stand, if anywhere. */
function sameWords({ duplicates }) {
  if (duplicates.length === 0) return null;
  const places = duplicates.map(({ place }) => el("li", {}, corpusText(place.source_id), ` ${lines(place)}`));
  return el("div", { class: "fine" }, "The same words in", el("ul", {}, ...places));
}

/** `line 3`, `lines 3–7`. */
export function lines({ line_start: first, line_end: last }) {
  return first === last ? `line ${first}` : `lines ${first}–${last}`;
}

/** The headings above a place, outermost first. */
export function headingPath(headings) {
  const fragment = document.createDocumentFragment();
  headings.forEach((heading, number) => {
    if (number > 0) fragment.append(el("span", { "aria-hidden": "true", class: "separator" }, " › "));
    fragment.append(corpusText(heading));
  });
  return fragment;
}

function whyTable(passage, links) {
  const rows = [];
  for (const link of links) {
    const chunk = links.length > 1 ? `, bytes ${link.byte_start}–${link.byte_end}` : "";
    for (const [leg, { rank, score }] of Object.entries(link.legs)) rows.push([`${leg} search${chunk}`, rank, score]);
    rows.push([`fused${chunk}`, link.fused_rank, link.fused_score]);
  }
  rows.push(["reranked", passage.rank, passage.score]);
  const added = passage.added.length;
  const grown = added ? `. Grown by ${counted(added, "chunk")} around what was found` : "";
  const parts = Object.entries(passage.score_parts).map(([name, score]) => `${name} ${score.toFixed(3)}`);
  return el(
    "table",
    { class: "why" },
    el("caption", {}, "Why this passage"),
    el("thead", {}, el("tr", {}, ...["Stage", "Rank", "Score"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map(whyRow)),
    parts.length ? el("tfoot", {}, el("tr", {}, el("td", { colspan: 3 }, `Reranked by ${parts.join(", ")}${grown}`))) : null,
  );
}

function whyRow([stage, rank, score]) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, stage),
    el("td", {}, String(rank)),
    el("td", {}, score.toPrecision(4)),
  );
}
