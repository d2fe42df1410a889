"""The web page in a real browser: keys, uploads, documents and jobs."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from ragstack.api.keys import KeyFile
from tests.e2e.page import (
    FILES,
    FIRST,
    answered,
    ask,
    open_corpus,
    opened_page,
    serious,
    served,
)


def test_a_key_is_asked_for_kept_in_the_tab_and_sent(browser: Browser, tmp_path: Path) -> None:
    with served(tmp_path) as server, opened_page(browser, server.url) as page:
        _, key = KeyFile(tmp_path / "state").create("reader", ["query"], None, None)
        page.goto("/")
        ask(page)
        dialog = page.get_by_role("dialog", name="API key")
        expect(dialog.get_by_label("Key", exact=True)).to_be_focused()
        expect(dialog).to_contain_text("This server asks for a key.")
        assert serious(page) == []
        page.keyboard.type(key[:-1])
        page.keyboard.press("Enter")
        expect(dialog).not_to_contain_text("This server asks for a key.")
        expect(dialog).to_be_visible()
        page.keyboard.type(key)
        page.keyboard.press("Enter")
        answered(page)
        expect(dialog).to_be_hidden()
        kept = "[sessionStorage['ragstack.key'], JSON.stringify(localStorage), document.cookie]"
        assert page.evaluate(kept) == [key, "{}", ""]
        answered(page).locator(".marker").first.click()
        expect(page.get_by_role("complementary").locator("mark")).to_have_text(FIRST)
        open_corpus(page)  # a key that may only ask sees no jobs
        expect(page.get_by_role("heading", name="Jobs")).to_be_hidden()
        expect(page.get_by_role("alert")).to_have_count(0)
        page.get_by_role("button", name="Re-index").click()
        expect(page.get_by_role("alert")).to_contain_text("Re-indexing did not start")
        page.get_by_role("link", name="Ask", exact=True).click()
        page.get_by_role("button", name="API key: set").click()
        page.get_by_role("button", name="Forget the key").click()
        ask(page)
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".turn").nth(1).get_by_role("alert")).to_contain_text("That did not work")


def test_a_document_is_uploaded_asked_about_and_deleted(page: Page) -> None:
    open_corpus(page)
    held: list[Route] = []
    page.route("**/v1/documents", lambda route: held.append(route))  # noqa: PLW0108  # built-in methods are refused
    files = [
        {"name": "turbine.md", "mimeType": "text/markdown", "buffer": b"# Turbine\n\nThe turbine hums in B flat.\n"},
        {"name": "noise.bin", "mimeType": "application/octet-stream", "buffer": bytes(range(256)) * 40},
    ]
    page.get_by_label("Upload documents").set_input_files(files)  # type: ignore[arg-type]
    expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    expect(page.locator("#upload-text")).to_contain_text("2 files, 10.3 kB")
    held.pop().continue_()
    page.unroute("**/v1/documents")
    job = page.locator("#jobs .row").first
    expect(job).to_contain_text("Upload: done")
    expect(job).to_contain_text("uploads/turbine.md: indexed")
    expect(job).to_contain_text("uploads/noise.bin: skipped, binary")
    expect(page.get_by_role("progressbar", name="Upload")).to_be_hidden()
    expect(page.locator("#upload-status")).to_contain_text("Uploaded 2 files")
    document = page.locator("#documents .row", has_text="uploads/turbine.md")
    expect(document).to_contain_text("1 chunk ·")
    expect(document).to_contain_text("uploaded")
    assert serious(page) == []

    page.get_by_role("link", name="Ask", exact=True).click()
    expect(page.locator("#question")).to_be_focused()
    ask(page, "In what key does the turbine hum?")
    answered(page).locator(".marker").first.click()
    expect(page.get_by_role("complementary").locator("mark")).to_have_text("The turbine hums in B flat.")

    open_corpus(page)
    document.get_by_role("button", name="Delete uploads/turbine.md").click()
    dialog = page.get_by_role("dialog", name="Delete this document?")
    expect(dialog).to_contain_text("uploads/turbine.md is erased from index and archive")
    expect(dialog).to_contain_text("The uploaded file is deleted too.")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    assert serious(page) == []
    page.keyboard.press("Escape")
    expect(document.get_by_role("button")).to_be_focused()
    document.get_by_role("button").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(job).to_contain_text("Delete: done")
    expect(document).to_have_count(0)

    page.get_by_role("link", name="Ask", exact=True).click()
    page.locator(".marker").first.click()
    expect(page.get_by_role("complementary").locator(".verdict")).to_contain_text("Cannot be verified")
    expect(page.get_by_role("complementary").locator("mark")).to_have_count(0)
    expect(page.locator(".marker").first).to_have_accessible_name("[1] source uploads/turbine.md, cannot be verified")


def test_the_list_of_documents_is_paged_and_the_corpus_is_indexed_again(page: Page) -> None:
    page.route("**/v1/documents?*", lambda route: route.continue_(url=route.request.url.replace("limit=50", "limit=2")))
    open_corpus(page)
    rows = page.locator("#documents .row")
    expect(rows).to_have_count(2)
    more = page.get_by_role("button", name="Show more")
    more.click()
    expect(rows.nth(2).get_by_role("button")).to_be_focused()
    while more.is_visible():
        with page.expect_response("**/v1/documents?*"):
            more.click()
        expect(page.locator("#documents-more")).to_be_enabled()
    names = [name for name in rows.locator(".row-name").all_inner_texts() if name.startswith("corpus/")]
    assert names == [f"corpus/{name}" for name in sorted(FILES)]
    page.get_by_role("button", name="Re-index").click()
    expect(page.locator("#jobs .row").first).to_contain_text("Index: done")
    expect(page.locator("#jobs .row").first).to_contain_text("unchanged")


def test_a_job_under_way_shows_how_far_it_is_and_is_cancelled(page: Page) -> None:
    progress = {"files_done": 3, "files_total": 12, "bytes_done": 1, "bytes_total": 9, "chunks": 40, "tokens": 4000}
    job = {
        "job_id": "job1", "kind": "index", "state": "running", "cancel_requested": False, "ended_at": None,
        "created_at": "2026-01-01T00:00Z", "started_at": "2026-01-01T00:00Z", "report": None, "error": None,
        "progress": {**progress, "tokens_per_s": 1234.5, "notes": []},
    }  # fmt: skip

    def answer(route: Route) -> None:
        if route.request.method == "DELETE":
            job["cancel_requested"] = True
        route.fulfill(json=job if "job1" in route.request.url else {"jobs": [job]})

    page.route("**/v1/jobs", answer)
    page.route("**/v1/jobs/*", answer)
    open_corpus(page)
    row = page.locator("#jobs .row")
    expect(row).to_contain_text("Index: running")
    expect(row).to_contain_text("3 of 12 files, 40 chunks, 1,235 tokens/s")
    assert row.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") == 0.25
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("being cancelled")
    error = {"type": "InterruptedRunError", "message": "stopped at a consistent point.", "hint": ""}
    job.update(state="cancelled", ended_at="2026-01-01T00:01Z", error=error)
    expect(row).to_contain_text("Index: cancelled")
    expect(row).to_contain_text("stopped at a consistent point.")
    expect(row.get_by_role("progressbar")).to_be_hidden()
