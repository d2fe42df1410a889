"""The pages that ``ragstack eval --html`` writes, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ragstack.cli.main import main
from tests.evaluation_kit import write_beir, write_config

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of one evaluation and one of a comparison; a title and a question try to be markup."""
    folder = tmp_path_factory.mktemp("pages")
    write_beir(folder / "beir", documents=40, questions=20)
    queries = folder / "beir" / "queries.jsonl"
    queries.write_text(queries.read_text().replace("What does the", "<img src=x onerror=alert(1)> & what does the"))
    place = ["--dataset", str(folder / "beir"), "--state-dir", str(folder / "state")]
    a = write_config(folder / "a.yaml")
    b = write_config(folder / "b.yaml", retrieval={"mode": "dense", "min_relevance": 0.0}, reranker={"type": "none"})
    made = {"evaluation": folder / "e.html", "comparison": folder / "c.html"}
    assert main(["eval", "-c", str(b), *place, "--html", str(made["evaluation"])]) == 0
    assert main(["eval", "--compare", str(a), str(b), *place, "--html", str(made["comparison"])]) == 0
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["evaluation", "comparison"])
def test_a_page_alone_is_whole_and_accessible(browser: Browser, pages: dict[str, Path], kind: str, scheme: Any) -> None:
    from tests.e2e.page import opened_page, overflow, serious

    # The watched page fails for anything asked of elsewhere, and for anything in its console.
    with opened_page(browser, "file://", color_scheme=scheme, viewport={"width": 360, "height": 740}) as page:
        page.goto(pages[kind].as_uri())
        assert overflow(page) == 0
        assert serious(page) == []
        assert page.locator("svg[role=img]").count() >= 3
        for plot in page.locator("svg[role=img]").all():
            assert len(plot.get_attribute("aria-label") or "") > 30
        assert page.locator("img").count() == 0, "text of the data set stays text"
        assert page.get_by_text("<img src=x").count() > 0
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
        for text in page.locator("svg text").all_text_contents():
            assert "nan" not in text
