"""The language of a text: named where it can be told, and left alone where not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.function_words import LETTERS, WORDS
from ragstack.languages import NAMES, detect_language

XQUAD = Path(__file__).parents[3] / "shared" / "data" / "xquad"
REPOSITORY = Path(__file__).parents[2]

# Article 1 of the Universal Declaration of Human Rights, and a second sentence of the same length where it is short.
ARTICLE_1 = {
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím a mají"
    " spolu jednat v duchu bratrství.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og"
    " samvittighed, og"
    " de bør handle mod hverandre i en broderskabets ånd.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt"
    " und sollen einander im Geist der Brüderlichkeit begegnen.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience"
    " and should act towards one another in a spirit of brotherhood.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y"
    " conciencia, deben comportarse fraternalmente los unos con los otros.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki ja"
    " omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de"
    " conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel és lelkiismerettel"
    " bírván, egymással szemben testvéri szellemben kell hogy viseltessenek.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di"
    " coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en"
    " geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i"
    " sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciência,"
    " devem agir uns para com os outros em espírito de fraternidade.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и"
    " совестью и должны"
    " поступать в отношении друг друга в духе братства.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och"
    " samvete och bör"
    " handla gentemot varandra i en anda av gemenskap.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve birbirlerine"
    " karşı kardeşlik zihniyeti ile hareket etmelidirler. Bu hak için de.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і"
    " совістю і повинні"
    " діяти у відношенні один до одного в дусі братерства.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
}


@pytest.mark.parametrize("language", sorted(ARTICLE_1))
def test_one_article_in_its_language(language: str) -> None:
    assert detect_language(ARTICLE_1[language]) == language


@pytest.mark.parametrize("language", ["en", "de", "es"])
def test_paragraphs_and_questions_of_xquad(language: str) -> None:
    data = json.loads((XQUAD / f"xquad.{language}.json").read_text(encoding="utf-8"))["data"]
    paragraphs = [p for article in data for p in article["paragraphs"]]
    found = Counter(detect_language(p["context"]) for p in paragraphs)
    assert found[language] >= 0.99 * len(paragraphs), found
    assert set(found) <= {language, None}, "a paragraph is unknown rather than of another language"
    questions = Counter(detect_language(q["question"]) for p in paragraphs for q in p["qas"])
    assert questions[language] >= 0.8 * sum(questions.values()), questions
    wrong = sum(n for name, n in questions.items() if name not in (language, None))
    assert wrong <= 0.01 * sum(questions.values()), questions


def test_source_code_is_english_or_nothing() -> None:
    lists_of_words = ("function_words.py", "stop_words.py")
    files = [f for f in sorted((REPOSITORY / "ragstack").rglob("*.py")) if f.name not in lists_of_words]
    found = Counter(detect_language(f.read_text(encoding="utf-8")) for f in files)
    assert set(found) <= {"en", None}, found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\t ",
        "42",
        "1;2;3\n4;5;6\n" * 50,
        "for i in a: s += v[i] * k[o]\n" * 30,
        "id,name,x,y,u\n" + "\n".join(f"{i},item{i},{i * 3},{i * 7},a" for i in range(200)),
        "Berlin, Hamburg, München, Köln, Frankfurt, Stuttgart, Düsseldorf, Leipzig, Dortmund, Essen, Bremen, Dresden",
        "f3a9c1 00ff7e deadbeef " * 40,
        "🙂🙂🙂",
        "https://example.org/a/b?c=d&e=f",
    ],
)
def test_text_without_sentences_has_no_language(text: str) -> None:
    assert detect_language(text) is None


def test_english_terms_in_a_chinese_text_leave_it_chinese() -> None:
    assert (
        detect_language("使用 ONNX Runtime 和 Python 3.11 安装 ragstack 之后，运行 index 命令即可建立索引。" * 3)
        == "zh"
    )


def test_a_licence_in_english_does_not_hide_a_german_document() -> None:
    assert detect_language(ARTICLE_1["en"] * 4 + ARTICLE_1["de"] * 40) == "de"


@given(st.text(max_size=300))
def test_any_text_gives_a_known_language_or_none(text: str) -> None:
    found = detect_language(text)
    assert found is None or found in NAMES
    assert detect_language(text) == found


def test_profiles_and_names_fit_together() -> None:
    assert set(LETTERS) <= set(WORDS) <= set(NAMES)
    for language, letters in LETTERS.items():
        assert letters == letters.lower(), language
    for language, words in WORDS.items():
        assert words == words.lower(), language
