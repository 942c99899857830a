"""Numbers of a set: each counted again by hand from what was written."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inspect_tree import Row, rows, tree
from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules
from whispertune.data.segments import Problem, SourceData, SourceSpec
from whispertune.inspect.figures import figures, hours, share
from whispertune.inspect.numbers import Numbers, Quantiles, count, reasons
from whispertune.inspect.survey import PackedStep, Survey, read_cleaned, survey
from whispertune.model.load import ModelFolder
from whispertune.recipe import Clean
from whispertune.windows.pack import Limits

RULES = CleanRules(**Clean().model_dump())
STEP = PackedStep(Limits(), 16)
GOOD = rows()
BAD = [
    Row("silent", 2.0, "hör du något alls här", gain=0.0),
    Row("wordless", 2.0, "…"),
    Row("long", 31.0, "en rad som är för lång för ett fönster"),
    Row("again", 1.0, GOOD[5].text, seed=5, rate_hz=16_000),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    again = replace(BAD[-1], duration_s=GOOD[5].duration_s, gain=GOOD[5].gain)  # GOOD[5] once more
    return tree(tmp_path_factory.mktemp("inspect") / "talks", [*GOOD, *BAD[:-1], again])


def look(folder: Path, reader: AudioReader, base: ModelFolder | None = None, listen: bool = True) -> Survey:
    data = read_cleaned(SourceSpec(str(folder)), RULES, reader, source="talks")
    return survey("talks", data, RULES, reader, STEP, base.vocabulary if base else None, listen=listen)


@pytest.fixture(scope="module")
def found(folder: Path, reader: AudioReader, base: ModelFolder) -> Survey:
    return look(folder, reader, base)


@pytest.fixture(scope="module")
def numbers(found: Survey) -> Numbers:
    return count(found)


def test_rows_and_hours(numbers: Numbers) -> None:
    assert (numbers.rows, numbers.recordings) == (len(GOOD), len(GOOD))
    assert numbers.hours == pytest.approx(sum(row.duration_s for row in GOOD) / 3600, abs=1e-4)
    assert numbers.duration_s is not None
    assert numbers.duration_s.median == pytest.approx(np.median([row.duration_s for row in GOOD]), abs=1e-3)
    assert (numbers.duration_s.least, numbers.duration_s.most) == (1.0, GOOD[-1].duration_s)


def test_who_speaks_what(numbers: Numbers) -> None:
    spoken = {name: [row for row in GOOD if row.speaker == name] for name in ("ann", "bo", None)}
    assert [(group.name, group.rows) for group in numbers.speakers] == [
        ("ann", len(spoken["ann"])),
        ("bo", len(spoken["bo"])),
    ]
    assert numbers.rows_without_speaker == len(spoken[None])
    assert [(group.name, group.rows) for group in numbers.languages] == [("sv", len(GOOD))]
    assert [group.name for group in numbers.tasks] == ["transcribe"]


def test_dropped_rows_are_counted_by_reason(numbers: Numbers, found: Survey) -> None:
    dropped = {group.name: group.rows for group in numbers.dropped}
    assert dropped == {"no speech": 1, "no text": 1, "longer than 30 s": 1, "same audio twice": 1}
    assert numbers.over_30_s_share == pytest.approx(1 / (len(GOOD) + len(BAD)), abs=1e-5)
    silent = next(problem for problem in found.data.problems if problem.kind == "no speech")
    assert silent.seconds == pytest.approx(2.0)


def test_characters_a_second(numbers: Numbers) -> None:
    spoken = [len(row.text) / row.duration_s for row in GOOD]
    assert numbers.characters_a_second is not None
    assert numbers.characters_a_second.median == pytest.approx(np.median(spoken), rel=1e-3)


def test_tokens_are_those_of_the_model(numbers: Numbers, found: Survey, base: ModelFolder) -> None:
    counts = [len(base.vocabulary.encode(row.text, "sv")) for row in GOOD]
    assert found.tokens is not None
    assert found.tokens.tolist() == counts
    assert numbers.tokens_a_word == pytest.approx(sum(counts) / sum(len(row.text.split()) for row in GOOD), abs=1e-3)
    assert numbers.over_max_tokens_share == 0.0
    first, *others = numbers.worst_words
    assert len(base.vocabulary.encode(first.text, "sv")) == first.tokens
    assert all(word.tokens <= first.tokens for word in others)


def test_texts_that_no_window_takes_are_a_share(tmp_path: Path, reader: AudioReader, base: ModelFolder) -> None:
    long = " ".join(f"ord{number}" for number in range(400))
    found = count(look(tree(tmp_path / "long", [Row("a", 20.0, long), Row("b", 20.0, "kort")]), reader, base))
    assert found.over_max_tokens_share == 0.5
    assert found.windows == 1  # the other one fits into none


def test_sample_rates_are_shares_of_recordings(numbers: Numbers) -> None:
    phone = sum(row.rate_hz == 8000 for row in GOOD) / len(GOOD)
    assert numbers.sample_rates_hz == {16_000: pytest.approx(1 - phone, abs=1e-4), 8000: pytest.approx(phone, abs=1e-4)}


def test_what_was_heard(numbers: Numbers, found: Survey) -> None:
    assert found.measures is not None
    assert len(found.measures.level_db) == numbers.rows
    order = np.argsort(found.measures.level_db)  # the louder the later, as they were written
    assert np.corrcoef(order, np.arange(len(order)))[0, 1] > 0.9
    assert numbers.level_db is not None
    assert -50 < numbers.level_db.median < -15
    assert numbers.snr_db is not None
    assert numbers.snr_db.median > 10
    assert numbers.clipped_rows == 0


def test_packing_adds_up(numbers: Numbers) -> None:
    seconds = sum(row.duration_s for row in GOOD)
    assert numbers.windows >= math.ceil(seconds / 30)
    assert numbers.windows_full_share == pytest.approx(seconds / (30 * numbers.windows), abs=1e-3)
    assert numbers.windows_counted_share == 1.0


def test_larger_steps_pack_no_looser(folder: Path, reader: AudioReader) -> None:
    data = read_cleaned(SourceSpec(str(folder)), RULES, reader)
    windows = [
        survey("talks", data, RULES, reader, PackedStep(Limits(), segments), listen=False).packing.windows
        for segments in (1, 4, None)
    ]
    assert windows[0] == len(data.segments)  # a row a window
    assert windows == sorted(windows, reverse=True)


def test_unheard_and_uncounted_is_none(folder: Path, reader: AudioReader) -> None:
    numbers = count(look(folder, reader, listen=False))
    assert numbers.rows == len(GOOD) + 2  # nobody heard the silence, nor the same audio twice
    assert (numbers.level_db, numbers.snr_db, numbers.clipped_rows, numbers.tokens, numbers.tokens_a_word) == (
        None,
    ) * 5
    assert not any("token" in figure.label or "level" in figure.label for figure in figures(numbers))


def test_an_empty_set_has_numbers_too(reader: AudioReader, base: ModelFolder) -> None:
    gone = (Problem("a:1", "no text", "nothing is said", 2.0), Problem("a:2", "no text", "nothing is said"))
    numbers = count(survey("none", SourceData((), gone), RULES, reader, STEP, base.vocabulary))
    assert (numbers.rows, numbers.hours, numbers.windows, numbers.duration_s, numbers.tokens) == (0, 0.0, 0, None, None)
    assert {figure.label: figure.value for figure in figures(numbers)}["rows dropped"] == "2 (100.0 % of all)"


def test_reasons_sum_what_is_known() -> None:
    problems = [Problem("1", "short", "", 1800.0), Problem("2", "short", ""), Problem("3", "broken", "")]
    assert [(each.name, each.rows, each.hours) for each in reasons(problems)] == [("short", 2, 0.5), ("broken", 1, 0.0)]


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(-math.inf), max_size=40))
def test_quantiles_are_in_order_and_of_what_is_finite(values: list[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    found = Quantiles.of(np.array(values))
    if not finite:
        assert found is None
        return
    assert found is not None
    spread = (found.least, found.p5, found.p25, found.median, found.p75, found.p95, found.most)
    assert list(spread) == sorted(spread)
    assert (found.least, found.most) == (round(min(finite), 3), round(max(finite), 3))


@pytest.mark.parametrize(("value", "told"), [(0.0001, "under 0.1 %"), (0.0, "0.0 %"), (0.5, "50.0 %")])
def test_shares_never_round_something_to_nothing(value: float, told: str) -> None:
    assert share(value) == told


@pytest.mark.parametrize(("value", "told"), [(0.25, "15.0 min"), (1.5, "1.50 h"), (1234.56, "1,234.6 h")])
def test_hours_are_readable(value: float, told: str) -> None:
    assert hours(value) == told
