"""Rerankers behind HTTP APIs: what is sent in each dialect, and what becomes of every fault."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.cancellation import Cancellation
from ragstack.config.rerankers import RemoteRerankerConfig
from ragstack.errors import InputError, InterruptedRunError, RerankingError
from ragstack.inference.http_client import retry_after_s
from ragstack.reranking.remote import RemoteReranker
from ragstack.reranking.remote_apis import APIS, batch_limit, read_scores
from tests.cross_encoder_kit import ask, by_id, candidate
from tests.servers.rerank_replay import Answer, RerankReplay, Seen, running

KEY = "sk-very-secret"
CANDIDATES = [candidate("b", "two"), candidate("a", "one", ("Head",)), candidate("c", "three words long")]
TEXTS = ["Head\none", "two", "three words long"]  # in the order of the ids


@pytest.fixture(scope="module")
def server() -> Iterator[RerankReplay]:
    with running() as opened:
        yield opened


def remote(server: RerankReplay, **more: Any) -> RemoteReranker:
    settings = {"api": "tei", "base_url": server.url, "max_batch_size": 100, "max_retries": 0, "timeout_s": 20, **more}
    return RemoteReranker(RemoteRerankerConfig(type="remote", **settings))


def texts_of(seen: Seen) -> list[str]:
    body = seen.body
    found = body.get("texts") or body.get("documents") or body.get("text_2") or body.get("passages")
    return [text["text"] if isinstance(text, dict) else text for text in found]


def by_length(seen: Seen) -> Answer:
    """TEI: longer texts score more; worst first, as no server promises an order."""
    scores = [{"index": index, "score": float(len(text))} for index, text in enumerate(texts_of(seen))]
    return Answer(sorted(scores, key=lambda item: item["score"]))


DIALECTS: list[tuple[dict[str, Any], str, dict[str, Any], dict[str, Any] | list[Any]]] = [
    (
        {"api": "nim", "model": "m"},
        "/ranking",
        {"model": "m", "query": {"text": "q"}, "passages": [{"text": text} for text in TEXTS], "truncate": "NONE"},
        {"rankings": [{"index": 2, "logit": 3.5}, {"index": 0, "logit": 0.0}, {"index": 1, "logit": -8}]},
    ),
    (
        {"api": "tei", "truncate": "END"},
        "/rerank",
        {"query": "q", "texts": TEXTS, "raw_scores": True, "truncate": True},
        [{"index": 2, "score": 3.5}, {"index": 0, "score": 0.0}, {"index": 1, "score": -8}],
    ),
    (
        {"api": "cohere", "model": "rerank-v3.5", "extra_body": {"max_tokens_per_doc": 512}},
        "/rerank",
        {"model": "rerank-v3.5", "query": "q", "documents": TEXTS, "max_tokens_per_doc": 512},
        {"results": [{"index": i, "relevance_score": s} for i, s in ((2, 0.9), (0, 0.5), (1, 0.1))], "id": "x"},
    ),
    (  # Voyage
        {"api": "cohere", "path": "/reranking"},
        "/reranking",
        {"query": "q", "documents": TEXTS},
        {"object": "list", "data": [{"index": i, "relevance_score": s} for i, s in ((2, 0.9), (0, 0.5), (1, 0.1))]},
    ),
    (
        {"api": "score", "model": "m", "scores": "logits"},
        "/score",
        {"model": "m", "text_1": "q", "text_2": TEXTS},
        {"data": [{"index": i, "object": "score", "score": s} for i, s in ((0, 0.0), (1, -8), (2, 3.5))]},
    ),
]


@pytest.mark.parametrize(("settings", "path", "body", "reply"), DIALECTS)
def test_dialects(server: RerankReplay, settings: dict[str, Any], path: str, body: Any, reply: Any) -> None:
    server.in_turn(Answer(reply))
    reranker = remote(server, base_url=f"{server.url}/v1/", api_key=KEY, **settings)
    found = reranker.rerank(ask("q"), CANDIDATES)
    reranker.close()
    [seen] = server.seen
    assert (seen.method, seen.path, seen.body) == ("POST", f"/v1{path}", body)
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert [score.chunk_id for score in found] == ["c", "a", "b"]
    assert all(score.parts == {"remote": score.score} for score in found)
    if "relevance_score" in str(reply):
        assert [score.relevance for score in found] == [0.9, 0.5, 0.1]
    else:
        assert [score.relevance for score in found] == pytest.approx([1 / (1 + math.exp(-s)) for s in (3.5, 0, -8)])


def test_the_order_of_candidates_does_not_matter(server: RerankReplay) -> None:
    server.answering(by_length)
    reranker = remote(server)
    assert reranker.rerank(ask("q"), CANDIDATES) == reranker.rerank(ask("q"), CANDIDATES[::-1])
    assert reranker.rerank(ask("q"), []) == []
    assert len(server.seen) == 2
    reranker.close()


def test_batches_are_as_large_as_teis_info_says(server: RerankReplay) -> None:
    server.answering(lambda seen: Answer({"max_client_batch_size": 3}) if seen.path == "/info" else by_length(seen))
    reranker = remote(server, max_batch_size=None)
    many = [candidate(f"c{index:02}", "x" * (40 - index)) for index in range(10)]
    found = reranker.rerank(ask("q"), many)
    reranker.rerank(ask("q"), many)
    reranker.close()
    assert by_id(found) == {f"c{index:02}": float(40 - index) for index in range(10)}
    assert sorted(len(texts_of(seen)) for seen in server.seen[1:5]) == [1, 3, 3, 3]
    assert [seen.path for seen in server.seen].count("/info") == 1


@pytest.mark.parametrize("api", ["nim", "cohere"])
def test_many_passages_are_paged(server: RerankReplay, api: str) -> None:
    def respond(seen: Seen) -> Answer:
        found = [(index, float(text[1:])) for index, text in enumerate(texts_of(seen))][::-1]
        if api == "nim":
            return Answer({"rankings": [{"index": index, "logit": score} for index, score in found]})
        return Answer({"results": [{"index": index, "relevance_score": score / 1000} for index, score in found]})

    server.answering(respond)
    reranker = remote(server, api=api, model="m", max_batch_size=None)
    found = reranker.rerank(ask("q"), [candidate(f"c{index:03}", f"x{index}") for index in range(600)])
    reranker.close()
    assert [score.chunk_id for score in found] == [f"c{index:03}" for index in range(599, -1, -1)]
    assert sorted(len(texts_of(seen)) for seen in server.seen) == [88, 256, 256]


@pytest.mark.parametrize("status", [413, 422])
def test_a_request_that_is_too_much_is_halved(server: RerankReplay, status: int) -> None:
    refusal = Answer({"error": "batch size 10 > maximum allowed batch size 4", "error_type": "Validation"}, status)
    server.answering(lambda seen: refusal if len(texts_of(seen)) > 4 else by_length(seen))
    reranker = remote(server)
    found = reranker.rerank(ask("q"), [candidate(f"c{index}", "x" * (index + 1)) for index in range(10)])
    assert by_id(found) == {f"c{index}": float(index + 1) for index in range(10)}
    assert sorted(len(texts_of(seen)) for seen in server.seen) == [2, 2, 3, 3, 5, 5, 10]
    server.seen.clear()
    assert by_id(reranker.rerank(ask("q"), [candidate(f"c{index}", "x") for index in range(10)]))
    assert max(len(texts_of(seen)) for seen in server.seen) <= 3  # what it learnt holds
    reranker.close()


def test_one_passage_that_is_too_much_is_an_error(server: RerankReplay) -> None:
    server.answering(
        lambda seen: (
            Answer({"error": "inputs must have less than 512 tokens. Given: 600", "error_type": "Validation"}, 413)
            if "two" in texts_of(seen)
            else by_length(seen)
        )
    )
    reranker = remote(server)
    with pytest.raises(RerankingError, match=r"\(status 413: chunk b of root/a.txt: inputs must have less"):
        reranker.rerank(ask("q"), CANDIDATES)
    reranker.close()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(server: RerankReplay, status: int) -> None:
    # The second answer is cut off, so that its length is not what it promised.
    server.in_turn(Answer(b"busy", status), Answer(b"[{}, {}]", cut=True), Answer([{"index": 0, "score": 1.5}]))
    reranker = remote(server, max_retries=2)
    assert reranker.rerank(ask("q"), CANDIDATES[:1])[0].score == 1.5
    assert len(server.seen) == 3
    reranker.close()


def test_retry_after_is_waited_for(server: RerankReplay, monkeypatch: pytest.MonkeyPatch) -> None:
    from ragstack.inference import http_client

    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(http_client, "sleep", sleep)
    server.in_turn(Answer(b"", 429, {"Retry-After": "7"}), Answer(b"", 503), Answer([{"index": 0, "score": 1.5}]))
    reranker = remote(server, max_retries=2)
    assert reranker.rerank(ask("q"), CANDIDATES[:1])[0].score == 1.5
    assert waited[0] == 7.0
    assert 0.25 <= waited[1] <= 0.5
    server.in_turn(Answer({"message": "no quota"}, 429, {"Retry-After": "3600"}))
    with pytest.raises(RerankingError, match=r"no room or no quota left \(status 429: no quota\)"):
        reranker.rerank(ask("q"), CANDIDATES[:1])
    assert len(server.seen) == 1
    reranker.close()


def test_retry_after_in_both_forms() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert retry_after_s("120") == 120.0
    assert retry_after_s("Fri, 02 Jan 2026 03:04:35 GMT", now) == 30.0
    assert retry_after_s("Fri, 02 Jan 2026 03:04:00 GMT", now) == 0.0
    assert [retry_after_s(value) for value in ("", "soon", "-3")] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "settings", "message"),
    [
        (Answer({"error": {"message": "bad"}}, 400), {}, r"did not accept the request \(status 400: bad\)"),
        (Answer({"error": f"no such key: {KEY}"}, 401), {}, r"refused the key \(status 401: no such key: \*+\)"),
        (Answer({"detail": "no"}, 403), {}, r"refused the key .* whether it may use this model"),
        (Answer(b"<html>not here</html>", 404), {}, r"does not know the path or the model \(status 404\)\. Check"),
        (Answer(b"", 405), {}, "does not take the request at this path"),
        (Answer({"error": "not a re-ranker", "error_type": "Backend"}, 424), {}, "its model is no reranker"),
        (Answer(b"x" * 999, 418), {}, r"failed \(status 418: x{200}…\)"),
        (Answer(b"", 307, {"Location": "http://elsewhere"}), {}, r"answered with a redirection \(status 307\)"),
        (Answer(b"<html>"), {}, "answered with what is no JSON"),
        (Answer(b"[" * 100_000), {}, "answered with what is no JSON"),
        (Answer([{"index": i, "score": 10**400} for i in range(3)]), {}, "no finite score for chunk a"),
        (Answer({"rankings": []}), {}, "answered, but not with a list of results, as api: tei has it"),
        (Answer([]), {"api": "cohere"}, "not with a list of results in 'results', as api: cohere has it"),
        (Answer([{"index": 0, "score": 1.0}]), {}, "gave scores for 1 of 3 passages"),
        (Answer([{"index": 0, "score": 1.0}] * 3), {}, "named a passage by 0, or one twice; there were 3"),
        (Answer([{"index": 3, "score": 1.0}] * 3), {}, "named a passage by 3"),
        (Answer([{"index": i, "score": [1.0, None, 2.0][i]} for i in range(3)]), {}, "no finite score for chunk b"),
        (Answer(b'[{"index":0,"score":NaN},{"index":1,"score":1},{"index":2,"score":1}]'), {}, "score for chunk a of"),
        (
            Answer({"results": [{"index": i, "relevance_score": 0.5 + i} for i in range(3)]}),
            {"api": "cohere"},
            r"gave the score 1.5 for chunk b of root/a.txt; expected 0 to 1.*Set reranker.scores to logits",
        ),
    ],
)  # fmt: skip
def test_faults(server: RerankReplay, answer: Answer, settings: dict[str, Any], message: str) -> None:
    server.in_turn(answer)
    reranker = remote(server, model="m", api_key=KEY, **settings)
    with pytest.raises(RerankingError, match=message) as caught:
        reranker.rerank(ask("q"), CANDIDATES)
    reranker.close()
    told = f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert f"the reranker m at {server.url}/rerank" in told
    assert KEY not in told


def test_a_server_that_is_not_there() -> None:
    with running() as gone:
        url = gone.url
    reranker = RemoteReranker(
        RemoteRerankerConfig(type="remote", api="nim", model="m", base_url=f"{url}/v1", max_retries=1)
    )
    with pytest.raises(RerankingError, match=r"cannot be reached.*base_url") as caught:
        reranker.rerank(ask("q"), CANDIDATES)
    assert f"the reranker m at {url}/v1/ranking" in caught.value.message
    assert caught.value.__cause__ is None  # it holds the request
    reranker.close()


def test_a_server_that_is_too_slow(server: RerankReplay) -> None:
    server.in_turn(Answer({"message": "warming up"}, 503), Answer(b"[]", stall_s=30))
    reranker = remote(server, timeout_s=1.0, max_retries=5)
    with pytest.raises(RerankingError, match=r"not answer within 1 s; the last attempt: .*503: warming up.*timeout_s"):
        reranker.rerank(ask("q"), CANDIDATES)
    assert server.seen[-1].client_left.wait(10)
    reranker.close()


def test_giving_up_closes_the_connection(server: RerankReplay) -> None:
    reranker, cancellation = remote(server), Cancellation()

    def respond(seen: Seen) -> Answer:
        cancellation.request()
        return Answer(b"[]", stall_s=30)

    server.answering(respond)
    with pytest.raises(InterruptedRunError):
        reranker.rerank(ask("q", cancellation), CANDIDATES)
    assert server.seen[0].client_left.wait(10)
    with pytest.raises(InterruptedRunError):
        reranker.rerank(ask("q", cancellation), CANDIDATES)
    assert len(server.seen) == 1
    reranker.close()


def test_closing_breaks_off_what_is_under_way(server: RerankReplay) -> None:
    reranker = remote(server)
    closing = threading.Thread(target=reranker.close)

    def respond(seen: Seen) -> Answer:
        closing.start()
        return Answer(b"[]", stall_s=30)

    server.answering(respond)
    with pytest.raises(RerankingError, match=r"is asked no more\. The reranker was closed"):
        reranker.rerank(ask("q"), CANDIDATES)
    closing.join()
    reranker.close()
    with pytest.raises(RerankingError, match="is asked no more"):
        reranker.rerank(ask("q"), CANDIDATES)


def test_a_failed_batch_ends_the_others(server: RerankReplay) -> None:
    server.answering(lambda seen: Answer(b"", 401) if "two" in texts_of(seen) else Answer(b"[]", stall_s=30))
    reranker = remote(server, max_batch_size=1)
    with pytest.raises(RerankingError, match="refused the key"):
        reranker.rerank(ask("q"), CANDIDATES)
    for seen in server.seen:
        assert "two" in texts_of(seen) or seen.client_left.wait(10)
    reranker.close()


def test_several_threads_share_one_client(server: RerankReplay) -> None:
    server.answering(by_length)
    reranker = remote(server, max_batch_size=1, max_concurrent_requests=2)
    found: list[dict[str, float]] = []
    threads = [
        threading.Thread(target=lambda: found.append(by_id(reranker.rerank(ask("q"), CANDIDATES)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"a": 8.0, "b": 3.0, "c": 16.0}] * 6
    reranker.close()


def test_a_text_that_no_utf_8_holds(server: RerankReplay) -> None:
    reranker = remote(server)
    with pytest.raises(InputError, match="the query: character 1 is a lone surrogate"):
        reranker.rerank(ask("q\ud800"), CANDIDATES)
    reranker.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats(allow_nan=True) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["index", "score", "results", "data", "rankings", "logit"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(APIS)), JSON, st.integers(1, 3))
def test_any_reply_gives_scores_or_a_told_fault(api: Any, reply: Any, count: int) -> None:
    config = RemoteRerankerConfig(type="remote", api=api, model="m", base_url="http://h")
    try:
        scores = read_scores(config, reply, count)
    except ValueError as error:
        assert str(error).startswith(("answered, but", "named a passage", "gave scores"))
    else:
        assert len(scores) == count
    assert batch_limit(reply) is None
