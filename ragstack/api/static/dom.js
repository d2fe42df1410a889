// Building the page from nodes. Text is only ever put in as text: nothing here, or anywhere in this page,
// makes markup out of a string.

// Characters that change how the text around them is shown or are not shown at all (Unicode's bidirectional
// embeddings, overrides and isolates; control characters other than tab and line ends). They are made visible:
// a source must not look other than its bytes are.
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/gu;

/** The element with this id; an error when the page has none. */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element #${id}`);
  return found;
}

/** A new element. `attributes` with value null or false are left out; `children` are nodes or strings. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== false) element.setAttribute(key, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function codeOf(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Text of the corpus: apart from its surroundings in writing direction, with what would be hidden made visible. */
export function corpusText(text, name = "bdi") {
  const element = el(name, { dir: "auto" });
  let position = 0;
  for (const match of text.matchAll(HIDDEN)) {
    const code = el("span", { class: "hidden-character", "data-code": codeOf(match[0]) });
    element.append(text.slice(position, match.index), code);
    position = match.index + match[0].length;
  }
  element.append(text.slice(position));
  return element;
}

/** The same for where there is room for characters alone, such as a label. */
export function corpusLabel(text) {
  return text.replace(HIDDEN, codeOf);
}

/** What went wrong, what to do, and the id to find it in the server's log by. */
export function problem(error, title = "That did not work") {
  return el(
    "div",
    { class: "notice problem", role: "alert" },
    el("p", {}, el("strong", {}, `${title}:`), " ", corpusText(error.message)),
    error.hint ? el("p", {}, corpusText(error.hint)) : null,
    error.requestId ? el("p", { class: "fine" }, "Request id ", el("code", {}, corpusText(error.requestId))) : null,
  );
}

/** `1 passage`, `2 passages`. */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** A size in decimal units. */
export function size(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}
