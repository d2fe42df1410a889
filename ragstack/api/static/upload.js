// Uploading files, with progress: XMLHttpRequest, as a fetch cannot tell how much of a body is sent.

import { ApiError, address, apiKey, authorization, keyFromReader, unreachable } from "./api.js";
import { byId, counted, size } from "./dom.js";

let running = null;

/** Bind the form. `accepted` is called with the job that indexes the files, `failed` with an error or null. */
export function startUpload(accepted, failed) {
  const input = byId("upload-files");
  const form = byId("upload-form");
  const begin = (files) => {
    if (running === null && files.length > 0) upload([...files], accepted, failed);
  };
  input.addEventListener("change", () => begin(input.files));
  byId("upload-cancel").addEventListener("click", () => running?.abort());
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    begin(event.dataTransfer.files);
  });
}

async function upload(files, accepted, failed) {
  const input = byId("upload-files");
  const what = `${counted(files.length, "file")}, ${size(files.reduce((sum, file) => sum + file.size, 0))}`;
  failed(null);
  input.disabled = true;
  byId("upload-state").hidden = false;
  byId("upload-status").textContent = `Uploading ${what}.`;
  try {
    const job = await sendFiles(files, (share) => showShare(share, what));
    byId("upload-status").textContent = `Uploaded ${what}; indexing.`;
    accepted(job);
  } catch (error) {
    const isAbort = error.name === "AbortError";
    byId("upload-status").textContent = isAbort ? "Upload cancelled." : "";
    if (!isAbort) failed(error, "The upload did not work");
  } finally {
    running = null;
    input.value = "";
    input.disabled = false;
    byId("upload-state").hidden = true;
  }
}

function showShare(share, what) {
  byId("upload-progress").value = Math.round(100 * share);
  byId("upload-text").textContent = share < 1 ? `${Math.round(100 * share)}% of ${what}` : `${what} sent, waiting for the server`;
}

/** Resolves to the body of the 202. Asks for a key on a 401, as `send` does. */
async function sendFiles(files, onShare) {
  for (;;) {
    const sentKey = apiKey();
    const { status, text, requestId } = await attempt(files, onShare);
    const body = parsed(text);
    if (status >= 200 && status < 300) return body;
    const error = ApiError.fromBody(status, body, requestId);
    if (status !== 401) throw error;
    const again = apiKey() !== sentKey || (await keyFromReader(sentKey === null ? "" : error.message));
    if (!again) throw error;
  }
}

function attempt(files, onShare) {
  const body = new FormData();
  for (const file of files) body.append("files", file, file.name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    running = request;
    request.open("POST", address("v1/documents"));
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onShare(event.loaded / event.total);
    });
    request.addEventListener("load", () =>
      resolve({
        status: request.status,
        text: request.responseText,
        requestId: request.getResponseHeader("x-request-id") ?? "",
      }),
    );
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    onShare(0);
    request.send(body);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // such as a proxy's page; the status says what happened
  }
}
