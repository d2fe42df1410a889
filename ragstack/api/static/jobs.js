// Jobs of the index: what runs, how far it is, how it ended.

import { sendJson } from "./api.js";
import { byId, corpusText, counted, el, problem } from "./dom.js";

const POLL_MS = 700;
const SHOWN = 8;
const FOLDED = 4; // more lines than these about one job are folded
const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };
const KINDS = { upload: "Upload", index: "Index", delete: "Delete" };
// Counts of a report that are worth a reader's while, in this order.
const COUNTS = ["added", "changed", "unchanged", "deleted"];

let timer = null;
let asked = 0;
let onEnd = () => {};
const rows = new Map(); // by job id: the nodes that change, so that a focused button stays while others move

/** Bind; `ended` is called when a job that was under way has ended. */
export function startJobs(ended) {
  onEnd = ended;
}

/** Stop asking: the view is out of sight. */
export function stopJobs() {
  asked += 1;
  clearTimeout(timer);
}

/** A job was just made. */
export async function followJob({ job_id: id }) {
  await refreshJobs(id);
}

/** Ask for the newest jobs, and go on while one of them is under way. `fresh` is one that was just made. */
export async function refreshJobs(fresh = null) {
  stopJobs();
  const mine = asked;
  let jobs;
  try {
    const all = (await sendJson("v1/jobs")).jobs; // newest first
    jobs = all.filter((job, place) => place < SHOWN || isUnderWay(job));
  } catch (error) {
    // A key that may only ask sees no jobs: nothing to complain of.
    byId("jobs-section").hidden = error.status === 403;
    if (mine === asked) byId("jobs-problem").replaceChildren(problem(error, "The jobs could not be listed"));
    return;
  }
  byId("jobs-section").hidden = false;
  if (mine !== asked) return; // the view was left, or a later question is under way
  byId("jobs-problem").replaceChildren();
  const haveEnded = jobs.filter((job) => !isUnderWay(job) && (job.job_id === fresh || rows.get(job.job_id)?.wasUnderWay));
  show(jobs);
  if (haveEnded.length > 0) {
    byId("jobs-status").textContent = haveEnded.map(title).join(". ");
    onEnd();
  }
  if (jobs.some(isUnderWay)) timer = setTimeout(refreshJobs, POLL_MS);
}

function isUnderWay(job) {
  return job.state === "queued" || job.state === "running";
}

function title(job) {
  return `${KINDS[job.kind] ?? job.kind}: ${STATES[job.state] ?? job.state}`;
}

function show(jobs) {
  byId("jobs-empty").hidden = jobs.length > 0;
  for (const [id, row] of rows) {
    if (jobs.some((job) => job.job_id === id)) continue;
    row.element.remove();
    rows.delete(id);
  }
  jobs.forEach((job, place) => {
    if (!rows.has(job.job_id)) rows.set(job.job_id, newRow(job));
    const row = rows.get(job.job_id);
    update(row, job);
    const list = byId("jobs");
    if (list.children[place] !== row.element) list.insertBefore(row.element, list.children[place] ?? null);
  });
}

function newRow(job) {
  const row = {
    name: el("span", { class: "row-name" }),
    line: el("span", { class: "fine" }),
    bar: el("progress", { "aria-label": "Progress" }),
    more: el("div", { class: "fine" }),
    cancel: el("button", { type: "button", class: "quiet" }, "Cancel"),
    shown: "",
    wasUnderWay: false,
  };
  row.cancel.addEventListener("click", () => cancel(job.job_id));
  const text = el("div", { class: "row-text" }, row.name, row.bar, row.line, row.more);
  row.element = el("li", { class: "row" }, text, row.cancel);
  return row;
}

function update(row, job) {
  row.wasUnderWay = isUnderWay(job);
  const content = JSON.stringify(job);
  if (row.shown === content) return;
  row.shown = content;
  row.element.dataset.state = job.state;
  row.name.textContent = title(job) + (job.cancel_requested && isUnderWay(job) ? ", being cancelled" : "");
  row.bar.hidden = job.state !== "running";
  // A delete that has begun goes through.
  row.cancel.hidden = !isUnderWay(job) || job.cancel_requested || (job.kind === "delete" && job.state === "running");
  const { files_done: done, files_total: total } = job.progress ?? {};
  if (total > 0) {
    row.bar.max = total;
    row.bar.value = done;
  } else {
    row.bar.removeAttribute("value"); // under way, and nobody knows yet how far
  }
  row.line.textContent = isUnderWay(job) ? progressText(job.progress ?? {}) : outcomeText(job);
  row.more.replaceChildren(...details(job));
}

function progressText({ files_done: done, files_total: total, chunks, tokens_per_s: speed }) {
  const parts = [];
  if (total > 0) parts.push(`${done} of ${counted(total, "file")}`);
  if (chunks > 0) parts.push(counted(chunks, "chunk"));
  if (speed > 0) parts.push(`${Math.round(speed).toLocaleString("en")} tokens/s`);
  return parts.join(", ");
}

function outcomeText({ report, ended_at: ended }) {
  const run = report?.index ?? report ?? {}; // an upload's report holds that of its run
  const said = [new Date(ended).toLocaleTimeString()];
  for (const name of COUNTS) if (run[name] > 0) said.push(`${run[name].toLocaleString("en")} ${name}`);
  if (run.chunks_written > 0) said.push(`${counted(run.chunks_written, "chunk")} written`);
  return said.join(" · ");
}

/** What there is to say of single documents. */
function details({ kind, error, report }) {
  const said = [];
  if (error) said.push(`${error.message} ${error.hint}`);
  for (const { source_id: id, status, reason } of report?.documents ?? []) {
    said.push(status === "indexed" ? `${id}: indexed` : `${id}: ${status}, ${reason}`);
  }
  if (kind === "delete" && report?.source_id) {
    said.push(`${report.source_id}: erased, ${counted(report.chunks, "chunk")}`);
    if (report.indexed_again_by_next_run) said.push("Its file is still there: the next run indexes it again.");
    if (report.same_text_in?.length) said.push(`The same text is in ${report.same_text_in.join(", ")}.`);
  }
  for (const { path, reason } of report?.failed ?? []) said.push(`${path}: ${reason}`);
  for (const [reason, count] of Object.entries(report?.skipped ?? {})) said.push(`${counted(count, "file")} left out: ${reason}`);
  said.push(...(report?.warnings ?? []), ...(report?.index?.warnings ?? []));
  if (said.length === 0) return [];
  const list = el("ul", {}, ...said.map((line) => el("li", {}, corpusText(line))));
  return said.length <= FOLDED ? [list] : [el("details", {}, el("summary", {}, counted(said.length, "detail")), list)];
}

async function cancel(id) {
  try {
    await sendJson(`v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
  } catch (error) {
    byId("jobs-problem").replaceChildren(problem(error, "The job was not cancelled"));
  }
  await refreshJobs();
}
