"""The files of the web page as they come over HTTP: nothing but them, with a strict policy, and cached safely."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fastapi.testclient import TestClient

import ragstack.api

STATIC = Path(ragstack.api.__file__).parent / "static"
FILES = sorted(path.name for path in STATIC.iterdir())


def policy(client: TestClient, path: str) -> dict[str, str]:
    header = client.get(path).headers["content-security-policy"]
    return {directive.split()[0]: directive for directive in header.split("; ")}


def test_the_page_and_every_file_are_served_as_they_lie_in_the_package(client: TestClient) -> None:
    assert client.get("/").content == (STATIC / "index.html").read_bytes()
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    for name in FILES:
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.content == (STATIC / name).read_bytes()
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/static/main.js").headers["content-type"] == "text/javascript; charset=utf-8"


def test_nothing_inline_nothing_foreign_and_no_markup_from_strings(client: TestClient) -> None:
    for path in ("/", "/static/main.js"):
        rules = policy(client, path)
        assert rules["default-src"] == "default-src 'none'"
        assert rules["script-src"] == "script-src 'self'"
        assert rules["style-src"] == "style-src 'self'"
        assert rules["connect-src"] == "connect-src 'self'"
        assert rules["frame-ancestors"] == "frame-ancestors 'none'"
        assert rules["require-trusted-types-for"] == "require-trusted-types-for 'script'"
        assert "unsafe" not in " ".join(rules.values())
    page = client.get("/").text
    assert not re.findall(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|javascript:", page)
    for name in FILES:
        text = (STATIC / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.findall(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name


def test_a_file_that_is_known_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/static/main.js")
    tag = first.headers["etag"]
    assert tag == f'"{hashlib.sha256(first.content).hexdigest()[:32]}"'
    assert first.headers["cache-control"] == "no-cache"
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/static/main.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/static/main.js", headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head("/static/main.js")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)


ELSEWHERE = (
    "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/..%5capp.py", "/static/",
    "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/main.js%00", "/static/main.js/", "/static/MAIN.js",
    "/static/index.html/../../app.py", "/static/.", "/static/main",
)  # fmt: skip


def test_no_other_file_is_reached(client: TestClient) -> None:
    for path in ELSEWHERE:
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code in (307, 404), path
        assert b"create_app" not in answer.content
        assert b"root:" not in answer.content
