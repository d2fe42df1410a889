// Jobs of the index: what runs, how far it is, how it ended.

import { sendJson } from "./api.js";
import { byId, corpusText, counted, el, problem } from "./dom.js";

const POLL_MS = 700;
const STATES = { queued: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" };
const KINDS = { upload: "Upload", index: "Index", reindex: "Re-index", delete: "Delete" };
const SHOWN = 8;

let timer = null;
let onEnd = () => {};
const jobs = new Map(); // by id, newest first when listed

/** Bind; `ended` is called when a job that was followed has ended. */
export function startJobs(ended) {
  onEnd = ended;
}

/** Stop asking: the view is out of sight. */
export function stopJobs() {
  clearTimeout(timer);
  timer = null;
}

/** A job was just made. */
export function followJob({ job_id: id }) {
  byId("jobs-title").scrollIntoView({ block: "nearest" });
  return refreshJobs(id);
}

/** Ask for all jobs again, and go on while one of them is under way. */
export async function refreshJobs(newest = null) {
  stopJobs();
  try {
    const listed = (await sendJson(`v1/jobs?limit=${SHOWN}`)).jobs;
    const running = [...jobs.values()].filter(isUnderWay).map((job) => job.job_id);
    jobs.clear();
    for (const job of listed) jobs.set(job.job_id, job);
    if (newest !== null && !jobs.has(newest)) jobs.set(newest, await sendJson(`v1/jobs/${newest}`));
    show();
    if (running.some((id) => !isUnderWay(jobs.get(id) ?? {})) || (newest !== null && !isUnderWay(jobs.get(newest)))) onEnd();
  } catch (error) {
    byId("jobs").replaceChildren(el("li", {}, problem(error, "The jobs could not be listed.")));
    return;
  }
  if ([...jobs.values()].some(isUnderWay)) timer = setTimeout(refreshJobs, POLL_MS);
}

function isUnderWay(job) {
  return job.state === "queued" || job.state === "running";
}

function show() {
  byId("jobs-empty").hidden = jobs.size > 0;
  byId("jobs").replaceChildren(...[...jobs.values()].map(jobRow));
}

function jobRow(job) {
  const row = el(
    "li",
    { class: "row job", "data-state": job.state },
    el(
      "div",
      { class: "row-text" },
      el("span", { class: "row-name" }, `${KINDS[job.kind] ?? job.kind}: ${STATES[job.state] ?? job.state}`),
      el("span", { class: "fine" }, corpusText(summary(job))),
    ),
  );
  return row;
}

function summary(job) {
  return JSON.stringify(job.report ?? job.error ?? job.progress ?? {});
}
