"""Evaluation while training: the engine is checked, the best weights are kept, and several ranks share the work."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile

from tests.train.runs import Notes, Started, dev_recipe, open_dev
from whispertune.data.audio import AudioReader
from whispertune.decode import engines
from whispertune.decode.context import MARK, Mark
from whispertune.errors import Interrupted, RecipeError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.model.load import ModelFolder, find_model
from whispertune.reporting import Reporter
from whispertune.service.evaluate import Decoding, evaluate_model
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.learning.schedule import Extent
from whispertune.train.measuring import dev
from whispertune.train.measuring.dev import trained_contexts
from whispertune.train.measuring.rows import Alone
from whispertune.train.run import Run

T = TypeVar("T")

EXTENT = Extent(10, None)

pytestmark = pytest.mark.usefixtures("_short")


def disturbed(folder: ModelFolder, seed: int) -> Any:
    """The model with other weights: what it writes is as senseless, but not the same."""
    import torch

    model = folder.load()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=random) * 0.3)
    return model


def test_engines_that_differ_make_transformers_decode(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "ENGINE_TOLERANCE", -1.0)  # as if they had differed
    devset, notes = started()
    base = devset.base()
    assert any("transformers decodes in this run" in text for text in notes.said)
    assert (devset.engine_kind, base.engine) == ("transformers", "transformers")
    assert devset.base().utterances == base.utterances  # the second time they are read


def test_engines_are_compared_on_clips_that_decode(
    tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers of the first are fine, their frames are not."""
    rng = np.random.default_rng(0)
    for split in ("train", "dev"):
        (tmp_path / split).mkdir()
        for number in range(3):
            path = tmp_path / split / f"{number}.flac"
            soundfile.write(path, rng.normal(0, 0.1, 16_000).astype(np.float32), 16_000)
            if split == "dev" and number < 2:
                path.write_bytes(path.read_bytes()[:200] + bytes(path.stat().st_size - 200))
        rows = [json.dumps({"file_name": f"{number}.flac", "text": f"{split} {number}"}) for number in range(3)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(rows))
    notes = Notes()
    with AudioReader() as reader:
        chosen = dev_recipe(tiny, tmp_path, clean={"audio": "never"})
        assert open_dev(chosen, Run(tmp_path / "run"), reader, notes).base().scores.rows == 1
    assert any("apart on 1 clips" in text for text in notes.said)


def test_engines_of_languages_without_spaces_are_compared_by_characters(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    devset, notes = started(language="zh", clean={"script": False})
    devset.base()
    assert any("CER apart on 2 clips" in text for text in notes.said)


def test_engines_are_compared_without_beams(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base model is measured with beams; whether the engine is right, greedily, by both."""
    monkeypatch.setattr(dev, "ENGINE_TOLERANCE", 1e6)  # texts of random weights are cut off at other places
    decoded: list[tuple[str, int, int]] = []
    for engine in (engines.CTranslate2Engine, engines.TransformersEngine):
        monkeypatch.setattr(engine, "decode", _noting(engine, decoded))
    devset, notes = started(evaluation={"times": 3, "verify_clips": 2, "beams": 5})
    base = devset.base()
    assert decoded == [("ctranslate2", 3, 5), ("ctranslate2", 2, 1), ("transformers", 2, 1)]
    assert (devset.engine_kind, base.scores.rows) == ("ctranslate2", 3)
    assert any("WER apart on 2 clips" in text for text in notes.said)
    monkeypatch.setattr(dev, "ENGINE_TOLERANCE", -1.0)  # as if they had differed
    decoded.clear()
    (devset.run.folder / "evaluations" / "base.json").unlink()
    assert devset.base().engine == "transformers"
    assert decoded[-1] == ("transformers", 3, 5)  # and is measured as the recipe says


def _noting(engine: Any, decoded: list[tuple[str, int, int]]) -> Callable[..., list[str]]:
    """Texts as they are decoded greedily, in no time, and a note of the clips and beams that were asked for."""
    decode = engine.decode

    def noted(self: Any, mel: Any, language: str, task: str, beams: int = 1) -> list[str]:
        decoded.append((self.name, len(mel), beams))
        texts: list[str] = decode(self, mel, language, task, 1)
        return texts

    return noted


def test_the_best_weights_are_kept_and_reported(started: Started, tiny: ModelFolder, noises: Path) -> None:
    devset, _ = started()
    progress = Progress()
    values = []
    for step in (2, 4, 6):
        progress.step = step
        values.append(devset.value(devset.evaluate(disturbed(tiny, step), EXTENT, progress)))
    lines = [line for line in devset.run.read_metrics() if line["kind"] == "evaluation"]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["context"] for line in lines] == ["full"] * 3
    best = min(range(3), key=values.__getitem__)  # the first of the lowest
    assert progress.best_step == lines[best]["step"]
    assert lines[best]["best"]
    tuned = devset.tuned(disturbed(tiny, 6), progress)
    assert devset.tuned_fit(tuned, progress) is None
    assert tuned.scores.wer == pytest.approx(values[best])  # the subset is all of dev here
    assert evaluate_model(str(devset.run.folder), str(noises / "dev")).scores.wer == pytest.approx(values[best])
    assert json.loads((devset.run.folder / "evaluations" / "tuned.json").read_text()) == tuned.as_json()


def test_without_evaluations_the_last_weights_are_the_model(started: Started, tiny: ModelFolder) -> None:
    devset, _ = started(evaluation={"times": 0, "verify_clips": 0})
    devset.tuned(disturbed(tiny, 1), Progress(step=3))
    folder = find_model(str(devset.run.folder))
    assert (folder.generation.language, folder.generation.task) == ("sv", "transcribe")
    assert Mark.read(folder.path) == Mark(("full",), "live")


def test_a_run_that_trains_both_contexts_measures_both(
    started: Started, tiny: ModelFolder, noises: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "FIT_TOLERANCE", 1e6)  # as if the one were as good as the other
    devset, notes = started(windows={"fit_share": 0.5}, evaluation={"times": 3, "verify_clips": 0})
    assert devset.base().context == "full"  # the only one that it knows
    progress = Progress(step=5)
    found = devset.evaluate(disturbed(tiny, 5), EXTENT, progress)
    assert found.context == "fit"
    tuned = devset.tuned(disturbed(tiny, 5), progress)
    fit = devset.tuned_fit(tuned, progress)
    assert fit is not None
    assert (tuned.context, fit.context) == ("full", "fit")
    assert fit.scores == found.scores
    assert fit.biased_by_selection
    assert tuned.scores != fit.scores  # random weights do not write the same on another length
    assert {path.stem for path in (devset.run.folder / "evaluations").glob("*.json")} == {"base", "tuned", "tuned_fit"}
    assert notes.evaluations == ["base model, full", "step 5, fit", "tuned model, full", "tuned fit model, fit"]
    by_name = evaluate_model(str(devset.run.folder), str(noises / "dev"))  # which sees that it may
    assert (by_name.context, by_name.scores.wer) == ("fit", pytest.approx(fit.scores.wer))


def test_cut_clips_that_fail_select_nothing_and_are_not_offered(
    started: Started, tiny: ModelFolder, noises: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "FIT_TOLERANCE", -1e6)  # as if they were worse
    devset, notes = started(windows={"fit_share": 0.5}, evaluation={"times": 3, "verify_clips": 0})
    progress = Progress(step=5)
    found = devset.evaluate(disturbed(tiny, 5), EXTENT, progress)
    assert found.context == "full"
    assert any("dev is decoded on 30 s" in text for text in notes.said)
    tuned = devset.tuned(disturbed(tiny, 5), progress)
    fit = devset.tuned_fit(tuned, progress)
    assert fit is not None  # measured and written down all the same
    assert (tuned.scores, fit.context) == (found.scores, "fit")
    assert Mark.read(devset.run.model).contexts == ("full",)
    assert evaluate_model(str(devset.run.folder), str(noises / "dev")).context == "full"


def test_once_cut_clips_have_failed_dev_is_decoded_on_30_s_and_the_best_is_measured_anew(
    started: Started, tiny: ModelFolder, noises: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {"windows": {"fit_share": 0.5}, "evaluation": {"times": 3, "verify_clips": 0}}
    devset, _ = started(**tables, checkpoints={"best": "cer"})  # all words are wrong on either length
    progress, weights = Progress(), disturbed(tiny, 5)

    def evaluate(step: int, tolerance: float, kind: str = "live") -> Evaluation:
        monkeypatch.setattr(dev, "FIT_TOLERANCE", tolerance)
        progress.step = step
        return devset.evaluate(weights, EXTENT, progress, weights=kind)

    first = evaluate(2, 1e6)  # as if the one were as good as the other
    assert (first.context, progress.best_value) == ("fit", devset.value(first))
    assert evaluate(2, -1e6, "average").context == "fit"  # as the live weights of that step
    second = evaluate(4, -1e6)  # as if they were worse
    assert (second.context, progress.context) == ("full", "full")
    assert devset.value(first) != devset.value(second)
    assert (progress.best_step, progress.best_value) == (2, devset.value(second))  # the same weights, so no better ones
    assert evaluate(6, 1e6).context == "full"  # and so for the rest of the run
    assert evaluate(6, 1e6, "average").context == "full"
    kept = evaluate_model(str(devset.run.folder), str(noises / "dev"), Decoding(context="full"))
    assert kept.scores.cer == pytest.approx(progress.best_value)


def test_a_value_is_beaten_only_by_what_is_measured_alike(started: Started, tiny: ModelFolder) -> None:
    devset, _ = started()
    progress = Progress(step=2)
    devset.evaluate(disturbed(tiny, 5), EXTENT, progress)
    progress.step, progress.best_value = 4, -1.0  # nothing is better
    devset.evaluate(disturbed(tiny, 5), EXTENT, progress)
    assert progress.best_step == 2
    devset.metric = "cer"  # as where a resumed run's recipe says so
    found = devset.evaluate(disturbed(tiny, 5), EXTENT, progress)
    assert (progress.best_step, progress.best_value) == (4, found.scores.cer)


def test_whoever_asks_for_cut_clips_gets_them(
    started: Started, tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "FIT_TOLERANCE", -1e6)
    devset, _ = started(windows={"fit_share": 0.5}, evaluation={"context": "fit", "verify_clips": 0})
    assert devset.evaluate(disturbed(tiny, 5), EXTENT, Progress(step=5)).context == "fit"


def test_an_average_is_kept_where_it_is_better(
    started: Started, tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    devset, notes = started()
    values = iter([50.0, 40.0, 45.0])
    monkeypatch.setattr(devset, "value", lambda evaluation: next(values))
    progress = Progress(step=5)
    devset.evaluate(disturbed(tiny, 1), EXTENT, progress)
    assert devset.best_weights() == "live"
    average = disturbed(tiny, 2)
    devset.evaluate(average, EXTENT, progress, weights="average")
    devset.evaluate(disturbed(tiny, 3), EXTENT, progress)
    assert devset.best_weights() == "average"
    assert (progress.best_step, progress.best_value) == (5, 40.0)
    kept = find_model(str(devset.run.folder)).load().state_dict()
    assert all(kept[name].equal(value) for name, value in average.state_dict().items())
    lines = [(line["weights"], line["best"]) for line in devset.run.read_metrics()]
    assert lines == [("live", True), ("average", True), ("live", False)]
    assert "step 5, average weights, full" in notes.evaluations
    (devset.run.model / MARK).write_text("")  # cut off in the writing
    assert devset.best_weights() == "average"


@pytest.mark.parametrize(
    ("fit_share", "context", "expected"),
    [(0.5, "auto", ("full", "fit")), (0.5, "full", ("full",)), (0.0, "auto", ("full",)), (1.0, "fit", ("full", "fit"))],
)
def test_contexts_follow_what_is_trained(
    tiny: ModelFolder, noises: Path, fit_share: float, context: str, expected: tuple[str, ...]
) -> None:
    chosen = dev_recipe(tiny, noises, windows={"fit_share": fit_share}, evaluation={"context": context})
    assert trained_contexts(chosen) == expected


def test_fit_that_is_not_trained_is_refused(tiny: ModelFolder, noises: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluation\.context"):
        trained_contexts(dev_recipe(tiny, noises, evaluation={"context": "fit"}))


class Threads(Alone):
    """Ranks that are threads: what one has to say goes to the other through a queue."""

    count = 2

    def __init__(self, rank: int, queues: tuple[queue.Queue[Any], queue.Queue[Any]]) -> None:
        self.rank, self.queues = rank, queues

    def gather(self, value: T) -> list[T]:
        self.queues[1 - self.rank].put(value)
        other = self.queues[self.rank].get(timeout=120)
        return [value, other] if self.rank == 0 else [other, value]

    def together(self, work: Callable[[], T]) -> T:
        try:
            result, error = work(), None
        except Interrupted as caught:
            result, error = None, caught
        errors = [each for each in self.gather(error) if each is not None]
        if errors:
            raise errors[0]
        return result  # type: ignore[return-value]

    def on_main(self, work: Callable[[], T]) -> T:
        return self.gather(work() if self.rank == 0 else None)[0]  # type: ignore[return-value]


def of_two_ranks(work: Callable[[Threads], T]) -> list[T]:
    queues: tuple[queue.Queue[Any], queue.Queue[Any]] = (queue.Queue(), queue.Queue())
    with ThreadPoolExecutor(2) as pool:
        return [each.result() for each in [pool.submit(work, Threads(rank, queues)) for rank in (0, 1)]]


@pytest.fixture
def _one_loads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers needs it: ranks are threads here, and processes elsewhere."""
    lock, load = threading.Lock(), ModelFolder.load

    def locked(folder: ModelFolder, dropout: float = 0.0) -> Any:
        with lock:
            return load(folder, dropout)

    monkeypatch.setattr(ModelFolder, "load", locked)


@pytest.mark.usefixtures("_one_loads_at_a_time")
def test_two_ranks_share_the_rows_and_come_to_the_same_figures(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    chosen = dev_recipe(tiny, noises, windows={"fit_share": 0.5}, evaluation={"times": 1, "verify_clips": 0})
    counts: dict[int, int] = {}

    class Counted(Reporter):
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def evaluating(self, what: str, done: int, total: int) -> None:
            if what.startswith("base"):
                counts[self.rank] = total

    def work(ranks: Threads) -> tuple[Any, ...]:
        with AudioReader() as reader:
            devset = open_dev(chosen, Run(tmp_path / "two"), reader, Counted(ranks.rank), ranks)
            progress = Progress(step=5)
            base, found = devset.base(), devset.evaluate(disturbed(tiny, 5), EXTENT, progress)
            return base.utterances, found.scores, progress.best_step

    first, second = of_two_ranks(work)
    assert first == second
    assert counts == {0: 2, 1: 1}  # of three rows
    with AudioReader() as reader:
        alone = open_dev(chosen, Run(tmp_path / "one"), reader, Reporter())
        assert alone.base().utterances == first[0]
        assert alone.evaluate(disturbed(tiny, 5), EXTENT, Progress(step=5)).scores == first[1]
    lines = Run(tmp_path / "two").read_metrics()
    assert len(lines) == 1  # the main rank's


@pytest.mark.usefixtures("_one_loads_at_a_time")
def test_a_stop_on_one_rank_stops_all(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    def work(ranks: Threads) -> None:
        with AudioReader() as reader:
            devset = open_dev(dev_recipe(tiny, noises), Run(tmp_path / "run"), reader, Reporter(), ranks)
            devset.rows.stop.requested = ranks.rank == 1
            with pytest.raises(Interrupted):
                devset.base()

    of_two_ranks(work)
