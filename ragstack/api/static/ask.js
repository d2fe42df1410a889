// Asking: the form, the stream of one answer, and the turns of the conversation so far.

import { ApiError, send, unreachable } from "./api.js";
import { Answer } from "./answer.js";
import { byId } from "./dom.js";
import { currentFilter, filterError, showFilter } from "./filter.js";
import { closeSource } from "./source.js";
import { events } from "./sse.js";

// Turns sent with a question, questions and answers counted: enough for what it leans on, and under the
// server's limit on turns.
const HISTORY_TURNS = 10;

/** What was asked and answered, oldest first; forgotten with the page. */
let history = [];
let running = null;
let asked = 0;

const form = byId("ask-form");
const question = byId("question");

/** Bind the form. */
export function startAsking() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  question.addEventListener("input", fitHeight);
  byId("stop-button").addEventListener("click", () => {
    running?.abort();
    question.focus();
  });
  byId("new-button").addEventListener("click", startAnew);
}

function fitHeight() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight + 2}px`;
}

function startAnew() {
  running?.abort();
  history = [];
  closeSource();
  byId("turns").replaceChildren();
  byId("welcome").hidden = false;
  byId("new-button").hidden = true;
  question.focus();
}

async function ask() {
  const text = question.value.trim();
  if (running !== null || text === "") return;
  if (filterError() !== null) {
    showFilter();
    byId("filter-json").focus();
    return;
  }
  const abort = new AbortController();
  running = abort;
  asked += 1;
  const answer = new Answer(text, asked);
  byId("welcome").hidden = true;
  byId("turns").append(answer.element);
  answer.element.scrollIntoView({ block: "start" });
  question.value = "";
  fitHeight();
  showRunning(true);
  try {
    const chain = await stream(text, answer, abort.signal);
    if (chain.answer?.text && !chain.answer.error) {
      history.push({ role: "user", content: text }, { role: "assistant", content: answer.plainText() });
      history = history.slice(-HISTORY_TURNS);
    }
  } catch (error) {
    if (abort.signal.aborted) answer.stopped();
    else answer.failed(error);
  } finally {
    running = null;
    showRunning(false);
  }
}

function showRunning(is) {
  byId("ask-button").hidden = is;
  byId("stop-button").hidden = !is;
  byId("new-button").hidden = asked === 0 || byId("turns").childElementCount === 0;
  form.setAttribute("aria-busy", String(is));
}

async function stream(text, answer, signal) {
  const { filter, topN } = currentFilter();
  const body = { query: text, stream: true };
  if (filter !== null) body.filter = filter;
  if (topN !== null) body.top_n = topN;
  if (history.length > 0) body.history = history;
  const response = await send("v1/query", { method: "POST", json: body, signal });
  try {
    for await (const { event, data } of events(response.body)) {
      const value = JSON.parse(data);
      if (event === "passages") answer.passagesFound(value.chain);
      else if (event === "sentence") answer.sentenceWritten(value);
      else if (event === "error") throw ApiError.fromBody(0, value, response.headers.get("x-request-id") ?? "");
      else if (event === "done") {
        answer.done(value.chain, chainText(data));
        return value.chain;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    if (error instanceof TypeError) throw unreachable(); // how a fetch tells that the connection was lost
    throw error;
  }
  throw new ApiError(0, {
    message: "the connection ended before the answer did.",
    hint: "What came before it holds. Ask again.",
    requestId: response.headers.get("x-request-id") ?? "",
  });
}

/**
 * The chain's JSON as it was sent. Its digest covers how numbers are written, and reading and writing them again
 * here would turn 1.0 into 1.
 */
function chainText(data) {
  const text = data.slice(data.indexOf(":") + 1, data.lastIndexOf("}")).trim();
  JSON.parse(text); // an event of another make must not end up in a file
  return text;
}

