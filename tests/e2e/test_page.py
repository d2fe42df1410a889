"""The web page in a real browser, against the real server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from ragstack.api.keys import KeyFile
from ragstack.errors import GenerationError
from ragstack.generation.base import AnswerEnd, AnswerSentence
from ragstack.generation.extractive import ExtractiveGenerator
from tests.e2e.page import FILES, LONG_WORD, QUESTION, Gate, Served, answered, ask, opened_page, overflow, served
from tests.servers.chromium import running_browser

PHONE = {"width": 360, "height": 740}
FIRST = "The pump – it is blue – is primed with oil."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Served) -> Iterator[Page]:
    with opened_page(browser, server.url) as page:
        page.goto("/")
        yield page


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(ExtractiveGenerator, "stream", gate.held(ExtractiveGenerator.stream))
    yield gate
    gate.open()


def serious(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the nodes."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:160] for node in rule['nodes']]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def test_the_answer_appears_sentence_by_sentence(page: Page, gate: Gate) -> None:
    gate.shut()
    ask(page)
    turn = page.locator(".turn")
    expect(turn.locator(".question")).to_have_text(QUESTION)
    expect(turn.locator(".passages > summary")).to_contain_text("passages")
    expect(turn.locator(".turn-status")).to_contain_text("Writing")
    expect(turn.locator(".sentence")).to_have_count(0)
    gate.let_pass()
    expect(turn.locator(".answer")).to_have_text(f"{FIRST} [1]")
    expect(turn.locator(".account-row")).to_have_count(0)
    gate.let_pass(10)
    answered(page)
    expect(turn.locator(".answer")).to_contain_text("The lamp goes out. [2]")
    expect(turn.locator(".turn-status")).to_contain_text("from 2 sources")
    expect(turn.locator(".marker").first).to_have_accessible_name("[1] source corpus/guide.md, verified")
    assert turn.locator(".answer").get_attribute("aria-live") == "polite"


def test_stop_ends_the_answer_on_both_sides(page: Page, gate: Gate) -> None:
    gate.shut()
    ask(page)
    gate.let_pass()
    expect(page.locator(".sentence")).to_have_count(1)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".turn-status")).to_have_text("Stopped. What is above holds.")
    expect(page.locator("#question")).to_be_focused()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    gate.let_pass(10)
    assert gate.left.wait(10)


def test_a_marker_opens_the_source_at_its_bytes(page: Page, server: Served) -> None:
    ask(page)
    markers = answered(page).locator(".marker")
    markers.first.click()
    panel = page.get_by_role("complementary")
    data = (server.folder / "guide.md").read_bytes()
    start = data.index(FIRST.encode())
    end = start + len(FIRST.encode())
    assert end - start > len(FIRST)  # the dashes take three bytes each
    expect(panel.locator("mark")).to_have_text(FIRST)
    expect(panel.locator(".verdict")).to_have_text("Verified: source and archive agree")
    expect(panel.locator(".source-text")).to_contain_text("Turn the red lever twice.")
    facts = panel.locator(".facts")
    expect(facts).to_contain_text(f"{start}–{end} (utf-8, word for word)")
    expect(facts).to_contain_text(hashlib.sha256(data).hexdigest())
    expect(panel.locator(".source-body > .path")).to_have_text(f"Guide, line 3, bytes {start}–{end}")
    panel.locator(".raw summary").click()
    expect(panel.locator(".raw pre")).to_contain_text(data[start : start + 8].hex(" "))
    panel.get_by_role("button", name="Next citation").click()
    expect(panel.locator("mark")).to_have_text("The lamp goes out.")
    expect(panel.locator(".source-body > .path")).to_contain_text("Guide › Stopping, line 11")
    expect(markers.nth(1)).to_have_attribute("aria-current", "true")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(markers.nth(1)).to_be_focused()


def test_passages_say_why_they_were_chosen(page: Page) -> None:
    ask(page)
    turn = answered(page)
    turn.locator(".passages > summary").click()
    first = turn.locator(".passage").first
    expect(first.locator("summary")).to_contain_text("cited as [1]")
    expect(first.locator("summary")).to_contain_text("relevance 0.")
    first.locator("summary").click()
    expect(first.locator("blockquote")).to_contain_text(FIRST)
    stages = first.locator(".why tbody tr").all_inner_texts()
    assert [stage.split("\t")[0] for stage in stages] == ["dense search", "sparse search", "fused", "reranked"]
    assert all(int(stage.split("\t")[1]) >= 1 for stage in stages)


def test_the_chain_is_checked_and_saved(page: Page, server: Served, tmp_path: Path) -> None:
    ask(page)
    turn = answered(page)
    turn.get_by_role("button", name="Verify the chain").click()
    expect(turn.locator(".check-result")).to_contain_text("The chain holds.")
    expect(turn.locator(".check-result")).to_contain_text("2 of 2 citations verified")
    expect(turn.locator(".check-result")).to_contain_text("2 of 2 sentences")
    with page.expect_download() as saving:
        turn.get_by_role("button", name="Download the chain").click()
    saving.value.save_as(tmp_path / "chain.json")
    findings = server.pipeline.verify(tmp_path / "chain.json")
    assert len(findings) > 2
    assert {finding.status for finding in findings} == {"verified"}
    file = server.folder / "guide.md"
    try:
        file.write_bytes(file.read_bytes() + b"\nOne more line.\n")
        turn.get_by_role("button", name="Verify the chain").click()
        expect(turn.locator(".check-result")).to_contain_text("The chain does not hold.")
        expect(turn.locator(".check-result")).to_contain_text("0 of 2 citations verified")
        expect(turn.locator(".marker").first).to_have_accessible_name("[1] source corpus/guide.md, source changed")
    finally:
        file.write_bytes(FILES["guide.md"].encode())


def test_nothing_found_is_said_plainly_and_a_filter_is_heeded(page: Page) -> None:
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#filter-field")).to_be_focused()
    page.fill("#filter-json", '{"field": "media_type", "op": "is", "value": "text/plain"}')
    expect(page.locator("#filter-message")).to_contain_text("filter.op: unknown operator")
    expect(page.locator("#filter-json")).to_have_attribute("aria-invalid", "true")
    ask(page)
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("#filter-json")).to_be_focused()
    page.fill("#filter-json", "")
    page.select_option("#filter-field", "media_type")
    page.fill("#filter-value", "text/plain")
    page.get_by_role("button", name="Add").click()
    page.select_option("#filter-op", "ne")
    page.select_option("#filter-field", "source_id")
    page.fill("#filter-value", "corpus/gauge.txt")
    page.keyboard.press("Enter")
    wanted = {
        "and": [
            {"field": "media_type", "op": "eq", "value": "text/plain"},
            {"field": "source_id", "op": "ne", "value": "corpus/gauge.txt"},
        ]
    }
    assert json.loads(page.input_value("#filter-json")) == wanted
    with page.expect_request("**/v1/query") as sent:
        ask(page)
    assert sent.value.post_data_json == {"query": QUESTION, "stream": True, "filter": wanted}
    turn = answered(page)
    expect(turn.locator(".turn-status")).to_have_text("Nothing in the corpus answers this.")
    expect(turn.locator(".answer")).to_have_text("")
    expect(turn.locator(".account")).to_contain_text("corpus/gauge.txt")


def test_earlier_turns_go_with_the_next_question_until_a_new_conversation(page: Page) -> None:
    ask(page)
    answered(page)
    with page.expect_request("**/v1/query") as sent:
        ask(page, "And the gauge?")
    answered(page, 1)
    first, second = sent.value.post_data_json["history"]
    assert first == {"role": "user", "content": QUESTION}
    assert second["role"] == "assistant"
    assert FIRST in second["content"]
    assert "[1]" not in second["content"]
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.get_by_role("heading", name="Ask your documents")).to_be_visible()
    with page.expect_request("**/v1/query") as sent:
        ask(page)
    assert "history" not in sent.value.post_data_json


def test_a_refused_question_shows_hint_and_request_id(page: Page) -> None:
    page.get_by_role("button", name="Filter").click()
    page.fill("#filter-json", '{"field": "colour", "op": "eq", "value": "red"}')
    ask(page)
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("'colour', which is not declared")
    expect(problem).to_contain_text("Declared fields: ")
    assert problem.locator("code").inner_text().strip()


def test_what_does_not_hold_is_owned_up_to(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ExtractiveGenerator.stream

    def stream(*arguments: Any) -> Iterator[Any]:
        yield next(original(*arguments))
        yield AnswerSentence("It was\tpainted by hand.", (), 0.0, lead="\n\n")
        error = GenerationError("the model went away.", hint="Start it again.")
        yield AnswerEnd(dropped_markers=1, dropped_quotes=2, left_out=(7, 8), truncated=True, error=error)

    monkeypatch.setattr(ExtractiveGenerator, "stream", stream)
    ask(page)
    turn = answered(page)
    expect(turn.locator(".without-source")).to_have_text("It was\tpainted by hand. (no source)", use_inner_text=False)
    expect(turn.get_by_role("alert")).to_contain_text("The answer broke off: the model went away.")
    expect(turn.get_by_role("alert")).to_contain_text("Start it again.")
    account = turn.locator(".account")
    for said in (
        "The model stopped at its limit",
        "1 marker named no passage and was dropped.",
        "2 quotes were not found in the source and dropped.",
        "2 passages did not fit the model's context: 7, 8.",
    ):
        expect(account).to_contain_text(said)
    expect(turn.locator(".passage").first).to_be_visible()  # the passages stand, and are shown
    with page.expect_request("**/v1/query") as sent:
        ask(page, "And now?")
    assert "history" not in sent.value.post_data_json


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            'event: error\ndata: {"error": {"type": "StoreUnavailableError", "message": "the store is gone.",'
            ' "hint": "Start it.", "request_id": "req-7"}}\n\n',
            ["the store is gone.", "Start it.", "req-7"],
        ),
        (": keep-alive\n\n", ["The connection ended before the answer did."]),
    ],
)
def test_a_stream_that_breaks_off_says_so(page: Page, body: str, said: list[str]) -> None:
    page.route("**/v1/query", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body))
    ask(page)
    for words in said:
        expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


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


def test_hostile_text_stays_text(page: Page) -> None:
    page.get_by_role("button", name="Filter").click()
    page.fill("#top-n", "30")
    page.get_by_role("button", name="Filter").click()
    ask(page, "When is the invoice from ecnal due?")
    turn = answered(page)
    turn.locator(".passages > summary").click()
    for passage in turn.locator(".passage > summary").all():
        passage.click()
    expect(turn.locator(".answer")).to_contain_text("is due in forty days")
    expect(turn.locator(".answer .hidden-character").first).to_have_attribute("data-code", "U+202E")
    for text in (LONG_WORD[:100], "<img src=x onerror=", "</script><script>window.pwned="):
        expect(turn.locator(".passage-list")).to_contain_text(text)
    assert "\u202e" not in turn.inner_text()
    turn.locator(".marker").first.click()
    panel = page.get_by_role("complementary")
    expect(panel.locator(".source-text")).to_contain_text("onerror=")
    assert page.locator(".stage img, .stage script, .stage iframe").count() == 0
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert overflow(page) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, server: Served, scheme: Any) -> None:
    with opened_page(browser, server.url, color_scheme=scheme) as page:
        page.goto("/")
        assert serious(page) == []
        page.get_by_role("button", name="Filter").click()
        ask(page)
        turn = answered(page)
        turn.locator(".passages > summary").click()
        turn.locator(".passage > summary").first.click()
        turn.get_by_role("button", name="Verify the chain").click()
        expect(turn.locator(".check-result")).to_contain_text("The chain holds.")
        turn.locator(".marker").first.click()
        expect(page.locator(".facts")).to_be_visible()
        assert serious(page) == []


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    press = page.keyboard.press
    press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    press("Enter")
    expect(page.locator("#main")).to_be_focused()
    press("Tab")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("How is the pump")
    press("Shift+Enter")
    page.keyboard.type("primed?")
    assert page.input_value("#question") == "How is the pump\nprimed?"
    press("Enter")
    answered(page)
    expect(page.locator("#question")).to_be_focused()
    for _ in range(40):
        press("Shift+Tab")
        if page.evaluate("document.activeElement.matches('.marker')"):
            break
    focused = page.locator(".marker:focus")
    assert focused.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    name = focused.get_attribute("aria-label")
    press("Enter")
    expect(page.locator("#source-title")).to_be_focused()
    press("Tab")
    press("Escape")
    expect(page.locator(".marker:focus")).to_have_attribute("aria-label", str(name))
    press("Tab")
    while not page.evaluate("document.activeElement.matches('.passages > summary')"):
        press("Tab")
    press("Enter")
    press("Tab")
    press("Enter")
    expect(page.locator(".why").first).to_be_visible()


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Browser, server: Served) -> None:
    with opened_page(browser, server.url, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.goto("/")
        assert overflow(page) == 0
        ask(page, "What is the serial number of the invoice?")
        turn = answered(page)
        turn.locator(".passages > summary").tap()
        turn.locator(".passage > summary").first.tap()
        assert overflow(page) == 0
        turn.locator(".marker").first.tap()
        sheet = page.get_by_role("dialog", name="corpus/hostile.md")
        expect(sheet.locator("mark")).to_be_visible()
        assert sheet.bounding_box() == {"x": 0, "y": 0, **PHONE}
        assert page.evaluate("document.getElementById('main').inert && document.querySelector('.bar').inert")
        assert overflow(page) == 0
        assert serious(page) == []
        sheet.get_by_role("button", name="Close").tap()
        assert not page.evaluate("document.getElementById('main').inert")
        page.get_by_role("button", name="Filter").tap()
        assert overflow(page) == 0


def test_the_theme_is_the_readers_choice_and_nothing_moves_for_those_who_mind(
    browser: Browser, server: Served, gate: Gate
) -> None:
    canvas = "getComputedStyle(document.body).backgroundColor"
    with opened_page(browser, server.url, color_scheme="dark", reduced_motion="reduce") as page:
        page.goto("/")
        dark = page.evaluate(canvas)
        page.locator("#theme-button").click()
        expect(page.locator("#theme-button")).to_have_accessible_name("Theme: light")
        light = page.evaluate(canvas)
        assert light != dark
        page.reload()
        assert page.evaluate(canvas) == light
        gate.shut()
        ask(page)
        expect(page.locator(".working")).to_be_visible()
        animation = "getComputedStyle(document.querySelector('.working'), '::before').animationName"
        assert page.evaluate(animation) == "none"
        gate.open()
        answered(page)


def open_corpus(page: Page) -> None:
    page.get_by_role("link", name="Corpus").click()
    expect(page.get_by_role("heading", name="Corpus")).to_be_focused()
    expect(page.locator("#documents .row").first).to_be_visible()


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
