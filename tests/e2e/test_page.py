"""The web page in a real browser, against the real server: asking, answers, and their sources."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from ragstack.errors import FilterError, GenerationError
from ragstack.filters import parse_filter
from ragstack.generation.base import AnswerEnd, AnswerSentence
from ragstack.generation.extractive import ExtractiveGenerator
from tests.e2e.page import (
    FILES,
    FIRST,
    LONG_WORD,
    QUESTION,
    Gate,
    Served,
    answered,
    ask,
    overflow,
)


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


def test_stop_ends_the_answer_on_both_sides(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ExtractiveGenerator.stream
    words, left = threading.Semaphore(1), threading.Event()

    def endless(*arguments: Any) -> Iterator[Any]:
        sentence = next(original(*arguments))
        try:
            while words.acquire():
                yield sentence
        finally:
            left.set()

    monkeypatch.setattr(ExtractiveGenerator, "stream", endless)
    ask(page)
    expect(page.locator(".sentence")).to_have_count(1)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".turn-status")).to_have_text("Stopped. What is above holds.")
    expect(page.locator("#question")).to_be_focused()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    for _ in range(600):  # whenever the server notices, it does not ask for another sentence
        words.release()
        if left.wait(0.05):
            break
    assert left.is_set()
    expect(page.locator(".sentence")).to_have_count(1)


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
    expect(turn.locator(".check-result")).to_contain_text("Citations verified against the source: 2 of 2")
    expect(turn.locator(".check-result")).to_contain_text("Sentences at their bytes of the answer: 2 of 2")
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
        expect(turn.locator(".check-result")).to_contain_text("Citations verified against the source: 0 of 2")
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
    offered = page.locator("#filter-values option")
    expect(offered).to_have_count(len(FILES))
    page.select_option("#filter-field", "media_type")
    expect(offered).to_have_count(2)
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


FILTERS = (
    '{"field": "a", "op": "eq", "value": "b"}',
    '{"field": "a", "op": "gt", "value": 1.5}',
    '{"and": []}',
    '{"or": []}',
    '{"not": {"field": "a", "op": "in", "value": ["b", 1, true]}}',
    '{"field": "a", "op": "exists", "value": false}',
    '{"field": "a", "op": "eq", "value": null}',
    '{"field": "a", "op": "in", "value": "b"}',
    '"a"',
    "[]",
    "{}",
    "null",
    '{"field": "a", "op": "exists", "value": 1}',
    '{"field": "a", "op": "gt", "value": true}',
    '{"and": {}}',
    '{"not": []}',
    '{"field": "", "op": "eq", "value": 1}',
    '{"field": 1, "op": "eq", "value": 1}',
    '{"field": "a", "op": "==", "value": 1}',
    '{"field": "a", "op": "eq", "value": 1, "x": 1}',
    '{"field": "a", "op": "eq"}',
    '{"and": [], "or": []}',
    '{"not": null}',
    '{"field": "a", "op": "eq", "value": 1e999}',
    '{"field": "a", "op": "nin", "value": [[1]]}',
    '{"a',
    '{"and": [{"or": 1}]}',
    '{"not": ' * 32 + '{"and": []}' + "}" * 32,
    '{"not": ' * 33 + '{"and": []}' + "}" * 33,
)


def test_the_page_takes_the_filters_that_ragstack_takes(page: Page) -> None:
    def is_filter(text: str) -> bool:
        try:
            parse_filter(json.loads(text))
        except (FilterError, ValueError):
            return False
        return True

    taken = page.evaluate(
        """async (texts) => {
            const { filterError } = await import("/static/filter.js");
            const box = document.getElementById("filter-json");
            return texts.map((text) => { box.value = text; return filterError() === null; });
        }""",
        FILTERS,
    )
    assert taken == [is_filter(text) for text in FILTERS]


def test_events_are_the_same_wherever_the_network_cuts_them(page: Page) -> None:
    stream = (
        ': hello\n\nevent: one\ndata: {"a": "zürich – 👩‍🔧"}\n\nevent:two\r\ndata:first\r\ndata: second\r\n\r\n'
        "data\rid: 7\r\rdata: x\n\nevent: cut\ndata: never"
    )
    found = page.evaluate(
        """async (text) => {
            const { events } = await import("/static/sse.js");
            const bytes = new TextEncoder().encode(text);
            const seen = new Set();
            for (let cut = 0; cut <= bytes.length; cut += 1) {
                const body = new ReadableStream({ start(to) {
                    to.enqueue(bytes.slice(0, cut)); to.enqueue(bytes.slice(cut)); to.close();
                } });
                const read = [];
                for await (const { event, data } of events(body)) read.push([event, data]);
                seen.add(JSON.stringify(read));
            }
            return [...seen].map((one) => JSON.parse(one));
        }""",
        stream,
    )
    assert found == [[["one", '{"a": "zürich – 👩‍🔧"}'], ["two", "first\nsecond"], ["message", ""], ["message", "x"]]]


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
        (": keep-alive\n\n", ["the connection ended before the answer did."]),
    ],
)
def test_a_stream_that_breaks_off_says_so(page: Page, body: str, said: list[str]) -> None:
    page.route("**/v1/query", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body))
    ask(page)
    for words in said:
        expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


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
