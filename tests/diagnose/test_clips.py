"""The two ways of decoding: what is broken on cut clips alone is seen, and said to be of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnose.test_diagnosis import run_folder, save
from tests.diagnose.test_outputs import GOOD, LOOP, LOOPS, SENTENCE, scored
from whispertune.diagnose.advice import weighed
from whispertune.diagnose.findings.clips import cut_clips_worse
from whispertune.diagnose.findings.mismatch import CONTEXT
from whispertune.diagnose.findings.outputs import cut_off, deletions_on_long, hallucinations, outputs
from whispertune.diagnose.history import Evaluated, History, Step
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.run import Material, diagnose, findings_of
from whispertune.recipe import Data, Recipe, Train, Windows
from whispertune.score.wer import UtteranceScore

SLIGHT = SENTENCE.replace("gamla", "gamle")
ONE_LOOP = scored([(SENTENCE, LOOP), *[(SENTENCE, SLIGHT)] * 39])


def recipe(**train: float) -> Recipe:
    return Recipe(model="m", data=Data(), train=Train.model_validate(train))


def test_a_row_that_loops_on_cut_clips_is_seen_beside_good_texts_on_30_s() -> None:
    given = Predictions(tuned=scored([(SENTENCE, SLIGHT)] * 40), cut=ONE_LOOP)
    found = {each.key: each for each in findings_of(Material(History((), ()), given, recipe()))}
    assert set(found) == {"hallucinations", "cut-clips-worse"}
    loops = found["hallucinations"]
    assert [each.value for each in loops.seen if each.name == "decoded on"] == ["clips cut to what is spoken"]
    assert "on clips cut to what is spoken, not on 30 s" in loops.means
    assert loops.change[0].value == "decode with --context full"
    worse = found["cut-clips-worse"]
    assert (worse.severity, worse.sure) == ("high", "likely")  # a single row may be luck
    assert [each.value for each in worse.seen[:4]] == [10.0, 59.75, 40, "row-0"]
    assert [each.told.partition(":")[0] for each in worse.change] == ["decode with --context full", "train.epochs = 6"]
    assert worse.seen[-1].told == "already in the recipe: windows.fit_share = 0.5"


def test_both_decodings_that_loop_are_told_in_one_finding() -> None:
    found = hallucinations(Predictions(tuned=LOOPS, base=GOOD, cut=ONE_LOOP))
    assert found is not None
    told = [each.told for each in found.seen if each.name in ("decoded on", "loops", "loops of base")]
    assert told == [
        "decoded on: 30 s",
        "loops: 7.5 % of the utterances",
        "loops of base: 0 % of the utterances",
        "decoded on: clips cut to what is spoken",
        "loops: 2.5 % of the utterances",
    ]
    assert "not on" not in found.means
    assert "decode with --context full" not in [each.value for each in found.change]
    assert len(set(found.change)) == len(found.change)


def test_what_is_broken_on_30_s_alone_is_not_answered_with_30_s() -> None:
    found = hallucinations(Predictions(tuned=LOOPS, cut=GOOD))
    assert found is not None
    assert "on 30 s, not on clips cut" in found.means
    assert "decode with --context full" not in [each.value for each in found.change]


def test_endings_and_long_rows_are_looked_at_on_cut_clips_too() -> None:
    start, long = " ".join(SENTENCE.split()[:4]), f"{SENTENCE} " * 5
    cut = scored([(SENTENCE, SENTENCE)] * 26 + [(SENTENCE, start)] * 4 + [(long, f"{SENTENCE} {SENTENCE}")] * 10)
    whole = scored([(SENTENCE, SENTENCE)] * 30 + [(long, long)] * 10)
    given = Predictions(tuned=whole, cut=cut)
    for found in (cut_off(given), deletions_on_long(given)):
        assert found is not None
        assert found.seen[0].told == "decoded on: clips cut to what is spoken"
        assert "windows.fit_share" not in [each.key for each in found.change]  # which would make it worse


@pytest.mark.parametrize(
    ("cut", "keys"),
    [
        (scored([(SENTENCE, SLIGHT)] * 40), []),  # as good
        (scored([(SENTENCE, SLIGHT)] * 44)[4:], []),  # of some other rows
        (scored([(SENTENCE, SLIGHT)] * 38 + [(SENTENCE, SLIGHT.replace("av", "ar"))] * 2), []),  # hardly worse
        (scored([(SENTENCE, SLIGHT.replace("av", "ar"))] * 40), ["cut-clips-worse"]),
        ((), []),
    ],
)
def test_cut_clips_are_worse_where_they_have_far_more_errors(cut: tuple[UtteranceScore, ...], keys: list[str]) -> None:
    given = Predictions(tuned=scored([(SENTENCE, SLIGHT)] * 40), cut=cut)
    assert [each.key for each in outputs(given, recipe())] == keys


def test_a_difference_in_all_rows_is_certain_and_little_of_fit_training_is_raised() -> None:
    given = Predictions(tuned=GOOD, cut=scored([(SENTENCE, SLIGHT.replace("av", "ar"))] * 40))
    assert (given.tuned_rate("wer"), given.decodings[1].clips) == (0.0, "clips cut to what is spoken")
    little = Recipe(model="m", data=Data(), windows=Windows(fit_share=0.1), train=Train(steps=300))
    found = cut_clips_worse(given, little)
    assert found is not None
    assert (found.severity, found.sure) == ("high", "certain")
    advised = [(each.key, each.value) for each in weighed(found, little).change if each.key]
    assert advised == [("windows.fit_share", "0.5"), ("train.steps", "600")]


def test_cut_clips_that_failed_in_training_are_told_once() -> None:
    steps = tuple(Step(step, 3.0 * 0.5 ** (step / 20)) for step in range(1, 101))
    history = History(steps, (Evaluated(100, None, 700.0, context="fit"),))
    given = Predictions(tuned=GOOD, cut=scored([(SENTENCE, LOOP)] * 40), language="sv")
    found = {each.key: each for each in findings_of(Material(history, given, recipe()))}
    assert "cut-clips-worse" not in found
    unlike = found["decoding-unlike-training"]
    assert CONTEXT in [each.value for each in unlike.seen]
    assert [each.key for each in unlike.change][:2] == ["evaluation.context", "train.epochs"]


def test_a_run_has_both_or_either(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    save(folder, "tuned", GOOD)
    save(folder, "tuned_fit", ONE_LOOP)
    assert {"hallucinations", "cut-clips-worse"} <= {each.key for each in diagnose(folder).findings}
    (folder / "evaluations" / "tuned.jsonl").unlink()
    found = diagnose(folder)
    (loops,) = [each for each in found.findings if each.key == "hallucinations"]
    assert loops.seen[0].value == "clips cut to what is spoken"
    assert "texts of the tuned model" not in found.missing
