"""Whole recordings against captions: joined texts, words beyond them, what each cue is given, and cue times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.captions import Cue
from whispertune.data.segments import Segment
from whispertune.decode.transcribe import Progress, Transcriber, Transcript
from whispertune.errors import DataError
from whispertune.evaluation.recordings import Boundaries, Long, evaluate_recordings
from whispertune.score.wer import score

SAID = [(0.0, 2.0, "Det var en gång"), (2.5, 4.0, "en gammal bro."), (5.0, 9.0, "Den gick över ån, sade de.")]
WORDS = st.sampled_from(["sol", "måne", "Hav,", "skog", "–", "berg."])
CUES = st.lists(st.lists(WORDS, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of next to nothing: what is written here is given."""
    path = tmp_path_factory.mktemp("quiet") / "talk.wav"
    soundfile.write(path, np.full(160_000, 1e-3, dtype=np.float32), 16_000)
    return path


def segments(path: Path, cues: Sequence[tuple[float, float, str]], language: str = "sv") -> list[Segment]:
    return [Segment(f"{path.name}:{n}", path, start, end, text, language) for n, (start, end, text) in enumerate(cues)]


def writing(cues: Sequence[tuple[float, float, str]]) -> Transcriber:
    """Writes these cues, whatever is heard."""

    def transcribe(samples: np.ndarray, recording: Path, progress: Progress | None) -> Transcript:
        if progress:
            progress(10.0, 10.0)
        return Transcript(recording, "sv", tuple(Cue(*cue) for cue in cues), len(samples) / 16_000, 2.0)

    return transcribe


def evaluated(
    path: Path, written: Sequence[tuple[float, float, str]], said: Sequence[tuple[float, float, str]] = tuple(SAID)
) -> Long:
    with AudioReader() as reader:
        return evaluate_recordings(
            lambda language, task: writing(written), segments(path, said), reader, engine="ctranslate2", context="full"
        )


def test_what_is_all_right(quiet: Path) -> None:
    found = evaluated(quiet, SAID)
    assert found.evaluation.scores.wer == found.evaluation.scores.cer == 0.0
    assert found.evaluation.scores.rows == len(SAID)
    assert found.evaluation.audio_seconds == pytest.approx(10.0)
    assert [each.hypothesis for each in found.evaluation.utterances] == [text for *_, text in SAID]
    assert found.times.starts == found.times.ends == Boundaries(3, 0.0, 0.0, 0.0, 100.0)
    assert found.times.as_json()["starts"]["within_half_a_second"] == 100.0


def test_times_that_are_off(quiet: Path) -> None:
    offsets = [(0.1, 0.2), (0.3, -0.6), (0.5, -2.0)]
    written = [(s + a, e + b, text) for (s, e, text), (a, b) in zip(SAID, offsets, strict=True)]
    times = evaluated(quiet, written).times
    assert (times.starts.matched, times.ends.matched) == (3, 3)
    assert times.starts.mean_s == pytest.approx(0.3)
    assert times.starts.median_s == pytest.approx(0.3)
    assert times.starts.near == 100.0
    assert times.ends.mean_s == pytest.approx(2.8 / 3)
    assert times.ends.p90_s == pytest.approx(np.quantile([0.2, 0.6, 2.0], 0.9))
    assert times.ends.near == pytest.approx(100 / 3)


def test_cues_that_are_cut_elsewhere_are_not_matched(quiet: Path) -> None:
    """Two cues written as one: the start of the first and the end of the second are all there is to compare."""
    written = [(0.0, 4.5, "det var en gång en gammal bro"), (5.0, 9.0, "Den gick över ån"), (9.0, 9.5, "sade de")]
    found = evaluated(quiet, written)
    assert (found.times.starts.matched, found.times.ends.matched) == (2, 2)  # 0.0 and 5.0; 4.0 and 9.0
    assert found.times.ends.mean_s == pytest.approx((0.5 + 0.5) / 2)
    assert (found.times.cues, found.times.written) == (3, 3)
    assert [each.hypothesis for each in found.evaluation.utterances] == [
        "det var en gång",
        "en gammal bro",
        "Den gick över ån sade de",
    ]


def test_words_beyond_the_captions_are_insertions(quiet: Path) -> None:
    before, behind = (0.0, 0.0, "Välkomna hit."), (9.2, 9.9, "Tack för att ni tittade.")
    found = evaluated(quiet, [before, *SAID, behind])
    words = sum(len(text.split()) for *_, text in SAID)
    assert found.evaluation.scores.insertions == pytest.approx(100 * 7 / words)
    assert found.evaluation.scores.substitutions == found.evaluation.scores.deletions == 0.0
    assert found.times.starts.matched == found.times.ends.matched == 3  # those that were said
    assert found.evaluation.utterances[-1].hypothesis.endswith("tittade.")


def test_nothing_written_and_notes_alone(quiet: Path) -> None:
    found = evaluated(quiet, [])
    assert found.evaluation.scores.deletions == 100.0
    assert found.times.starts == Boundaries(0)
    assert found.times.as_json()["ends"] == {
        **dict.fromkeys(("mean_s", "median_s", "p90_s", "within_half_a_second")),
        "matched": 0,
    }
    notes = evaluated(quiet, [(0.0, 1.0, "♪ ♪")])
    assert notes.evaluation.utterances[0].hypothesis == "♪ ♪"
    assert evaluated(quiet, SAID, [(0.0, 1.0, "♪"), *SAID]).evaluation.utterances[0].hypothesis == ""


def test_scripts_without_spaces_are_aligned_by_character(quiet: Path) -> None:
    said = [(0.0, 2.0, "今天天气很好"), (2.5, 5.0, "我们去公园")]
    with AudioReader() as reader:
        found = evaluate_recordings(
            lambda language, task: writing([(0.2, 2.0, "今天天气"), (2.0, 5.1, "很好我们去花园")]),
            segments(quiet, said, "zh"),
            reader,
            engine="ctranslate2",
            context="full",
        )
    assert [each.hypothesis for each in found.evaluation.utterances] == ["今天天气很好", "我们去花园"]
    assert found.evaluation.scores.cer == pytest.approx(100 / 11)
    assert (found.times.starts.matched, found.times.ends.matched) == (1, 1)


@given(CUES, CUES)
def test_every_word_that_is_written_stands_with_a_cue(quiet: Path, said: list[str], written: list[str]) -> None:
    timed = [[(float(n), n + 1.0, text) for n, text in enumerate(texts)] for texts in (said, written)]
    found = evaluated(quiet, timed[1], timed[0])
    utterances = found.evaluation.utterances
    assert [each.reference for each in utterances] == said
    assert " ".join(each.hypothesis for each in utterances).split() == " ".join(written).split()
    whole, _ = score(["all"], [" ".join(said)], [" ".join(written)], "sv")
    assert found.evaluation.scores.wer == whole.wer
    assert found.evaluation.scores.cer == whole.cer
    assert found.times.starts.matched <= min(len(said), len(written))
    if said == written:  # a cue without a word has no boundary to match
        assert found.times.starts.matched == sum(any(map(str.isalnum, text)) for text in said)


def test_recordings_that_do_not_decode_are_problems(quiet: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(b"RIFF, and nothing behind it")
    heard: list[tuple[str, float, float]] = []
    with AudioReader() as reader:
        found = evaluate_recordings(
            lambda language, task: writing(SAID),
            [*segments(broken, SAID), *segments(quiet, SAID)],
            reader,
            engine="ctranslate2",
            context="full",
            progress=lambda *each: heard.append(each),
        )
        assert [(each.where, each.kind) for each in found.evaluation.problems] == [
            (str(broken), "recording does not decode")
        ]
        assert heard == [(str(quiet), 10.0, 10.0)]
        assert found.times.recordings == 1
        with pytest.raises(DataError, match="no recording could be decoded"):
            evaluate_recordings(
                lambda language, task: writing(SAID), segments(broken, SAID), reader, engine="x", context="full"
            )


def test_each_language_is_transcribed_as_such(quiet: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(quiet.read_bytes())
    opened: list[tuple[str, str]] = []

    def open_(language: str, task: str) -> Transcriber:
        opened.append((language, task))
        return writing(SAID)

    rows = [*segments(other, SAID, "no"), *reversed(segments(quiet, SAID))]
    with AudioReader() as reader:
        found = evaluate_recordings(open_, rows, reader, engine="ctranslate2", context="full")
    assert opened == [("no", "transcribe"), ("sv", "transcribe")]
    assert found.evaluation.scores.wer == 0.0  # cues in whatever order they came


def test_a_recording_in_two_languages_is_transcribed_once(quiet: Path) -> None:
    """In the one that is spoken longest; words of the other are no insertions."""
    opened: list[tuple[str, str]] = []

    def open_(language: str, task: str) -> Transcriber:
        opened.append((language, task))
        return writing(SAID)

    rows = [
        replace(each, language=spoken) for each, spoken in zip(segments(quiet, SAID), ("en", "en", "sv"), strict=True)
    ]
    with AudioReader() as reader:
        found = evaluate_recordings(open_, rows, reader, engine="ctranslate2", context="full")
        assert opened == [("sv", "transcribe")]  # 4.0 s of 7.5
        assert (found.evaluation.scores.wer, found.evaluation.scores.normalizer) == (0.0, "whispertune-basic 1")
        assert [each.label for each in found.evaluation.normalizers] == ["whispertune-basic 1"] * 3
        assert (found.evaluation.audio_seconds, found.times.recordings, found.times.written) == (10.0, 1, 3)
        both = [*rows, *(replace(each, id=f"en {each.id}", task="translate") for each in rows)]
        evaluate_recordings(open_, both, reader, engine="ctranslate2", context="full")
    assert opened[1:] == [("sv", "transcribe"), ("sv", "translate")]


def test_intervals_are_of_cues(quiet: Path) -> None:
    said = [(n, n + 0.9, "sol och måne") for n in np.arange(0.0, 9.0, 0.3).tolist()]
    written = [(*each[:2], "sol och hav" if n % 3 else each[2]) for n, each in enumerate(said)]
    scores = evaluated(quiet, written, said).evaluation.scores
    low, high = scores.wer_interval
    assert low < scores.wer < high
