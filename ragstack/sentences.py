"""Where sentences are in a text, by byte offsets.

Rules, not a model: a sentence ends at ``.``, ``!``, ``?``, ``…`` and their kin in other scripts, unless
the full stop belongs to an abbreviation, an initial or a number; at a blank line; and where a list
item or a Markdown heading starts or ends. A line break inside a paragraph is only a space.
Time is linear in the text.
"""

from __future__ import annotations

import re

_CLOSERS = "\"'”’»›)\\]}」』】〉》）］｝＂＇*_"
_OPENERS = "\"'“‘«‹(\\[{「『【〈《（［｛¿¡*_"
# Ideographic stops end a sentence with or without a space after them; the others need a space, so
# that "3.14", "a.b" and "www.x.org" stay whole.
_WIDE = "。！？｡．"
_STOPS = ".!?…؟۔।॥။።‼⁇⁈⁉"
_LINE_END = r"(?:\r\n|\r|\n)"
# The search is for one character of a set, which is the fastest that a regular expression can do.
_CANDIDATE = re.compile(f"[\r\n{_WIDE}{_STOPS}]")
_BLANK_LINE = re.compile(rf"{_LINE_END}[^\S\r\n]*{_LINE_END}\s*")
# A line that starts a list item, a heading, a quote or a table row; the line before it ends there.
_STRUCTURE_LINE = re.compile(
    rf"{_LINE_END}[^\S\r\n]*(?=(?:[-*+•‣◦▪–]|\d{{1,3}}[.)]|[A-Za-z][.)]|\#{{1,6}}|>|\|)[^\S\r\n]|\|)"
)
_HEADING_LINE = re.compile(r"[^\S\r\n]{0,3}#{1,6}[^\S\r\n]")
_WIDE_STOP = re.compile(rf"[{_WIDE}{_STOPS}]+[{_CLOSERS}]{{0,8}}")
_STOP = re.compile(rf"[{_STOPS}]+[{_CLOSERS}]{{0,8}}(?=\s)")
_LAST_WORD = re.compile(r"[^\W_][\w.’'-]{0,20}\Z")
_OPENING = re.compile(rf"\s*[{_OPENERS}]{{0,8}}(.?)", re.DOTALL)
_SPACE = re.compile(r"\s*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A full stop after these never ends a sentence: a name goes on, or an example.
_BEFORE_NAME = _words(
    "mr mrs ms mx dr prof st rev hon gen col maj capt lt sgt gov sen rep pres messrs mme mlle fr hr"
    " cf v vs viz approx ca e.g i.e eg ie bzw z.b u.a d.h vgl ggf p.ex"
)
# After these it ends none when a digit follows: "No. 5", "Fig. 3", "Jan. 5".
_BEFORE_NUMBER = _words(
    "no nos nr vol fig figs eq eqs sec secs ch chap pp p art para tab ref refs"
    " jan feb mar apr jun jul aug sep sept oct nov dec etc al inc"
)
# After an ordinal number these go on with it: "am 27. Januar", "im 19. Jahrhundert".
_AFTER_ORDINAL = re.compile(
    r"\s+(?:Jan|Feb|Mär|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez|Jahrhundert|Jh|Jahrestag|Geburtstag)"
)
_ORDINAL = re.compile(r"(?:\d{1,2}|[IVX]{1,5})\Z")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Sentences of ``text`` as half-open byte ranges of its UTF-8 form, in order, without surrounding white space.

    Every character that is not white space is in exactly one sentence.
    """
    spans = character_spans(text)
    if text.isascii():
        return spans
    found: list[tuple[int, int]] = []
    position = byte = 0
    for start, end in spans:
        byte_start = byte + len(text[position:start].encode("utf-8", "surrogatepass"))
        byte = byte_start + len(text[start:end].encode("utf-8", "surrogatepass"))
        position = end
        found.append((byte_start, byte))
    return found


def character_spans(text: str, *, has_case: bool | None = None) -> list[tuple[int, int]]:
    """Like :func:`sentence_spans`, counted in characters.

    ``has_case`` False: a small letter after a full stop may begin a sentence; None: when none of the text's letters is
    a capital. Who sees a text grow has to say.
    """
    spans: list[tuple[int, int]] = []
    # Where nothing is written large, a small letter after a full stop tells nothing.
    if has_case is None:
        has_case = any(character.isupper() for character in text)
    start = line_start = _skip_space(text, 0)
    position = start
    while (candidate := _CANDIDATE.search(text, position)) is not None:
        at = candidate.start()
        is_line_end = text[at] in "\r\n"
        end = _line_boundary(text, line_start, at) if is_line_end else _stop_boundary(text, start, at, has_case)
        if end is None:
            position = _WIDE_STOP.match(text, at).end() if not is_line_end else at + 1  # type: ignore[union-attr]
            if is_line_end:
                line_start = position
            continue
        _add(spans, text, start, end)
        start = position = _skip_space(text, max(end, at + 1 if is_line_end else end))
        if is_line_end or "\n" in text[end:start] or "\r" in text[end:start]:
            line_start = start
    _add(spans, text, start, len(text))
    return spans


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    length = len(text[start:end].rstrip())
    if length:
        spans.append((start, start + length))


def _line_boundary(text: str, line_start: int, at: int) -> int | None:
    """Where the sentence ends when the line end at ``at`` ends it; None when it is only a space."""
    ends = (
        _BLANK_LINE.match(text, at) is not None
        or _STRUCTURE_LINE.match(text, at) is not None
        or _HEADING_LINE.match(text, line_start) is not None
    )
    return at if ends else None


def _stop_boundary(text: str, start: int, at: int, has_case: bool) -> int | None:
    """Where the sentence ends when the stop at ``at`` ends it; None when it does not."""
    wide = _WIDE_STOP.match(text, at)
    if wide is not None and any(mark in wide.group() for mark in _WIDE):
        return wide.end()
    stop = _STOP.match(text, at)
    if stop is None:
        return None
    marks = stop.group().rstrip("\"'”’»›)]}」』】〉》）］｝＂＇*_")
    after_match = _OPENING.match(text, stop.end())
    after = after_match.group(1) if after_match is not None else ""
    if marks != ".":
        # In mid-sentence a small letter follows the dots: "well... and so on".
        return None if marks[0] in ".…" and after.islower() else stop.end()
    found = _LAST_WORD.search(text, max(start, at - 24), at)
    before = found.group() if found is not None else ""
    after = after if has_case or not after.islower() else after.upper()
    return stop.end() if _full_stop_ends(text, start, at, before, after) else None


def _full_stop_ends(text: str, start: int, at: int, before: str, after: str) -> bool:
    """Whether the full stop at ``at``, with the word ``before`` it and the character ``after`` it, ends a sentence."""
    word = before.lower().rstrip(".")
    if after.islower() or word in _BEFORE_NAME:
        return False
    if after.isdigit() and word in _BEFORE_NUMBER:
        return False
    if _ORDINAL.match(before) and _AFTER_ORDINAL.match(text, at + 1):
        return False
    if len(before) == 1 and before.isupper() and before != "I":
        return False  # an initial: "J. R. R. Tolkien"
    # The number of a list item: "1. First step".
    is_number = before.isdigit() and len(before) <= 3
    return not (is_number and text[max(start, at - 8) : at].strip() == before and at - start <= 8)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position
