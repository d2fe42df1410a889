"""Documents over HTTP: upload, list, erase, index again; and every way out of the folder of uploads."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

import ragstack
from ragstack.api.app import create_app
from ragstack.api.security import Caller
from ragstack.api.uploads import UploadFolder, folder_of, safe_name
from ragstack.errors import InputError
from ragstack.filters import bind_filter, parse_filter
from ragstack.retrieval.filter_check import matches
from ragstack.testing.filter_oracle import matches as oracle_matches
from tests.integration.api.tenants import SECRETS, Served, document, serving, tenant_filter
from tests.integration.harness import SMALL_CONFIG

SENTENCE = "The zeppelin hangar is swept on the last Thursday of each month."


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The index of two tenants; tests add documents under names of their own."""
    limits = {"max_file_bytes": 5000, "max_files": 60}
    with serving(tmp_path_factory.mktemp("tenants"), limits={"burst": 100_000}, documents=limits) as opened:
        yield opened


def ask(served: Served, text: str, name: str = "query") -> dict[str, Any]:
    """The answer's chain."""
    chain: dict[str, Any] = served.client.post("/v1/query", json={"query": text}, headers=served.headers(name)).json()
    return chain


def sources_of(chain: dict[str, Any]) -> set[str]:
    """The sources of its passages."""
    return {passage["place"]["source_id"] for passage in chain["passages"]}


def multipart(name: bytes, data: bytes, field: bytes = b"files") -> tuple[bytes, dict[str, str]]:
    """A body with one file of exactly this name, and its headers: clients would escape it."""
    disposition = b'form-data; name="' + field + b'"; filename="' + name + b'"'
    body = b"--cut\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + data + b"\r\n--cut--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=cut"}


def test_an_upload_is_indexed_found_replaced_and_erased(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = sources_of(ask(served, SENTENCE))
    report = served.upload("write", ("hangar.md", f"# Hangar\n\n{SENTENCE}\n".encode()))
    outcomes = [(found["source_id"], found["status"]) for found in report["documents"]]
    assert outcomes == [("uploads/hangar.md", "indexed")]
    chain = ask(served, SENTENCE)
    assert sources_of(chain) - before == {"uploads/hangar.md"}
    assert chain["answer"]["citations"]
    citation_id = chain["answer"]["citations"][0]["citation_id"]
    assert served.client.get(f"/v1/citations/{citation_id}", headers=served.headers("query")).status_code == 200

    other = SENTENCE.replace("zeppelin", "dirigible")
    served.upload("write", ("hangar.md", f"# Hangar\n\n{other}\n".encode()))
    listed = {d["source_id"]: d for d in documents(served, "admin")}
    assert listed["uploads/hangar.md"]["uploaded"] is True
    assert listed["uploads/hangar.md"]["size_bytes"] == len(f"# Hangar\n\n{other}\n")
    assert listed["corpus/alpha.md"]["uploaded"] is False
    assert "zeppelin" not in json.dumps([passage["place"]["text"] for passage in ask(served, SENTENCE)["passages"]])

    response = served.client.delete("/v1/documents/uploads/hangar.md", headers=served.headers("write"))
    assert response.status_code == 202
    job = served.finished(response.json()["job_id"])
    assert job["report"] == {
        "source_id": "uploads/hangar.md",
        "chunks": 1,
        "file_deleted": True,
        "indexed_again_by_next_run": False,
        "same_text_in": [],
    }
    assert not (served.uploads / "hangar.md").exists()
    assert sources_of(ask(served, SENTENCE)) == before
    # Nothing of either version is left: in no route, no file of the state directory, no log line.
    routes = ["/v1/jobs", "/v1/documents", f"/v1/citations/{citation_id}", f"/v1/jobs/{job['job_id']}"]
    told = "".join(served.client.get(route, headers=served.headers("admin")).text for route in routes)
    logged = "".join(record.getMessage() for record in caplog.records)
    files = [path for path in served.folder.rglob("*") if path.is_file()]
    for word in ("zeppelin", "dirigible"):
        assert word not in told
        assert word not in logged
        assert [path for path in files if word.encode() in path.read_bytes()] == []
    gone = served.client.delete("/v1/documents/uploads/hangar.md", headers=served.headers("write"))
    assert gone.status_code == 404


def test_reasons_about_an_erased_document_are_forgotten(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        wrong = "---\ntenant: {zeppelin: 1}\n---\n\nText.\n"
        server.upload("admin", ("wrong.md", wrong.encode()), ("right.md", b"# Right\n\nFine text here.\n"))
        jobs = server.client.get("/v1/jobs", headers=server.headers("admin")).text
        assert "zeppelin" in jobs  # the reason quotes the value that is not of the declared type
        response = server.client.delete("/v1/documents/uploads/wrong.md", headers=server.headers("admin"))
        assert server.finished(response.json()["job_id"])["report"]["file_deleted"] is True
        jobs = server.client.get("/v1/jobs", headers=server.headers("admin")).text
        assert "zeppelin" not in jobs
        assert "uploads/right.md" in jobs


def test_a_file_of_the_users_own_is_not_deleted(tmp_path: Path) -> None:
    with serving(tmp_path, with_keys=False) as server:
        response = server.client.delete("/v1/documents/corpus/alpha.md")
        report = server.finished(response.json()["job_id"])["report"]
        assert report["file_deleted"] is False
        assert report["indexed_again_by_next_run"] is True
        assert (tmp_path / "corpus" / "alpha.md").read_text() == document("alpha")
        assert [d["source_id"] for d in documents(server)] == ["corpus/beta.md"]
        again = server.client.post("/v1/documents/reindex")
        assert server.finished(again.json()["job_id"])["report"]["added"] == 1
        assert [d["source_id"] for d in documents(server)] == ["corpus/alpha.md", "corpus/beta.md"]


def test_the_last_document_can_be_erased_and_another_uploaded(tmp_path: Path) -> None:
    with TestClient(create_app(ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state"))) as client:
        server = Served(client, None, {}, tmp_path)  # type: ignore[arg-type]
        assert client.get("/v1/documents").json() == {"documents": [], "next_cursor": None}
        for name in ("first.txt", "second.txt"):  # the first makes the index
            server.upload("", (name, SENTENCE.encode()))
            assert [d["source_id"] for d in documents(server)] == [f"uploads/{name}"]
            response = client.delete(f"/v1/documents/uploads/{name}")
            assert server.finished(response.json()["job_id"])["state"] == "done"
            assert documents(server) == []


def test_what_was_uploaded_belongs_to_its_root_when_a_folder_above_is_indexed(tmp_path: Path) -> None:
    state_dir = tmp_path / "project" / ".ragstack"
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "own.txt").write_text("A file of the user's own.")
    with ragstack.open(SMALL_CONFIG, state_dir=state_dir) as pipeline, TestClient(create_app(pipeline)) as client:
        server = Served(client, pipeline, {}, tmp_path)
        server.upload("", ("sent.txt", SENTENCE.encode()))
        (tmp_path / "project" / "ragstack-uploads" / ".incoming" / "part").write_text("half a file")
        pipeline.index(tmp_path / "project")
        assert [d["source_id"] for d in documents(server)] == ["project/own.txt", "uploads/sent.txt"]


def test_pages(served: Served) -> None:
    served.upload("admin", *[(f"page{n}.txt", f"Page {n} of the log.".encode()) for n in range(7)])
    whole = [d["source_id"] for d in documents(served, "admin")]
    assert whole == sorted(whole)
    for limit in (1, 3, len(whole), 1000):
        found: list[str] = []
        cursor: str | None = None
        for _ in range(len(whole) + 2):
            page = served.client.get(
                "/v1/documents",
                params={"limit": limit, **({"cursor": cursor} if cursor else {})},
                headers=served.headers("query"),
            ).json()
            assert len(page["documents"]) <= limit
            found += [d["source_id"] for d in page["documents"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found == whole
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=%00", "cursor=!!", "cursor=gA"):
        assert served.client.get(f"/v1/documents?{query}", headers=served.headers("query")).status_code == 422


# -- callers with a filter -----------------------------------------------------------------------


def test_tenants_upload_side_by_side(served: Served) -> None:
    for tenant in SECRETS:
        report = served.upload(tenant, ("same.md", document(tenant, f"The {tenant} ferry sails at noon.").encode()))
        assert "index" not in report  # it would name the other's files
        folder = folder_of(parse_filter(tenant_filter(tenant)))
        assert report["documents"][0]["source_id"] == f"uploads/{folder}/same.md"
    for tenant in SECRETS:
        mine = {d["source_id"] for d in documents(served, tenant)}
        folder = folder_of(parse_filter(tenant_filter(tenant)))
        assert mine == {f"corpus/{tenant}.md", f"uploads/{folder}/same.md"}
        for foreign in {d["source_id"] for d in documents(served, "admin")} - mine:
            response = served.client.delete(f"/v1/documents/{foreign}", headers=served.headers(tenant))
            assert response.status_code == 404
        own = served.client.delete(f"/v1/documents/uploads/{folder}/same.md", headers=served.headers(tenant))
        report = served.finished(own.json()["job_id"])["report"]
        assert report["file_deleted"] is True
        assert "same_text_in" not in report


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("other.md", document("beta")),
        ("none.md", "# No front matter\n"),
        ("plain.txt", "tenant: alpha"),
        ("both.md", "---\ntenant: [alpha, beta]\n---\n\nFor both.\n"),
        ("wrong.md", "---\ntenant: {a: 1}\n---\n\nText.\n"),
        ("empty.md", ""),
        ("binary.bin", "\0\1\2\3"),
        ("page.pdf", "%PDF-1.7"),
    ],
)
def test_a_tenant_brings_in_nothing_that_its_filter_hides(served: Served, name: str, text: str) -> None:
    before = tree(served.folder)
    response = served.client.post(
        "/v1/documents", files=[("files", (name, text.encode()))], headers=served.headers("alpha")
    )
    assert response.status_code in (403, 422), response.text
    assert tree(served.folder) == before


_FIELDS: dict[str, Any] = {"k": "keyword", "i": "integer", "d": "datetime"}
_OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "k": st.sampled_from(["a", "b", "c"]),
    "i": st.integers(-2, 2),
    "d": st.sampled_from(["2024-05-31", "2024-05-31T02:00:00+02:00", "2025-01-01T00:00:00Z"]),
}


@st.composite
def _conditions(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(_FIELDS)))
    ops = ["eq", "ne", "in", "nin", "exists", "contains"] + (["gt", "gte", "lt", "lte"] if name != "k" else [])
    op = draw(st.sampled_from(ops))
    one = _OF_TYPE[name]
    value = draw(st.booleans() if op == "exists" else st.lists(one, max_size=3) if op in ("in", "nin") else one)
    return {"field": name, "op": op, "value": value}


_FILTERS = st.recursive(
    _conditions(),
    lambda inner: st.one_of(
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda key, parts: {key: parts}, st.sampled_from(["and", "or"]), st.lists(inner, max_size=3)),
    ),
    max_leaves=6,
)


_PAYLOADS = st.fixed_dictionaries(
    {name: st.one_of(st.none(), one, st.lists(one, max_size=3)) for name, one in _OF_TYPE.items()}
)


@given(_FILTERS, _PAYLOADS)
def test_an_upload_is_judged_as_the_stores_judge(filter: dict[str, Any], payload: dict[str, Any]) -> None:
    bound = bind_filter(parse_filter(filter), _FIELDS)
    assert matches(bound, payload, _FIELDS) == oracle_matches(bound, payload, _FIELDS)


# -- hostile uploads -----------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, int]:
    """Every file below ``folder`` outside the state directory, with its size."""
    return {
        str(path.relative_to(folder)): path.lstat().st_size
        for path in sorted(folder.rglob("*"))
        if "state" not in path.relative_to(folder).parts[:1] and not path.is_dir()
    }


def hostile_names() -> list[str]:
    """Names that lead out of a folder somewhere, or are no names."""
    targets = ("etc/passwd", "evil.md", "state/api-keys.json", "corpus/alpha.md")
    ups = (
        "../",
        "../../",
        "..\\",
        "..\\..\\",
        "....//",
        "..;/",
        "..%00/",
        "./",
        "/",
        "//",
        "\\\\",
        "~/",
        "C:\\",
        "C:/",
        "file:///",
    )
    ups += ("a/../../", "a/../", ".//..//", "..\x00/", "../\t", "\\\\?\\C:\\", "/proc/self/root/", "/dev/fd/")
    names = [up + target for up, target in itertools.product(ups, targets)]
    separators = ("%2f", "%2F", "%5c", "%252f", "%c0%af", "\u2215", "\u2044", "\uff0f", "\uff3c", "\u29f5", "\ufe68")
    names += [f"..{separator}{target}" for separator in separators for target in ("evil.md", "corpus")]
    names += [f"sub{separator}evil.md" for separator in ("/", "\\", "\uff0f", "\uff3c")]
    dots = ("\uff0e", "\u2024", "%2e", "\u2025")
    names += [f"{dot}{dot}{end}" for dot in dots for end in ("", "/x.md", "\\x.md", "x")]
    names += ["", " ", ".", "..", "...", ". .", ".. ", " ..", ".hidden.md", ".gitignore", ".incoming", ".incoming/x.md"]
    names += ["x.md.", "x.md ", " x.md", "x\t", "\tx.md", "x.md\x7f", "x\ny.md", "x\ry.md", "x\x00.md", "x.md\x00.txt"]
    invisible = (0x1, 0x8, 0x1B, 0x85, 0xAD, 0x200B, 0x200E, 0x202E, 0x2028, 0x2066, 0xFEFF)
    names += [f"x{chr(code)}y.md" for code in invisible]
    names += ["CON", "con", "PRN", "AUX", "NUL", "nul.md", "COM1", "COM9.txt", "LPT1", "lpt\u00b9.md", "CONIN$"]
    names += ["a" * 256, "a" * 252 + ".mdx", "\u00e4" * 128, "\U0001f600" * 64, "x" * 5000, "../" * 60 + "x"]
    names += ["rsk_0123456789ab_" + "A" * 43 + ".md", "x\ue000.md", "x\U000e0041.md", "f-0123456789ab/x.md"]
    names += ["-rf", "--help.md", "$(id).md", "`id`.md", "a;b.md", "a|b.md", "*.md", "a'b.md", "%s%n.md", "{x}.md"]
    names += ["\u0627\u0644.md", "\u092e\u094d\u200d\u092e.md", "na\u00efve plan.md", "e\u0301.md", "At 10:30.md"]
    return names


def is_safe(name: str) -> bool:
    """True for a name that is kept."""
    try:
        safe_name(name)
    except InputError:
        return False
    return True


def test_no_name_leads_out_of_the_folder(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    names = hostile_names()
    assert len(names) >= 200
    monkeypatch.chdir(served.folder)
    outside = {path: size for path, size in tree(served.folder).items() if not path.startswith("ragstack-uploads/")}
    kept = [safe_name(name) for name in names if is_safe(name)]
    for name in (name for name in names if not is_safe(name)):
        body, headers = multipart(name.encode(), b"evil")  # as it is, without a client's escapes
        response = served.client.post("/v1/documents", content=body, headers={**headers, **served.headers("admin")})
        if response.status_code != 422:
            # What the header's grammar left of the name came to something harmless.
            assert response.status_code == 202, (name, response.text)
            job = served.finished(response.json()["job_id"])
            stored = [found["source_id"] for found in job["report"]["documents"]]
            assert all(source_id.count("/") == 1 for source_id in stored), (name, stored)
    assert 10 <= len(kept) <= 50
    report = served.upload("admin", *[(name, b"kept") for name in dict.fromkeys(kept)])
    assert len(report["documents"]) == len(set(kept))
    after = tree(served.folder)
    assert {path: size for path, size in after.items() if not path.startswith("ragstack-uploads/")} == outside
    assert all(path.count("/") <= 2 for path in after if path.startswith("ragstack-uploads/"))
    assert not [path for path in after if "/.incoming/" in path]
    odd = ("uploads/%252e%252e", "uploads/-rf", "uploads/At 10:30.md")
    for source_id in odd:
        escaped = quote(quote(source_id))  # the test client takes off two layers of escapes
        response = served.client.delete(f"/v1/documents/{escaped}", headers=served.headers("admin"))
        assert response.status_code == 202, source_id
    served.finished(response.json()["job_id"])
    assert set(after) - set(tree(served.folder)) == {f"ragstack-{name}" for name in ("uploads/%2e%2e", *odd[1:])}


@given(st.text(max_size=300))
def test_a_safe_name_is_one_part_of_a_path(raw: str) -> None:
    try:
        name = safe_name(raw)
    except InputError:
        return
    assert Path("/root", name).parent == Path("/root")
    assert Path(f"/root/{name}").resolve() == Path("/root", name)
    assert len(os.fsencode(name)) <= 255
    assert safe_name(name) == name


_NO_DOCUMENTS = [
    "../corpus/alpha.md",
    "uploads/%2e%2e/corpus/alpha.md",
    "uploads/..%2f..%2fcorpus/alpha.md",
    "uploads/%2e%2e/%2e%2e/etc/passwd",
    "uploads/....//x",
    "/etc/passwd",
    "//etc/passwd",
    "etc/passwd",
    "file:///etc/passwd",
    "uploads",
    "uploads/",
    "uploads//",
    "uploads/.",
    "uploads/..",
    "uploads/.incoming",
    "uploads/.incoming/x",
    "uploads/f-000000000000",
    "uploads/f-000000000000/..",
    "uploads/a/b/c",
    "uploads/link.md",
    "uploads/f-111111111111/secret.md",
    "corpus",
    "corpus/",
    "corpus/alpha",
    "id:uploads",
    "id:corpus/alpha.md",
    "%00",
    "uploads/%00",
    "uploads/x%00.md",
    "uploads/%ff",
    "a" * 9000,
    "\U0001f600",
]


def test_no_id_reaches_a_file_that_is_no_document(served: Served) -> None:
    secret = served.folder / "secret.md"
    secret.write_text("not for the server")
    served.uploads.mkdir(exist_ok=True)
    (served.uploads / "link.md").symlink_to(secret)
    (served.uploads / "f-111111111111").symlink_to(served.folder)
    before = tree(served.folder)
    for source_id in _NO_DOCUMENTS:
        for form in (source_id, quote(source_id, safe="%")):
            response = served.client.delete(f"/v1/documents/{form}", headers=served.headers("admin"))
            assert response.status_code in (404, 405, 422), (form, response.text)
    assert tree(served.folder) == before
    (served.uploads / "link.md").unlink()
    (served.uploads / "f-111111111111").unlink()


def test_links_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim.md").write_text("as it was")
    folder = UploadFolder(tmp_path / "uploads", "uploads")
    received, descriptor = folder.new_incoming()
    os.write(descriptor, b"evil")
    os.close(descriptor)
    caller = Caller("x", frozenset({"write"}), parse_filter(tenant_filter("alpha")))
    (folder.root / folder_of(caller.filter)).symlink_to(outside)
    with pytest.raises(Exception, match="in the way"):
        folder.place(received, folder_of(caller.filter), "victim.md")
    (folder.root / "victim.md").symlink_to(outside / "victim.md")
    assert not folder.remove("uploads/victim.md")
    placed = folder.place(received, "", "victim.md")
    assert placed.read_bytes() == b"evil"
    assert not placed.is_symlink()
    assert (outside / "victim.md").read_text() == "as it was"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=", b"----\r\n"),
        ("multipart/form-data; boundary=" + "x" * 200, b"x"),
        ("multipart/mixed; boundary=cut", multipart(b"a.md", b"x")[0]),
        ("multipart/form-data; boundary=cut", b""),
        ("multipart/form-data; boundary=cut", b"--cut--\r\n"),
        ("multipart/form-data; boundary=cut", b"no boundary at all"),
        ("multipart/form-data; boundary=cut", multipart(b"a.md", b"x")[0][:-20]),
        ("multipart/form-data; boundary=cut", multipart(b"a.md", b"x", b"other")[0]),
        ("multipart/form-data; boundary=cut", multipart(b"", b"x")[0].replace(b'; filename=""', b"")),
        ("multipart/form-data; boundary=cut", b"--cut\r\n\r\nx\r\n--cut--\r\n"),
        ("multipart/form-data; boundary=cut", b"--cut\r\nX: " + b"y" * 20_000 + b"\r\n\r\nx\r\n--cut--\r\n"),
        ("multipart/form-data; boundary=cut", b"--cut\r\n" + b"X: y\r\n" * 5000 + b"\r\nx\r\n--cut--\r\n"),
        ("multipart/form-data; boundary=cut", b"--cut\r\nbad header\r\n\r\nx\r\n--cut--\r\n"),
        ("multipart/form-data; boundary=cut", multipart(b"\xff\xfe.md", b"x")[0]),
        ("multipart/form-data; boundary=cut", multipart(b"a.md", b"x")[0][:-9] + multipart(b"a.md", b"y")[0]),
        ("multipart/form-data; boundary=cut", b"".join(multipart(b"%d.md" % n, b"x")[0][:-9] for n in range(70))),
    ],
)
def test_a_body_that_is_no_upload_leaves_nothing(served: Served, content_type: str, body: bytes) -> None:
    before = tree(served.folder)
    headers = {"Content-Type": content_type, **served.headers("write")}
    response = served.client.post("/v1/documents", content=body, headers=headers)
    assert response.status_code == 422, response.text
    assert tree(served.folder) == before


def test_a_file_over_the_limit_leaves_nothing(served: Served) -> None:
    before = tree(served.folder)
    files = [("files", ("small.txt", b"x")), ("files", ("large.txt", b"x" * 5001))]
    response = served.client.post("/v1/documents", files=files, headers=served.headers("write"))
    assert response.status_code == 413
    assert "large.txt" in response.json()["error"]["message"]
    assert tree(served.folder) == before


def test_a_full_disk_is_told_and_leaves_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(served.folder)
    whole = os.write

    def write(descriptor: int, data: bytes) -> int:
        if bytes(data).startswith(b"too much"):
            raise OSError(28, "No space left on device")
        return whole(descriptor, data)

    monkeypatch.setattr("ragstack.api.upload_reader.os.write", write)
    response = served.client.post(
        "/v1/documents", files=[("files", ("x.txt", b"too much"))], headers=served.headers("write")
    )
    assert response.status_code == 507
    assert tree(served.folder) == before


def test_the_reserve_on_the_disk_is_kept(tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "indexer": {**SMALL_CONFIG["indexer"], "min_free_bytes": 10**18}}
    with TestClient(create_app(ragstack.open(config, state_dir=tmp_path / "state"))) as client:
        response = client.post("/v1/documents", files=[("files", ("x.txt", b"text"))])
        assert response.status_code == 507
        assert "min_free_bytes" in response.json()["error"]["hint"]
        assert tree(tmp_path) == {}


def test_a_client_that_leaves_in_the_middle_leaves_nothing(served: Served) -> None:
    import asyncio

    from ragstack.api.upload_reader import receive_files

    folder = UploadFolder(served.folder / "left", "uploads")

    async def leaving() -> None:
        from anyio import CapacityLimiter

        async def body() -> Any:
            yield multipart(b"a.md", b"x" * 300_000)[0][:-20]
            await asyncio.sleep(30)

        reading = receive_files("multipart/form-data; boundary=cut", body(), folder, 10**6, 5, 0, CapacityLimiter(1))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reading, 0.5)

    asyncio.run(leaving())
    assert tree(served.folder / "left") == {}
    shutil.rmtree(served.folder / "left")


def test_what_the_sender_says_of_the_type_is_not_believed(served: Served) -> None:
    page = b"<script>alert(1)</script>"
    for name, told in (("page.html", "text/plain"), ("photo.txt", "image/png"), ("data.bin", "text/markdown")):
        data = page if name != "data.bin" else b"\x00\x01\x02"
        response = served.client.post(
            "/v1/documents", files=[("files", (name, data, told))], headers=served.headers("write")
        )
        served.finished(response.json()["job_id"])
    listed = {d["source_id"]: d for d in documents(served, "admin")}
    assert listed["uploads/photo.txt"]["media_type"] == "text/plain"
    assert listed["uploads/data.bin"]["skipped"] == "binary"
    assert listed["uploads/page.html"]["media_type"] == "text/html"


def test_uploads_in_the_state_directory_are_refused(tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "server": {"documents": {"upload_dir": str(tmp_path / "state" / "uploads")}}}
    with (
        pytest.raises(InputError, match="never indexed"),
        TestClient(create_app(ragstack.open(config, state_dir=tmp_path / "state"))),
    ):
        pass


def documents(served: Served, name: str = "admin") -> list[dict[str, Any]]:
    """All documents that the caller may see."""
    headers = served.headers(name) if served.keys else {}
    found: list[dict[str, Any]] = served.client.get("/v1/documents?limit=1000", headers=headers).json()["documents"]
    return found
