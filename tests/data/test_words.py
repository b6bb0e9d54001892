import random
import unicodedata

import pytest
import regex

from research.data import tokenizer as tokenizers
from research.data import words

# In each text, the words are what stands between the bars.
TEXTS = {
    "english": "Dr|.| |O'Neil-Smith's| |U.S|.| |3|,|000.5| |m²| |e.g|.| |a_b| |(|$|5|)| |“|q|”",
    "hindi": "रवि| |दिल्ली| |में| |है|।",
    "a joiner in hindi": "क्\u200dषत्रिय| |ढाँचा",
    "bengali": "রবীন্দ্রনাথ| |ঠাকুর| |কলকাতায়|।",
    "tamil": "சென்னை| |தமிழ்நாட்டின்| |தலைநகரம்|.",
    "arabic with marks": "مُحَمَّد| |فِي| |القاهِرة|،| |صحيح|؟",
    "a non-joiner in persian": "می\u200cخواهم| |بروم",
    "hebrew with points": 'בְּרֵאשִׁית| |צה"ל| |ארה״ב| |"|שלום|"',
    "korean": "서울은| |대한민국의| |수도이다|.",
    "korean, decomposed": unicodedata.normalize("NFD", "서울은") + "| |" + "수도",
    "latin, decomposed": unicodedata.normalize("NFD", "José| |Müller's| |café| |Łódź"),
    "catalan": "col·lecció",
    "emoji": "❤️| |👨\u200d👩\u200d👧|👍🏽|🇩🇪|🇫🇷|1️⃣|!",
    "format characters": "co\u00adoperate|\u200b|a| \u200f|שלום| \ufeff|x|\x1c|y",
    "chinese": "王|小|明|2024|年|住|在|iPhone|手|机|。",
    "a variant of a han character": "葛\U000e0100|城",
    "japanese": "東|京|タ|ワ|ー|は|高|い|々|・|ﾊﾟ",
    "thai": "น้ำ|ที่|ก|รุ|ง| |๒๕๖๐",
    "lao": "ຈັ|ນ",
    "khmer": "ភ្នំ|ពេ|ញ|។",
    "burmese": "ရ|န်|ကု|န်|မြို့",
}


@pytest.mark.parametrize("name", TEXTS)
def test_words_in_many_scripts(name):
    parts = TEXTS[name].split("|")
    text = "".join(parts)
    blank = regex.compile(r"[\s\u200b\u200f\ufeff\x1c]+")
    assert [text[a:b] for a, b in words.split(text)] == [p for p in parts if not blank.fullmatch(p)]


def test_scripts_without_blanks_go_by_the_pieces_of_the_tokenizer():
    known = ("王", "小", "##明", "東京", "##タワー", "สม", "##ชาย", "Rome")
    names = [*tokenizers.BERT_SPECIALS, *known]
    # A tokenizer that does not set Han characters apart, as one for Japanese.
    inner = tokenizers.word_pieces({name: i for i, name in enumerate(names)}, lowercase=False)
    text = inner.to_json().replace('"handle_chinese_chars":true', '"handle_chinese_chars":false')
    tokenizer = tokenizers.Tokenizer.from_json(text)

    def split(text):
        return [text[a:b] for a, b in words.split(text, tokenizer)]

    assert split("東京タワー") == ["東京", "タワー"]
    assert split("สมชาย in Rome") == ["สม", "ชาย", "in", "Rome"]
    assert split("小明") == ["小", "明"]
    assert split("กรุง") == ["ก", "รุ", "ง"], "an unknown piece goes by its characters"
    decomposed = unicodedata.normalize("NFD", "ガ")
    assert split(decomposed) == [decomposed], "a piece does not part a letter from its mark"


def test_any_text_is_covered_and_no_character_is_parted_from_its_marks():
    draw = random.Random(0)
    marks = "\u0301\u093f\u094d\u200d\u200c\ufe0f\U0001f3fd\u3099"
    letters = [*"aZ9_ \n.-'\"·किसก王カ가א👩🇩é", "ก\u0e33", "\u1100\u1161"]
    for _ in range(2000):
        text = "".join(draw.choice(draw.choice((letters, marks))) for _ in range(12))
        places = words.split(text)
        covered = "".join(text[a:b] for a, b in places)
        rest = regex.sub(r"[\s\p{Cf}]", "", text)
        assert regex.sub(r"[\s\p{Cf}]", "", covered) == rest
        for start, _ in places:
            if text[start] in marks:
                assert unicodedata.category(text[start - 1]) in ("Cf", "Zs", "Cc") or not start, (
                    text
                )
