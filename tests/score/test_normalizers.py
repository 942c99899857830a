"""The normalizers of languages and scripts, and the choice among them; basic has its own file."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whispertune.errors import InputError
from whispertune.languages import LANGUAGE_NAMES, UNSPACED_LANGUAGES
from whispertune.score.normalize import NORMALIZERS, normalizer_for, normalizer_named
from whispertune.score.normalizers.english import american
from whispertune.score.wer import align_characters, align_words

ZWNJ, ZWJ = "\u200c", "\u200d"

# A stretch of each script with all its letters, marks, joiners, digits and punctuation, and what is typed beside it.
BESIDE = " a1.,'-\u0301\u200b\u200c\u200d\u00ad\ufe0f"
SCRIPTS = {
    "hi": ("\u0900", "\u097f"),
    "bn": ("\u0980", "\u09ff"),
    "pa": ("\u0a00", "\u0a7f"),
    "gu": ("\u0a80", "\u0aff"),
    "or": ("\u0b00", "\u0b7f"),
    "ta": ("\u0b80", "\u0bff"),
    "te": ("\u0c00", "\u0c7f"),
    "kn": ("\u0c80", "\u0cff"),
    "ml": ("\u0d00", "\u0d7f"),
    "si": ("\u0d80", "\u0dff"),
    "th": ("\u0e00", "\u0e7f"),
    "lo": ("\u0e80", "\u0eff"),
    "my": ("\u1000", "\u109f"),
    "km": ("\u1780", "\u17ff"),
    "ar": ("\u0600", "\u06ff"),
    "ur": ("\ufb50", "\ufeff"),
    "ja": ("\u3000", "\u30ff"),
    "zh": ("\uf900", "\ufaff"),
    "yue": ("\uff00", "\uffef"),
    "sv": ("\u00a0", "\u024f"),
    "mdw": ("\u0370", "\u03ff"),
}
# Those that are told apart by what stands beside them, more often than chance would have it.
TRICKY = {
    "hi": "कनरयऩऱक़\u093c\u094d\u093e\u0902।",
    "bn": "তড়\u09bc\u09cd\u09be\u09c7",
    "ta": "ஶஸரீ\u0bcd\u0bc0",
    "ml": "നൻറര\u0d4d\u0d4e",
    "th": "เแาำนก\u0e4d\u0e48\u0e49\u0e34\u0e38",
    "lo": "ກາຳ\u0ecd\u0ec8\u0eb4\u0eb8",
    "ar": "اأإآٱويىئؤ\u0640\u064b\u064e\u0651\u0653\u0654\u0655\u0670\u06d6ﻻﷺ",
    "ja": "カｶ\uff9e\u3099ーｰ々 　",
}


INDIC = {"hi", "mr", "ne", "sa", "bn", "as", "pa", "gu", "ta", "te", "kn", "ml", "si"}
NUMBERS = """one oh twenty first hundred million double point and a half minus dollars cents per percent 1 2.5 $3 7th
    ٣ ² won't"""


def sentences_of(words: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words.split()), max_size=10).map(" ".join)


def texts(language: str) -> st.SearchStrategy[str]:
    first, last = SCRIPTS[language]
    letters = st.one_of(
        st.characters(min_codepoint=ord(first), max_codepoint=ord(last), exclude_categories=["Cn"]),
        st.sampled_from(BESIDE),
    )
    likely = TRICKY.get(language)
    return st.text(st.one_of(letters, st.sampled_from(likely + BESIDE)) if likely else letters, max_size=14)


def written(language: str, text: str, *options: str) -> str:
    return normalizer_for(language, options)(text)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("hi", "नमस्ते, दुनिया! क्षत्रिय हूँ। ॥१॥", "नमस्ते दुनिया क्षत्रिय हूँ १"),
        ("hi", "ज़्यादा फ़िल्में 2024 में?", "ज़्यादा फ़िल्में 2024 में"),
        ("ta", "வணக்கம், நண்பர்களே! ௨௦ பேர்.", "வணக்கம் நண்பர்களே ௨௦ பேர்"),
        ("ml", "അവൻ “എന്റെ” വീട്ടിൽ.", "അവൻ എന്റെ വീട്ടിൽ"),
        ("th", "“สวัสดีครับ” ที่นี่ เล่นๆ น้ำ", "สวัสดีครับที่นี่เล่นๆน้ำ"),
        ("th", "ฉันใช้ Whisper ทุก 3 วัน", "ฉันใช้whisperทุก3วัน"),
        ("lo", "ສະບາຍດີ, ນ້ຳ ໆ", "ສະບາຍດີນ້ຳໆ"),
        ("km", "សួស្តី\u200bពិភពលោក។ ផ្សេងៗ", "សួស្តីពិភពលោកផ្សេងៗ"),
        ("my", "မင်္ဂလာပါ။ နေကောင်းလား၊", "မင်္ဂလာပါနေကောင်းလား"),
        ("ar", "مَرْحَبًا، كيف حالك؟ ١٢٣", "مرحبا كيف حالك ١٢٣"),
        ("ar", "العـــربية ﻻ أَحمد إلى مدرسةٍ", "العربية لا أحمد إلى مدرسة"),
        ("fa", f"من می{ZWNJ}خواهم پیچ و گچ و ژاله؛ کیک", "من میخواهم پیچ و گچ و ژاله کیک"),
        ("ur", "ٹماٹر، ڈاک، پڑھنا، یہاں ہیں۔ بڑے", "ٹماٹر ڈاک پڑھنا یہاں ہیں بڑے"),
        ("sv", "Där står ÅSNAN — på Örjans ö, kl. 7.", "där står åsnan på örjans ö kl 7"),
        ("mdw", "Ngá íbvέε otωmbíli — lώ m’íkándá.", "ngá íbvέε otωmbíli lώ m'íkándá"),
        ("ja", "「人々は、ＱＬｏＲＡを ｶﾞｲﾄﾞ で学ぶ。」すゝめ！", "人々はqloraをガイドで学ぶすゝめ"),
        ("ja", "①２０２４年 ラーメン", "①2024年ラーメン"),
        ("zh", "我们，使用 QLoRA 微调 Whisper model！", "我们使用qlora微调whisper model"),
        ("zh", "臺灣 葛\U000e0100城 ５０％", "臺灣葛城50"),
        (
            "en",
            "Mr. Li won't pay twenty-one dollars, he's colour-blind!",
            "mister li will not pay $21 he is color blind",
        ),
        ("en", "[Applause] Um, they'd organised 2,000 theatres (loudly)", "they would organized 2000 theaters"),
        ("en", "It was one oh one, wasn't it? The twenty first café.", "it was 101 was not it the 21st cafe"),
    ],
)
def test_golden(language: str, text: str, expected: str) -> None:
    assert written(language, text) == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize(
    ("language", "spellings", "others"),
    [
        ("hi", ["क़िला", "क\u093cिला", "क\u093f\u093cला"], ["किला"]),
        ("hi", [f"क्{ZWJ}ष", f"क्{ZWNJ}ष", "क्ष"], ["कष"]),
        ("mr", [f"दर्{ZWJ}या", "दऱ्या", "दर\u093c्या"], ["दर्या"]),
        ("bn", [f"উত্{ZWJ}সব", "উৎসব"], ["উতসব"]),
        ("bn", ["বড়", "বড\u09bc"], ["বড"]),
        ("ml", [f"അവന്{ZWJ}", "അവൻ"], ["അവന"]),
        ("ml", ["എന്റെ", "എൻ്റെ"], ["എൻറെ"]),
        ("ta", ["ஸ்ரீ", "ஶ்ரீ"], ["சிரி"]),
        ("th", ["น้ำ", "น\u0e49\u0e4d\u0e32", "น\u0e4d\u0e49\u0e32"], ["นำ", "น้า"]),
        ("th", ["แม่", "เเม่"], ["เม่"]),
        ("th", ["ที่", "ท\u0e48\u0e35"], ["ที"]),
        ("lo", ["ນ້ຳ", "ນ\u0ec9\u0ecd\u0eb2"], ["ນຳ"]),
        ("ja", ["ガ", "ｶﾞ", "カ\u3099"], ["カ", "が"]),
        ("zh", ["用QLoRA", "用 ＱＬｏＲＡ", "用「qlora」"], ["用qlor"]),
        ("zh", ["体"], ["體"]),
        ("ar", ["كتاب", "كِتَاب", "كتـاب", "ﻛﺘﺎﺏ"], ["كتب"]),
        ("ar", ["إلى", "ا\u0655لى"], ["الى", "إلي"]),
        ("fa", ["کتاب"], ["كتاب"]),
        ("en", ["they're travelling", "They are traveling."], ["there traveling"]),
        ("en", ["a hundred and five", "a 105"], ["a 100 5"]),
    ],
)
def test_spellings_of_one_word(language: str, spellings: list[str], others: list[str]) -> None:
    assert len({written(language, text) for text in spellings}) == 1
    assert not {written(language, text) for text in others} & {written(language, spellings[0])}


def test_options_of_arabic() -> None:
    text = "أَحمد آمن إلى ٱلمؤمن شيئـا ٣"
    assert written("ar", text) == "أحمد آمن إلى ٱلمؤمن شيئا ٣"
    assert written("ar", text, "alef") == "احمد امن الى المؤمن شيئا ٣"
    assert written("ar", text, "hamza") == "أحمد آمن إلى ٱلمومن شييا ٣"
    assert written("ar", text, "digits", "alef", "hamza") == "احمد امن الى المومن شييا 3"
    assert written("ar", text, "keep_vowels") == "أَحمد آمن إلى ٱلمؤمن شيئا ٣"
    assert written("ar", text, "keep_tatweel", "alef") == "احمد امن الى المؤمن شيئـا ٣"


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [("hi", "१२ बजे", "12 बजे"), ("th", "๒๕ วัน", "25วัน"), ("sv", "٣ ½ 4", "3 ½ 4"), ("zh", "二 2", "二2")],
)
def test_digits_when_asked_for(language: str, text: str, expected: str) -> None:
    assert written(language, text, "digits") == expected
    assert written(language, "5 12") == "5 12"


def test_every_nukta_goes_first() -> None:
    """Also where somebody typed two."""
    assert written("pa", "ਸ\u0a3e\u0a3c\u0a40\u0a3c") == "ਸ\u0a3c\u0a3c\u0a3e\u0a40"


@pytest.mark.parametrize("language", SCRIPTS)
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_idempotent_and_in_form(language: str, data: st.DataObject) -> None:
    text = data.draw(texts(language))
    known = normalizer_for(language).options
    chosen = data.draw(st.sets(st.sampled_from(known)))
    normalizer = normalizer_for(language, chosen)
    normalized = normalizer(text)
    assert normalizer(normalized) == normalized
    assert unicodedata.is_normalized("NFC", normalized)
    assert normalized == normalized.lower() == " ".join(normalized.split())
    assert not [c for c in normalized if c != "'" and unicodedata.category(c)[0] in "PSC"]


@pytest.mark.parametrize("language", SCRIPTS)
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_letters_and_marks_are_those_of_basic(language: str, data: st.DataObject) -> None:
    """But for the few sequences that are made one letter, glyph selectors, tatweel and vowel signs."""
    text = data.draw(texts(language))
    normalizer = normalizer_for(language)
    basic, own = (unicodedata.normalize("NFKD", each(text)) for each in (NORMALIZERS["basic"], normalizer))
    lost = sum(unicodedata.category(c)[0] in "LMN" for c in basic) - sum(
        unicodedata.category(c)[0] in "LMN" for c in own
    )
    vowel_signs = [c for c in basic if unicodedata.combining(c) and c not in "\u0653\u0654\u0655"]
    selectors = sum("\ufe00" <= c <= "\ufe0f" for c in text)
    fewer, more = {
        "whispertune-basic": (0, 0),
        "whispertune-indic": (text.count(ZWJ), text.count(ZWJ)),
        "whispertune-arabic": (len(vowel_signs) + basic.count("\u0640") + selectors, 0),
        "whispertune-characters": (basic.count("เ") // 2 + selectors, 0),
    }[normalizer.name]
    assert -more <= lost <= fewer


@pytest.mark.parametrize("language", ["zh", "ja", "th", "lo", "my", "km"])
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_word_error_rate_of_characters_is_the_character_error_rate(language: str, data: st.DataObject) -> None:
    letters = {"zh": "我们微调的 ", "ja": "人々はガーす、", "th": "เล่นๆน้ำ ", "lo": "ນ້ຳສະ ", "my": "မင်္ဂ။", "km": "ស្តីៗ។"}
    pair = data.draw(st.tuples(*2 * [st.text(letters[language], max_size=12)]))
    normalizer = normalizer_for(language)
    reference, hypothesis = (normalizer(text) for text in pair)
    words = align_words(normalizer.parted(reference), normalizer.parted(hypothesis)).counts
    characters = align_characters(reference, hypothesis).counts
    assert (words.errors, words.rate) == (characters.errors, characters.rate)


def test_words_of_other_scripts_stay_whole_among_characters() -> None:
    normalizer = normalizer_for("zh")
    assert normalizer.parted(normalizer("用 QLoRA 微调 2 models。")) == "用 qlora 微 调 2 models"
    assert normalizer_for("sv").parted("två ord") == "två ord"


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(max_size=30), sentences_of(NUMBERS)))
def test_english_takes_any_text(text: str) -> None:
    normalized = written("en", text)
    assert normalized == " ".join(normalized.split())


@settings(deadline=None)
@given(sentences_of("The colour's won't café Analysed, she's [x] programme! um they've"))
def test_english_without_numbers_is_idempotent(text: str) -> None:
    once = written("en", text)
    assert written("en", once) == once


def test_english_takes_numbers_that_python_does_not_read() -> None:
    assert written("en", "7" * 9000).replace(" ", "") == "7" * 9000


@pytest.mark.parametrize(
    ("british", "us"),
    [
        ("colour favourites neighbourhood honourable armoury", "color favorites neighborhood honorable armory"),
        ("centre centred kilometres manoeuvring fibreglass", "center centered kilometers maneuvering fiberglass"),
        ("travelling jeweller marvellously councillors panellist", "traveling jeweler marvelously councilors panelist"),
        ("enrol fulfils instalment skilfully focussed", "enroll fulfills installment skillfully focused"),
        (
            "organisation realised analyse paralysed recognisable",
            "organization realized analyze paralyzed recognizable",
        ),
        ("programme catalogues judgement ageing practise licence", "program catalogs judgment aging practice license"),
        ("anaemia paediatric encyclopaedia oestrogen homoeopath", "anemia pediatric encyclopedia estrogen homeopath"),
        ("grey cosiest ploughs tyres storeys cheques", "gray coziest plows tires stories checks"),
    ],
)
def test_american_spelling(british: str, us: str) -> None:
    assert [american(word) for word in british.split()] == us.split()
    assert [american(word) for word in us.split()] == us.split()


def test_american_spelling_leaves_other_words() -> None:
    words = """promise otherwise advisable exercise surprised raise noise wise television crises precise enterprise
        unwise miser disabled equally installed rebelled metallic four hours journey contour taxes story hatred genre
        acre massacre listed advertisement analysis basis devour dialect literature clockwise imprecise paradise"""
    assert [american(word) for word in words.split()] == words.split()


def test_english_is_transformers_but_for_the_spelling() -> None:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    theirs = EnglishTextNormalizer({"favourite": "favorite", "analysed": "analyzed"})
    text = "My favourite, Dr. Li's, analysed it: £3 and 20 pence, nineteen eighty-four; y'all gonna..."
    assert written("en", text) == " ".join(theirs(text).split())


def test_every_language_has_one() -> None:
    kinds = {code: normalizer_for(code).label for code in LANGUAGE_NAMES}
    assert {code for code, label in kinds.items() if label == "whispertune-characters 1"} == UNSPACED_LANGUAGES
    assert {code for code, label in kinds.items() if label == "whisper-english 1"} == {"en"}
    assert {code for code, label in kinds.items() if label == "whispertune-arabic 1"} == {"ar", "fa", "ur", "ps", "sd"}
    assert {code for code, label in kinds.items() if label == "whispertune-indic 1"} == INDIC
    assert normalizer_for("mdw").label == normalizer_for("sv").label == "whispertune-basic 1"
    for same in ("en-GB", "English", "eng"):
        assert normalizer_for(same) is NORMALIZERS["english"]


def test_chosen_by_name() -> None:
    assert normalizer_named("basic") is NORMALIZERS["basic"]
    assert normalizer_named(" Whisper-English ") is NORMALIZERS["english"]
    chosen = normalizer_named("arabic+digits+alef")
    assert chosen.label == "whispertune-arabic+alef+digits 1"
    assert normalizer_named(chosen.label.split()[0]) == chosen == normalizer_for("ar", ["alef", "digits"])


@pytest.mark.parametrize("name", ["", "indian", "basic 1"])
def test_an_unknown_name_is_answered_with_the_names(name: str) -> None:
    with pytest.raises(InputError, match="one of basic, english, indic, arabic, characters") as raised:
        normalizer_named(name)
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("basic+alef", "no option alef.*\n.*digits"), ("english+digits", "no options"), ("arabic+", "no option")],
)
def test_an_unknown_option_is_answered_with_the_options(name: str, answer: str) -> None:
    with pytest.raises(InputError, match=answer):
        normalizer_named(name)


def test_english_needs_no_torch_and_the_others_no_transformers() -> None:
    code = (
        "import sys; from whispertune.score.normalize import normalizer_for as f; f('hi')('क'); f('zh')('微'); "
        "print('transformers' in sys.modules, f('en')('Hi'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "hi", "False"]
