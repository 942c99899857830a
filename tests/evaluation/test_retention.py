"""Retention sets: what counts for them, how two models compare on them, and which mixture the rule picks."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examined import figures, heard, sentence
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.errors import DataError
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, evaluation_of
from whispertune.evaluation.retention import (
    CLIPS_WITH_TEXT,
    Retained,
    RetentionSet,
    changed,
    figures_of,
    metric_of,
    read_retained,
    relative_change,
    silence_set,
    write_changes,
)
from whispertune.evaluation.tradeoff import Point, TradeOff, cells, heads, page_of


def rows_of(count: int = 60, language: str = "sv", name: str = "swedish", speakers: int = 0) -> RetentionSet:
    """Texts of eight words."""
    random = np.random.default_rng(1)
    return RetentionSet(
        name,
        tuple(
            Segment(
                f"{row}",
                Path(f"{row}.wav"),
                0.0,
                3.0,
                " ".join(sentence(random)),
                language,
                speaker=f"s{row % speakers}" if speakers else None,
            )
            for row in range(count)
        ),
    )


def written(found: RetentionSet, error_share: float, skip: str = "") -> Evaluation:
    """What a model wrote that has such a share of the words wrong."""
    random = np.random.default_rng(2)
    texts = [(segment, heard(segment.text.split(), error_share, random)) for segment in found.segments]
    hypotheses = [Hypothesis(segment, text) for segment, text in texts if segment.id != skip]
    return evaluation_of(hypotheses, [], 1.0, "ctranslate2", "full")


@pytest.mark.parametrize("speakers", [0, 12])
def test_figures_are_those_of_an_evaluation(speakers: int) -> None:
    found = rows_of(speakers=speakers)
    evaluation = written(found, 0.3)
    figures, scores = figures_of(found, evaluation.utterances), evaluation.scores
    assert (figures.metric, figures.value, figures.rows) == ("wer", scores.wer, 60)
    assert (figures.wer, figures.cer) == (scores.wer, scores.cer)
    assert (figures.wer_normalized, figures.cer_normalized) == (scores.wer_normalized, scores.cer_normalized)
    assert figures.interval == scores.wer_interval
    by_characters = figures_of(found, evaluation.utterances, "cer_normalized")
    assert (by_characters.value, by_characters.interval) == (scores.cer_normalized, scores.cer_normalized_interval)


def test_what_counts() -> None:
    swedish, chinese, silence = rows_of(2), rows_of(2, "zh"), silence_set("silence", "sv")
    assert [metric_of(each) for each in (swedish, chinese, silence)] == ["wer", "cer", CLIPS_WITH_TEXT]
    assert [metric_of(each, "wer_normalized") for each in (swedish, chinese)] == ["wer_normalized", "cer_normalized"]
    assert metric_of(swedish, "cer") == "cer"


def test_some_rows_are_always_the_same_in_their_order() -> None:
    found = rows_of(40)
    part = found.subset(10, seed=3)
    ids = [int(each.id) for each in part.segments]
    assert len(set(ids)) == 10
    assert ids == sorted(ids)
    assert part == found.subset(10, seed=3) != found.subset(10, seed=4)
    assert found.subset(99, seed=0).segments == found.segments


def test_of_recordings_all_captions_belong_together() -> None:
    cues = tuple(
        Segment(f"{talk}:{cue}", Path(f"{talk}.wav"), 3.0 * cue, 3.0 * cue + 2, "sol", "sv")
        for talk in range(8)
        for cue in range(5)
    )
    part = RetentionSet("talks", cues, recordings=True).subset(12, seed=1)
    assert part.recordings
    assert len(part.segments) == 15  # whole talks, until there are so many
    assert len({each.recording for each in part.segments}) == 3
    assert list(part.segments) == sorted(part.segments, key=lambda each: each.id)


def test_silence_is_rows_that_can_be_read(reader: AudioReader) -> None:
    found = silence_set("nobody", "sv")
    assert found.silent
    assert len({each.id for each in found.segments}) == len({each.recording for each in found.segments}) > 10
    levels = []
    for segment in found.segments:
        samples = reader.read(segment.recording, segment.start_s, segment.end_s)
        assert len(samples) == pytest.approx(16_000 * segment.duration_s, abs=1)
        levels.append(float(np.sqrt(np.mean(np.square(samples)))))
    assert levels[0] == 0.0
    assert 0.0005 < min(levels[1:]) < max(levels) < 0.02  # -60 and -40 dB


def test_of_silence_clips_with_text_count() -> None:
    found = silence_set("silence", "sv")
    texts = ["", "...", "♪", "Tack för att ni tittade", "1"] * 5
    nothing = [Hypothesis(segment, "") for segment in found.segments]
    something = [Hypothesis(segment, text) for segment, text in zip(found.segments, texts, strict=True)]
    quiet, loud = (evaluation_of(each, [], 1.0, "x", "full").utterances for each in (nothing, something))
    figures = figures_of(found, loud)
    assert (figures.metric, figures.value, figures.rows) == (CLIPS_WITH_TEXT, 40.0, 25)
    assert figures.interval[0] < 40 < figures.interval[1]
    assert (figures.wer, figures.cer) == (None, None)
    change = changed(found, quiet, loud)
    assert (change.base.value, change.shown) == (0.0, True)
    assert change.relative == 80.0  # forty clips in a hundred against half a one
    assert "clips with text 40.0 %, base 0.0" in change.told()
    assert not changed(found, loud, loud).shown


def test_two_models_on_one_set() -> None:
    found = rows_of()
    base, worse = written(found, 0.1), written(found, 0.4)
    change = changed(found, base.utterances, worse.utterances)
    assert change.shown
    assert change.relative == pytest.approx((worse.scores.wer - base.scores.wer) / base.scores.wer)
    same = changed(found, base.utterances, written(found, 0.1).utterances)
    assert (same.relative, same.shown) == (0.0, False)
    assert "no difference shown" in same.told()
    by_characters = changed(found, base.utterances, worse.utterances, "cer_normalized")
    assert (by_characters.base.value, by_characters.shown) == (base.scores.cer_normalized, True)


def test_only_rows_that_both_have_count() -> None:
    found = rows_of(20)
    change = changed(found, written(found, 0.2, skip="3").utterances, written(found, 0.2, skip="5").utterances)
    assert (change.base.rows, change.tuned.rows) == (18, 18)
    first, second = RetentionSet("a", found.segments[:1]), RetentionSet("a", found.segments[1:2])
    with pytest.raises(DataError, match="no row that both"):
        changed(found, written(first, 0).utterances, written(second, 0).utterances)


def test_what_a_run_keeps_of_it(tmp_path: Path) -> None:
    found = rows_of()
    path = tmp_path / "retention.json"
    assert read_retained(path) == ()
    change = changed(found, written(found, 0.1).utterances, written(found, 0.4).utterances)
    write_changes(path, [change])
    assert read_retained(path) == (Retained("swedish", change.base.value, change.tuned.value, 60, True),)
    path.write_text('{"sets": [{}]}')
    with pytest.raises(DataError, match="cannot be read"):
        read_retained(path)


# --- which mixture is kept -------------------------------------------------------------------------------------


def trade_off(target: list[float], english: list[float], max_loss: float = 0.05) -> TradeOff:
    shares = np.linspace(0, 1, len(target)).tolist()
    points = (
        Point(share, figures(on_dev), {"english": figures(kept)})
        for share, on_dev, kept in zip(shares, target, english, strict=True)
    )
    return TradeOff(tuple(points), max_loss)


def test_the_best_that_forgets_little_is_chosen() -> None:
    found = trade_off([100.0, 80.0, 60.0, 50.0, 45.0], [10.0, 9.5, 10.4, 10.6, 20.0])
    assert found.chosen is not None
    assert found.chosen.share == 0.5
    assert "lambda 0.5, WER 60.0 % on dev (base 100.0)" in found.told()
    assert "english +4.0 %" in found.told()
    content = found.as_json()
    assert (content["chosen"], content["lambdas"]) == (0.5, [0.0, 0.25, 0.5, 0.75, 1.0])
    assert [each["lambda"] for each in content["target"]] == content["lambdas"]
    assert [each["relative_change"] for each in content["retention"]["english"]] == pytest.approx(
        [0.0, -0.05, 0.04, 0.06, 1.0]
    )
    assert content["target"][2]["interval"] == [59.0, 61.0]


def test_none_is_chosen_where_all_forget_too_much_or_none_learned() -> None:
    forgot = trade_off([100.0, 80.0, 60.0], [10.0, 10.6, 11.0])
    assert forgot.chosen is None
    assert "loses more than 5 %" in forgot.told()
    assert "lambda 0.5, with english +6.0 %" in forgot.told()
    assert forgot.as_json()["chosen"] is None
    learned_nothing = trade_off([50.0, 50.0, 60.0], [10.0, 10.0, 10.0])
    assert learned_nothing.chosen is None
    assert "no mixture is better on dev" in learned_nothing.told()


rates = st.lists(st.floats(0, 200), min_size=2, max_size=8)


@given(target=rates, data=st.data(), max_loss=st.floats(0, 1))
def test_what_the_rule_says_holds(target: list[float], data: st.DataObject, max_loss: float) -> None:
    english = data.draw(st.lists(st.floats(0, 200), min_size=len(target), max_size=len(target)))
    found = trade_off(target, english, max_loss)
    fit = [
        on_dev
        for on_dev, kept in zip(target[1:], english[1:], strict=True)
        if on_dev < target[0] and relative_change(english[0], kept) <= max_loss + 1e-9
    ]
    assert (found.chosen is None) == (not fit)
    if found.chosen is not None:
        assert found.chosen.target.value == min(fit)
    assert found.told()


def test_the_page_and_the_table() -> None:
    found = trade_off([100.0, 80.0, 60.0], [10.0, 10.4, 20.0])
    page = page_of(found, "my <run>", date(2026, 1, 2))
    assert "my &lt;run&gt;" in page
    assert page.count("<figure") == 2
    assert "Chosen: lambda 0.5" in page
    titles = heads(found)
    rows = [cells(found, point) for point in found.points]
    assert all(len(row) == len(titles) for row in rows)
    assert [row[-1] for row in rows] == ["base", "chosen", "forgets too much"]
    assert rows[2][-2] == "+100.0 %"
    assert cells(found, found.points[2], intervals=False) == ["1", "60.0", "20.0", "+100.0 %", "forgets too much"]
    assert len(heads(found, intervals=False)) == 5
