// Checking a whole chain from the page: every citation again by the server, and that the links hold together.

import { ApiError, sendJson } from "./api.js";
import { corpusText, el, problem } from "./dom.js";

const AT_A_TIME = 4;
const encoder = new TextEncoder();

/**
 * Have the server open `citation` and check it again. `{status, detail, found}`: `found` is what the server gave, null
 * when the document was erased or its version replaced. Throws what `send` throws for any other failure.
 */
export async function checkCitation(citation, signal) {
  let found;
  try {
    found = await sendJson(`v1/citations/${encodeURIComponent(citation.citation_id)}`, { signal });
  } catch (error) {
    if (!(error instanceof ApiError && (error.status === 404 || error.status === 410))) throw error;
    return { status: "unverifiable", detail: `${error.message} ${error.hint}`.trim(), found: null };
  }
  const fault = contradiction(found, citation.place);
  return fault === "" ? { status: found.status, detail: found.detail, found } : { status: "wrong", detail: fault, found };
}

/** Why what the server gave cannot be what was cited; empty when it can. */
function contradiction({ place, context }, cited) {
  if (place.text !== cited.text || place.source_version !== cited.source_version) {
    return "the server has other words at this place now";
  }
  if (context.text !== place.text || context.byte_start + byteLength(context.before) !== place.byte_start) {
    return "the text around it is not that of its bytes";
  }
  return "";
}

/** The text at bytes `start` to `end` (UTF-8) of `text`; null where `text` has no such range. */
export function textAt(text, start, end) {
  const bytes = encoder.encode(text);
  if (start < 0 || end < start || end > bytes.length) return null;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(start, end));
}

function byteLength(text) {
  return encoder.encode(text).length;
}

/**
 * Check every citation of `chain`, and the byte ranges that tie sentences to the answer and quotes to passages.
 * `onStatus` is told of each citation. Resolves to what is shown; never rejects.
 */
export async function checkChain(chain, onStatus) {
  const { citations, sentences, text } = chain.answer;
  const faults = [];
  let verified = 0;
  try {
    for (let from = 0; from < citations.length; from += AT_A_TIME) {
      const some = citations.slice(from, from + AT_A_TIME);
      const results = await Promise.all(some.map((citation) => checkCitation(citation)));
      results.forEach(({ status, detail }, at) => {
        onStatus(some[at].citation_id, status, detail);
        if (status === "verified") verified += 1;
        else faults.push(`Citation ${from + at + 1}: ${detail}`);
      });
    }
  } catch (error) {
    return problem(error, "The chain could not be checked");
  }
  const placed = sentences.filter((s) => textAt(text, s.byte_start, s.byte_end) === s.text).length;
  const passages = new Map(chain.passages.map((passage) => [passage.rank, passage.place]));
  const inside = citations.filter(({ passage_rank: rank, place }) => {
    const whole = passages.get(rank);
    return (
      whole !== undefined &&
      whole.source_version === place.source_version &&
      textAt(whole.text, place.byte_start - whole.byte_start, place.byte_end - whole.byte_start) === place.text
    );
  }).length;
  if (placed < sentences.length) faults.push("A sentence does not stand at its bytes of the answer.");
  if (inside < citations.length) faults.push("A quote does not stand at its bytes of its passage.");
  return report({ verified, citations: citations.length, placed, sentences: sentences.length, inside }, faults);
}

function report({ verified, citations, placed, sentences, inside }, faults) {
  return el(
    "div",
    { class: faults.length ? "notice problem" : "notice good" },
    el("p", {}, el("strong", {}, faults.length ? "The chain does not hold." : "The chain holds.")),
    el(
      "ul",
      {},
      el("li", {}, `Citations verified against the source: ${verified} of ${citations}`),
      el("li", {}, `Quotes at their bytes of the passages: ${inside} of ${citations}`),
      el("li", {}, `Sentences at their bytes of the answer: ${placed} of ${sentences}`),
      ...faults.map((fault) => el("li", {}, corpusText(fault))),
    ),
  );
}
