"""Labels, spelled out by token name: what is read, what is asked, and what carries no loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from whispertune.data.segments import Segment
from whispertune.errors import InputError, ModelError
from whispertune.model.formats.transformers import complete_tokenizer
from whispertune.model.load import ModelFolder
from whispertune.train.feeding.splits import TokenCounter
from whispertune.windows.labels import IGNORE, MAX_INPUTS, Labels, label
from whispertune.windows.pack import Limits, Piece, Window, cut, join
from whispertune.windows.tokens import Vocabulary


def segment(start_s: float, end_s: float, text: str, language: str = "sv", **more: object) -> Segment:
    return Segment(f"{start_s}", Path("talk.mp3"), start_s, end_s, text, language, **more)  # type: ignore[arg-type]


def window(
    *segments: Segment, start_s: float = 0.0, cut: Segment | None = None, previous: tuple[str, ...] = ()
) -> Window:
    end_s = start_s + 30 if cut else segments[-1].end_s
    return Window((Piece(segments[0].recording, start_s, end_s, segments, 0, cut, previous),))


def read(labels: Labels, vocabulary: Vocabulary) -> tuple[str, str]:
    """Inputs and targets as one line each; `·` where there is no loss."""
    targets = ["·" if t == IGNORE else vocabulary.names([t])[0] for t in labels.targets]
    return "|".join(vocabulary.names(labels.inputs)), "|".join(targets)


def test_with_timestamps(base: ModelFolder) -> None:
    shown = window(segment(0.5, 2.5, "hej du"), segment(2.5, 4.031, "där"))
    inputs, targets = read(label(shown, base.vocabulary, timestamps=True, prompted=False), base.vocabulary)
    assert inputs == ("<|startoftranscript|>|<|sv|>|<|transcribe|>|<|0.50|>| he|j| du|<|2.50|>|<|2.50|>| där|<|4.04|>")
    assert targets == "<|sv|>|·|<|0.50|>| he|j| du|<|2.50|>|<|2.50|>| där|<|4.04|>|<|endoftext|>"


def test_without_timestamps(base: ModelFolder) -> None:
    shown = window(segment(0.5, 2.5, "hej du"), segment(2.5, 4, "där"))
    inputs, targets = read(label(shown, base.vocabulary, timestamps=False, prompted=False), base.vocabulary)
    assert inputs == "<|startoftranscript|>|<|sv|>|<|transcribe|>|<|notimestamps|>| he|j| du| där"
    assert targets == "<|sv|>|·|·| he|j| du| där|<|endoftext|>"


def test_a_cut_cue_shows_as_a_lone_start(base: ModelFolder) -> None:
    shown = window(segment(1, 20, "hej"), cut=segment(27.3, 33, "sedan"))
    inputs, targets = read(label(shown, base.vocabulary, timestamps=True, prompted=False), base.vocabulary)
    assert inputs.endswith("<|1.00|>| he|j|<|20.00|>|<|27.30|>")
    assert targets.endswith("<|20.00|>|<|27.30|>|<|endoftext|>")
    inputs, targets = read(label(shown, base.vocabulary, timestamps=False, prompted=False), base.vocabulary)
    assert targets == "<|sv|>|·|·| he|j|<|endoftext|>"


def test_with_previous_text(base: ModelFolder) -> None:
    shown = window(segment(40, 42, "där"), start_s=39.4, previous=("hej", "du"))
    inputs, targets = read(label(shown, base.vocabulary, timestamps=True, prompted=True), base.vocabulary)
    assert inputs == ("<|startofprev|>| he|j| du|<|startoftranscript|>|<|sv|>|<|transcribe|>|<|0.60|>| där|<|2.60|>")
    assert targets == "·|·|·|·|<|sv|>|·|<|0.60|>| där|<|2.60|>|<|endoftext|>"


def test_previous_text_only_where_there_is_some(base: ModelFolder) -> None:
    shown = window(segment(0, 2, "där"))
    plain = label(shown, base.vocabulary, timestamps=True, prompted=False)
    assert label(shown, base.vocabulary, timestamps=True, prompted=True) == plain


def test_languages_without_spaces(base: ModelFolder) -> None:
    shown = window(segment(0, 2, "こんにちは", "ja"))
    inputs, _ = read(label(shown, base.vocabulary, timestamps=False, prompted=False), base.vocabulary)
    assert inputs.startswith("<|startoftranscript|>|<|ja|>|<|transcribe|>|<|notimestamps|>|こ")


@pytest.mark.parametrize(
    ("spoken", "texts", "written"),
    [
        ("ja", ("Hello there.", "Hello Tōkyō (東京)."), " Hello there. Hello Tōkyō (東京)."),
        ("th", ("Bonjour.", "Привет."), " Bonjour. Привет."),
        ("en", ("こんにちは。", "AIは便利です。"), "こんにちは。AIは便利です。"),
        ("en", ("สวัสดีครับ", "ที่นี่"), "สวัสดีครับที่นี่"),
        ("ja", ("안녕하세요", "3.5"), " 안녕하세요 3.5"),
    ],
)
def test_a_translation_is_spaced_as_its_own_script_is(
    base: ModelFolder, spoken: str, texts: tuple[str, str], written: str
) -> None:
    vocabulary = base.vocabulary
    first, second = (segment(2 * at, 2 * at + 2, text, spoken, task="translate") for at, text in enumerate(texts))
    shown = window(first, second, previous=texts)
    plain = label(shown, vocabulary, timestamps=False, prompted=True).inputs
    assert plain[plain.index(vocabulary.start) + 1] == vocabulary.languages[spoken]
    assert vocabulary.decode(plain) == 2 * written
    timed = label(shown, vocabulary, timestamps=True, prompted=False).inputs
    assert vocabulary.decode(timed) == written
    assert len(timed) == 3 + TokenCounter(vocabulary)([first, second]).sum() + 4  # the prefix, and the times of both


def test_the_language_token_can_go_without_loss(base: ModelFolder) -> None:
    labels = label(window(segment(0, 2, "där")), base.vocabulary, timestamps=True, prompted=False, language_loss=False)
    assert read(labels, base.vocabulary)[1] == "·|·|<|0.00|>| där|<|2.00|>|<|endoftext|>"
    assert labels.target_tokens == 4


def test_english_only_models_take_neither_language_nor_task(tiny_en: ModelFolder) -> None:
    vocabulary = tiny_en.vocabulary
    shown = window(segment(0, 2, "hello", "en"))
    inputs, targets = read(label(shown, vocabulary, timestamps=True, prompted=False), vocabulary)
    assert (inputs, targets) == (
        "<|startoftranscript|>|<|0.00|>| hello|<|2.00|>",
        "<|0.00|>| hello|<|2.00|>|<|endoftext|>",
    )
    inputs, targets = read(label(shown, vocabulary, timestamps=False, prompted=False), vocabulary)
    assert (inputs, targets) == ("<|startoftranscript|>|<|notimestamps|>| hello", "·| hello|<|endoftext|>")
    with pytest.raises(InputError, match="English-only"):
        label(window(segment(0, 2, "hej", "sv")), vocabulary, timestamps=True, prompted=False)


def test_pieces_side_by_side_keep_their_times(base: ModelFolder) -> None:
    one = segment(0, 2.011, "hej")
    other = Segment("b", Path("b.wav"), 5.0, 6.5, "där", "sv", lead_s=1.0)
    pieces = [Piece(each.recording, each.start_s, each.end_s, (each,), 5) for each in (one, other)]
    (joined,) = join(pieces, Limits(), np.random.default_rng(0))
    inputs, _ = read(label(joined, base.vocabulary, timestamps=True, prompted=False), base.vocabulary)
    first_then_second = "<|0.00|>| he|j|<|2.02|>|<|2.02|>| där|<|3.52|>"
    second_then_first = "<|0.00|>| där|<|1.50|>|<|1.50|>| he|j|<|3.52|>"
    assert inputs.split("<|transcribe|>|")[1] in (first_then_second, second_then_first)


def test_a_very_short_cue_gets_20_ms(base: ModelFolder) -> None:
    inputs, _ = read(
        label(window(segment(3, 3.004, "ja")), base.vocabulary, timestamps=True, prompted=False), base.vocabulary
    )
    assert inputs.endswith("<|3.00|>| ja|<|3.02|>")


def test_special_tokens_in_a_text_stay_text(base: ModelFolder) -> None:
    vocabulary = base.vocabulary
    for text in ("<|endoftext|>", "<|0.00|>", "a <|startoftranscript|> b"):
        ids = vocabulary.encode(text, "sv")
        assert max(ids) < vocabulary.end
        assert vocabulary.decode(ids) == f" {text}"


def test_what_a_tokenizer_was_saved_with_neither_cuts_labels_nor_fills_them(base: ModelFolder, tmp_path: Path) -> None:
    content = json.loads(base.tokenizer_json)
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    padding = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 50257, "pad_type_id": 0}
    content["padding"] = padding | {"strategy": {"Fixed": 32}, "pad_token": "<|endoftext|>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    limited, text = Vocabulary.from_file(tmp_path / "tokenizer.json"), "en mening som är längre än fyra"
    assert limited.encode(text, "sv") == base.vocabulary.encode(text, "sv")
    assert limited.count([text, "ja"], ["sv", "sv"]) == base.vocabulary.count([text, "ja"], ["sv", "sv"])
    written = json.loads(complete_tokenizer((tmp_path / "tokenizer.json").read_bytes()))
    assert written["truncation"] is None
    assert written["padding"] is None


def test_a_token_that_is_not_there_raises(base: ModelFolder) -> None:
    with pytest.raises(ModelError, match="no token"):
        base.vocabulary.id("<|0.00|>")  # counted, never looked up
    assert base.vocabulary.timestamp(0) == base.vocabulary.no_timestamps + 1
    assert base.vocabulary.timestamp(30) == base.shape.vocabulary - 1
    with pytest.raises(ValueError, match="outside"):
        base.vocabulary.timestamp(30.02)


def test_an_unknown_language_names_near_ones(base: ModelFolder) -> None:
    with pytest.raises(InputError, match="borrow the code of a related one"):
        base.vocabulary.prefix("swe", "transcribe", timestamps=True)


texts = st.lists(st.sampled_from(["hej", "där", "kontrabas", "é", "(1)"]), min_size=1, max_size=30).map(" ".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 4), st.floats(0.005, 12), texts), min_size=1, max_size=30), st.integers(0, 99))
def test_any_packed_window_is_one_the_decoder_can_take(
    base: ModelFolder, cues: list[tuple[float, float, str]], seed: int
) -> None:
    vocabulary, time_s, chain = base.vocabulary, 0.0, []
    for row, (pause_s, length_s, text) in enumerate(cues):
        begin = time_s + pause_s
        chain.append(
            Segment(str(row), Path("a.mp3"), begin, begin + length_s, text, "sv", continues=row > 0, lead_s=pause_s)
        )
        time_s = begin + length_s
    limits, rng = Limits(), np.random.default_rng(seed)

    def count(rows: Sequence[Segment]) -> NDArray[np.int32]:
        return np.array([len(vocabulary.encode(each.text, each.language)) for each in rows], dtype=np.int32)

    written = []
    for packed in join(cut(chain, limits, count, rng), limits, rng):
        for prompted in (False, True):
            labels = label(packed, vocabulary, timestamps=True, prompted=prompted)
            assert len(labels.inputs) == len(labels.targets) <= MAX_INPUTS
            times = [token for token in labels.inputs if token > vocabulary.no_timestamps]
            assert times == sorted(times)
            prefix = labels.inputs.index(vocabulary.start) + 3
            assert len(labels.inputs) - prefix + 1 <= limits.max_tokens
            assert prefix - 3 <= 223
            assert labels.inputs.count(vocabulary.start) == 1
            assert labels.targets.count(vocabulary.end) == 1
        text = label(packed, vocabulary, timestamps=False, prompted=False)
        written.append(vocabulary.decode(text.inputs))
    assert sorted(" ".join(written).split()) == sorted(" ".join(each.text for each in chain).split())


@pytest.mark.parametrize("which", ["base", "tiny_en"])
def test_every_word_that_is_a_token_is_written_as_one(which: str, request: pytest.FixtureRequest) -> None:
    """Some conversions have lost a merge, and with it every word that begins with t."""
    vocabulary: Vocabulary = request.getfixturevalue(which).vocabulary
    words = {id_: vocabulary.decode([id_]) for id_ in range(256, vocabulary.end)}
    words = {id_: word for id_, word in words.items() if word[:1] == " " and word[1:].isalpha()}
    assert len(words) > 30_000
    assert {id_: vocabulary.encode(word[1:], "en") for id_, word in words.items()} == {id_: [id_] for id_ in words}


def test_openai_s_ids(base: ModelFolder) -> None:
    for text, ids in (("to the", [281, 264]), ("tomater", [2916, 771]), ("tåg", [256, 1330, 70])):
        assert base.vocabulary.encode(text, "sv") == ids


@pytest.mark.parametrize("as_text", [False, True])
def test_a_lost_merge_is_put_back_also_where_it_is_written(base: ModelFolder, tmp_path: Path, as_text: bool) -> None:
    content = json.loads(base.tokenizer_json)
    pairs = [each.split(" ") if isinstance(each, str) else each for each in content["model"]["merges"]]
    lost = [pair for pair in pairs if pair != ["Ġ", "t"]]
    content["model"]["merges"] = [" ".join(pair) for pair in lost] if as_text else lost
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    assert Vocabulary.from_file(path).encode("to the", "sv") == [281, 264]
    written = complete_tokenizer(path.read_bytes())
    merges = json.loads(written)["model"]["merges"]
    assert (merges[0], len(merges)) == (["Ġ", "t"], 50_000)
    assert complete_tokenizer(written) == written
