from __future__ import annotations

from ragstack.indexer.text_languages import text_languages
from ragstack.source_map import SourceMap
from ragstack.types import Document, Source

GERMAN = "Die Pumpen werden mit Öl befüllt, und danach ist der Hebel zu drehen. Man wartet, bis es nicht mehr tropft."
ENGLISH = "The pumps are primed with oil, and after that the lever is turned. Wait until it does not drip any more."


def languages(*texts: str) -> list[str]:
    source = Source("root/a", "file:///a", "0" * 64)
    return text_languages([Document(source, text, "text/plain", "utf-8", SourceMap(())) for text in texts])


def test_each_document_has_its_own() -> None:
    assert languages(GERMAN, ENGLISH) == ["de", "en"]
    assert languages(GERMAN) == ["de"]


def test_nothing_is_said_of_what_cannot_be_told() -> None:
    assert languages() == []
    assert languages("x = 1") == [""]
    assert languages("", "E1234") == ["", ""]


def test_a_short_record_is_in_the_language_of_its_source() -> None:
    assert languages("Ventile", GERMAN, "Hebel") == ["de", "de", "de"]
    parts = GERMAN.split()
    assert languages(*parts) == ["de"] * len(parts)
