"""What measures dev while training: how many rows, what is kept of them, and how sure the weights are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.train.runs import Notes, Started
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.engines import CTranslate2Engine, load_live, open_engine
from whispertune.evaluation.evaluate import TeacherForced, decode_segments
from whispertune.evaluation.inputs import Kept, Source
from whispertune.evaluation.tokens import token_scores
from whispertune.model.load import ModelFolder
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.learning.schedule import Extent
from whispertune.train.measuring import dev
from whispertune.train.measuring.dev import DevSet
from whispertune.train.measuring.subset import LEAST_ROWS, Subset, affordable, share_taken

EXTENT = Extent(10, None)
DEV_ROWS = 20

pytestmark = pytest.mark.usefixtures("_short")


def segments_of(count: int) -> list[Segment]:
    return [Segment(f"row {number}", Path("a.wav"), 0.0, 1.0, f"text {number}", "sv") for number in range(count)]


@given(
    share=st.floats(0.01, 0.9),
    part_s=st.floats(0, 1e5),
    besides_s=st.floats(0, 100),
    row_s=st.floats(1e-4, 100),
)
def test_evaluations_take_at_most_their_share(share: float, part_s: float, besides_s: float, row_s: float) -> None:
    times = {"part_s": part_s, "besides_s": besides_s, "row_s": row_s}
    count = affordable(share, **times)
    assert count >= LEAST_ROWS
    if LEAST_ROWS < count < 1e9:
        assert share_taken(count, **times) <= share + 1e-6
        assert share_taken(count + 2, **times) > share - 1e-6


def test_a_larger_subset_has_all_of_a_smaller_one_in_the_order_of_dev() -> None:
    segments = segments_of(40)
    subset = Subset(segments, None, seed=1)
    few, many = subset.first(10), subset.first(25)
    assert set(few) < set(many) < set(segments)
    assert list(many) == sorted(many, key=segments.index)
    assert Subset(segments, None, seed=1).first(10) == few
    assert Subset(segments, None, seed=2).first(10) != few
    assert subset.fingerprint(10) != subset.fingerprint(11)
    assert subset.first(1000) == tuple(segments)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and dev/, the latter of more rows than are decoded at the least."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("dev", DEV_ROWS)):
        (folder / split).mkdir()
        rows = []
        for number in range(count):
            soundfile.write(folder / split / f"{number}.wav", rng.normal(0, 0.1, 16_000).astype(np.float32), 16_000)
            rows.append(json.dumps({"file_name": f"{number}.wav", "text": f"{split} number {number}"}))
        (folder / split / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def of_many(started: Started, many: Path) -> Started:
    """The same on these rows."""

    def start(name: str = "run", fit_share: float = 0.0, **evaluation: Any) -> tuple[DevSet, Notes]:
        settings = {"times": 3, "verify_clips": 0} | evaluation
        return started(name, many, windows={"fit_share": fit_share}, evaluation=settings)

    return start


def lines_of(devset: DevSet) -> list[dict[str, Any]]:
    return [line for line in devset.run.read_metrics() if line["kind"] == "evaluation"]


def test_the_first_evaluation_finds_out_how_many_rows_the_time_allows(of_many: Started, tiny: ModelFolder) -> None:
    devset, notes = of_many()
    progress = Progress(step=3, seconds_training=1e-3)  # no time at all
    assert devset.evaluate(tiny.load(), EXTENT, progress).scores.rows == LEAST_ROWS
    assert progress.dev_rows == LEAST_ROWS
    assert any(f"{LEAST_ROWS} of the {DEV_ROWS} rows of dev" in text for text in notes.said)
    progress.step, progress.seconds_training = 6, 1e6
    assert devset.evaluate(tiny.load(), EXTENT, progress).scores.rows == LEAST_ROWS  # the same rows to the end
    assert len({line["rows"] for line in lines_of(devset)}) == 1
    again, _ = of_many("resumed")
    assert again.evaluate(tiny.load(), EXTENT, Progress(step=6, dev_rows=18)).scores.rows == 18


def test_where_there_is_time_all_of_dev_is_decoded(of_many: Started, tiny: ModelFolder) -> None:
    devset, _ = of_many()
    assert devset.evaluate(tiny.load(), EXTENT, Progress(step=3, seconds_training=1e6)).scores.rows == DEV_ROWS


def test_where_cut_clips_are_given_up_the_rows_are_counted_anew(
    of_many: Started, tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    devset, notes = of_many(fit_share=0.5)
    progress = Progress(step=3, seconds_training=1e6)
    monkeypatch.setattr(dev, "FIT_TOLERANCE", 1e6)  # as if the one were as good as the other
    first = devset.evaluate(tiny.load(), EXTENT, progress)
    assert (first.context, first.scores.rows) == ("fit", DEV_ROWS)
    progress.step, progress.seconds_training = 6, 1e-3
    monkeypatch.setattr(dev, "FIT_TOLERANCE", -1e6)  # as if they were worse
    second = devset.evaluate(tiny.load(), EXTENT, progress)
    assert (second.context, second.scores.rows) == ("full", LEAST_ROWS)
    assert (progress.best_step, progress.best_value) == (3, devset.value(second))  # the same weights, on the same rows
    assert sum("rows of dev are decoded" in text for text in notes.said) == 2


def test_what_the_recipe_says_is_decoded_whatever_it_takes(of_many: Started, tiny: ModelFolder) -> None:
    devset, notes = of_many(subset=7)
    assert devset.evaluate(tiny.load(), EXTENT, Progress(step=3, seconds_training=1e-3)).scores.rows == 7
    assert not any("rows of dev" in text for text in notes.said)


def test_evaluations_say_how_sure_the_weights_are(
    started: Started, many: Path, sure: ModelFolder, reader: AudioReader
) -> None:
    """From the states of the decoding engine, as from the model's own encoder; of the subset, and of all rows."""
    devset, _ = started(data=many, model=str(sure.path), evaluation={"subset": 7, "times": 3, "verify_clips": 0})
    found = devset.evaluate(sure.load(), EXTENT, Progress(step=3))
    assert devset.base().teacher_forced is not None
    read = devset.run.read_evaluation("base")
    assert read is not None
    assert isinstance(read.teacher_forced, TeacherForced)
    line = lines_of(devset)[0]
    noted = TeacherForced(line["loss"], line["token_accuracy"], line["calibration_error"])
    losses = []
    for figures, segments in ((noted, found.segments), (read.teacher_forced, devset.reported)):
        alone = token_scores(load_live(sure), segments, reader, context="full", precision="float32")
        assert figures.loss == pytest.approx(alone.loss, rel=1e-5)
        assert figures.calibration_error == pytest.approx(alone.calibration_error, rel=1e-3)
        assert figures.token_accuracy == alone.accuracy
        losses.append(alone.loss)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)  # other rows are told from these


class Silent(AudioReader):
    """Must not be asked for anything."""

    def read(self, *given: Any, **named: Any) -> np.ndarray:
        raise AssertionError("the audio is read again")


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("context", ["full", "fit"])
def test_of_the_same_clips_inputs_are_computed_once(
    tiny: ModelFolder, many: Path, reader: AudioReader, monkeypatch: pytest.MonkeyPatch, states: bool, context: Any
) -> None:
    engine = open_engine("ctranslate2", str(tiny.path))
    assert isinstance(engine, CTranslate2Engine)
    segments = [Segment(f"{n}", many / "dev" / f"{n}.wav", 0.0, 1.0, "", "sv") for n in range(6)]
    plain, _ = decode_segments(engine, segments, Source(reader, context), batch=4)
    kept = Kept(states=states)
    first, _ = decode_segments(engine, segments, Source(reader, context, kept=kept), batch=4)
    assert len(kept) == 6
    if states:
        monkeypatch.setattr(engine, "encode", lambda mel: pytest.fail("encoded again"))
    with Silent() as silent:
        second, _ = decode_segments(engine, segments, Source(silent, context, kept=kept), batch=4)
        with pytest.raises(AssertionError, match="read again"):
            decode_segments(engine, segments, Source(silent, "full" if context == "fit" else "fit", kept=kept))
    assert [each.text for each in first] == [each.text for each in plain] == [each.text for each in second]


def test_no_more_is_kept_than_there_is_room_for(tiny: ModelFolder, many: Path, reader: AudioReader) -> None:
    engine = open_engine("ctranslate2", str(tiny.path))
    segments = [Segment(f"{n}", many / "dev" / f"{n}.wav", 0.0, 1.0, "", "sv") for n in range(6)]
    one_mel = 80 * 3_000 * 4
    kept = Kept(limit_bytes=2 * one_mel + 1)
    texts = [
        [each.text for each in decode_segments(engine, segments, Source(reader, kept=kept), batch=2)[0]]
        for _ in range(2)
    ]
    assert len(kept) == 2
    assert texts[0] == texts[1]
