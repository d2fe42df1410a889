// The filter of a question: JSON in ragstack's filter grammar, and a small builder that writes it.

import { sendJson } from "./api.js";
import { byId } from "./dom.js";

const OPS = ["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists", "contains"];
const MAX_DEPTH = 32;

const OFFERED = 500; // documents whose values are offered

let offered = null;

const json = byId("filter-json");
const topN = byId("top-n");

/** Bind the panel. */
export function startFilter() {
  byId("filter-button").addEventListener("click", () => {
    if (byId("filter-panel").hidden) showFilter();
    else hideFilter();
  });
  byId("filter-field").addEventListener("change", showOffer);
  byId("filter-add").addEventListener("click", addCondition);
  byId("filter-value").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    addCondition();
  });
  byId("filter-clear").addEventListener("click", () => {
    json.value = "";
    topN.value = "";
    validate();
    json.focus();
  });
  byId("filter-panel").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    hideFilter();
    byId("filter-button").focus();
  });
  json.addEventListener("input", validate);
  topN.addEventListener("input", validate);
}

/** Unfold the panel. */
export function showFilter() {
  byId("filter-panel").hidden = false;
  byId("filter-button").setAttribute("aria-expanded", "true");
  byId("filter-field").focus();
  fetchOffer();
}

function hideFilter() {
  byId("filter-panel").hidden = true;
  byId("filter-button").setAttribute("aria-expanded", "false");
}

/** Documents whose ids and media types the builder offers. */
export function offer(documents) {
  offered = documents;
  showOffer();
}

function showOffer() {
  const field = byId("filter-field").value;
  const values = new Set((offered ?? []).map((document_) => document_[field]));
  byId("filter-values").replaceChildren(
    ...[...values].sort().map((value) => {
      const option = document.createElement("option");
      option.value = value;
      return option;
    }),
  );
}

async function fetchOffer() {
  if (offered !== null) return;
  offered = [];
  try {
    offer((await sendJson(`v1/documents?limit=${OFFERED}`)).documents);
  } catch (error) {
    // A value can be typed as well: a hint that cannot be had is worth one line.
    byId("filter-message").textContent = `No values to choose from: ${error.message}`;
    offered = null;
  }
}

/** What is set: the filter or null, and the number of passages or null. Only after filterError() gave null. */
export function currentFilter() {
  const text = json.value.trim();
  return { filter: text ? JSON.parse(text) : null, topN: topN.value ? Number(topN.value) : null };
}

/** What is wrong with the filter or the number of passages; null when nothing is. */
export function filterError() {
  if (!topN.checkValidity()) return "Passages to keep: a whole number from 1 to 100.";
  const text = json.value.trim();
  if (!text) return null;
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return `Not JSON: ${error.message}.`;
  }
  return faultIn(value, "filter", 0);
}

function validate() {
  const fault = filterError();
  const isSet = json.value.trim() !== "" || topN.value !== "";
  json.setAttribute("aria-invalid", String(fault !== null));
  byId("filter-message").textContent = fault ?? (json.value.trim() ? "This filter can be used." : "");
  byId("filter-message").classList.toggle("bad", fault !== null);
  byId("filter-button").textContent = isSet ? "Filter: on" : "Filter";
}

function addCondition() {
  const value = byId("filter-value").value.trim();
  if (value === "") {
    byId("filter-value").focus();
    return;
  }
  const condition = { field: byId("filter-field").value, op: byId("filter-op").value, value };
  let whole = condition;
  if (json.value.trim()) {
    if (filterError() !== null) {
      json.focus();
      return;
    }
    const present = JSON.parse(json.value);
    whole = { and: Array.isArray(present.and) ? [...present.and, condition] : [present, condition] };
  }
  json.value = JSON.stringify(whole, null, 1).replace(/\n\s*/g, " ");
  byId("filter-value").value = "";
  byId("filter-value").focus();
  validate();
}

// The same rules, in the same words, as ragstack.filters; which fields there are is for the server to say.
function faultIn(value, where, depth) {
  if (depth > MAX_DEPTH) return `${where}: nested deeper than ${MAX_DEPTH} levels.`;
  if (value === null || typeof value !== "object" || Array.isArray(value)) return `${where}: expected an object.`;
  const keys = Object.keys(value);
  const combiner = ["and", "or", "not"].find((key) => keys.includes(key));
  if (combiner !== undefined) {
    if (keys.length > 1) return `${where}: "${combiner}" stands alone in its object.`;
    if (combiner === "not") return faultIn(value.not, `${where}.not`, depth + 1);
    if (!Array.isArray(value[combiner])) return `${where}.${combiner}: expected a list of filters.`;
    const faults = value[combiner].map((part, i) => faultIn(part, `${where}.${combiner}[${i}]`, depth + 1));
    return faults.find((fault) => fault !== null) ?? null;
  }
  if (keys.length !== 3 || !["field", "op", "value"].every((key) => keys.includes(key))) {
    return `${where}: expected exactly the keys field, op and value.`;
  }
  if (typeof value.field !== "string" || value.field === "") return `${where}.field: expected a field name.`;
  if (!OPS.includes(value.op)) return `${where}.op: unknown operator. Operators: ${OPS.join(", ")}.`;
  return operandFault(value.op, value.value, `${where}.value`);
}

function operandFault(op, operand, where) {
  const isScalar = (one) => ["string", "boolean"].includes(typeof one) || Number.isFinite(one);
  if (op === "in" || op === "nin") {
    const isList = Array.isArray(operand) && operand.every(isScalar);
    return isList ? null : `${where}: "${op}" takes a list of strings, numbers or booleans.`;
  }
  if (op === "exists") return typeof operand === "boolean" ? null : `${where}: "exists" takes true or false.`;
  if (!isScalar(operand)) return `${where}: "${op}" takes one string, number or boolean.`;
  const compares = ["gt", "gte", "lt", "lte"].includes(op);
  return compares && typeof operand === "boolean" ? `${where}: "${op}" takes a number or a date.` : null;
}
