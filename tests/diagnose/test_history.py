"""Histories: our metrics.jsonl and transformers' trainer_state.json come to one shape; what is neither is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from whispertune.diagnose.history import Evaluated, from_metrics, from_trainer_state, read_history
from whispertune.errors import InputError


def step(number: int, loss: float | None, **more: Any) -> dict[str, Any]:
    line = {"kind": "step", "step": number, "loss": loss, "learning_rate": 1e-5, "grad_norm": 4.0}
    return {**line, "total_steps": 10, "windows": 2, "segments": 16, **more}


def evaluation(number: int, wer: float, **more: Any) -> dict[str, Any]:
    return {"kind": "evaluation", "step": number, "weights": "live", "wer": wer, "cer": wer / 2, **more}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_our_metrics_are_read_from_a_run_and_from_the_file(tmp_path: Path) -> None:
    lines = [
        step(1, 3.0),
        step(2, None),
        evaluation(2, 80.0, wer_interval=[70.0, 90.0], rows=50, insertions=4.0, loss=1.5, wer_normalized=75.0),
        step(3, 2.0, windows=8, segments=8),
        evaluation(2, 70.0, weights="average"),
    ]
    path = write(tmp_path / "metrics.jsonl", lines)
    history = read_history(tmp_path)
    assert history == read_history(path)
    assert [each.loss for each in history.steps] == [3.0, None, 2.0]
    assert [each.alone for each in history.steps] == [False, False, True]
    assert (history.skipped, history.total_steps, history.last_step) == (1, 10, 3)
    live, average = sorted(history.evaluations, key=lambda each: each.weights, reverse=True)
    assert live == Evaluated(2, 1.5, 80.0, 40.0, 75.0, 4.0, (70.0, 90.0), None, 50)
    assert average.weights == "average"
    assert history.best() == live  # averages are not what the curve is of
    assert history.height(0.0, 1.0) == 2.5


def test_skipped_steps_are_those_that_the_run_counted() -> None:
    of_norm = [step(n, 1.5, grad_norm=None if n % 3 == 0 else 4.0, skipped=n // 3) for n in range(1, 31)]
    assert (from_metrics(of_norm).skipped, from_metrics(of_norm).skipped_at_end) == (10, 1)
    earlier = [step(n, None if n > 7 else 1.5) for n in range(1, 11)]  # of a version that did not count
    assert (from_metrics(earlier).skipped, from_metrics(earlier).skipped_at_end) == (3, 3)
    overflowed = [step(1, 1.5, skipped=0), step(2, None, skipped=1), step(3, 1.5, grad_norm=None, skipped=1)]
    assert from_metrics([*overflowed, step(4, None, skipped=2)]).skipped_at_end == 2  # 3 made no update, nor a break
    unread = [step(n, None, skipped=0) for n in range(1, 4)]  # no row of these steps can be read
    assert (from_metrics(unread).skipped, from_metrics(unread).skipped_at_end) == (0, 0)
    assert (from_metrics([]).skipped, from_metrics([]).skipped_at_end) == (0, 0)


def test_an_interval_that_nobody_could_compute_is_none(tmp_path: Path) -> None:
    history = from_metrics([evaluation(1, 50.0, wer_interval=[None, None]), evaluation(2, 40.0, wer_interval=[30, 50])])
    assert [each.interval for each in history.evaluations] == [None, (30.0, 50.0)]
    write(tmp_path / "metrics.jsonl", [evaluation(1, 50.0, wer_interval=[None, None])])
    assert read_history(tmp_path).best() is not None


def test_the_run_says_which_figure_leads() -> None:
    mixed = "whisper-english 1, whispertune-characters 1"
    lines = [
        evaluation(1, 88.0, cer=9.0, leading="cer", normalizer=mixed),
        evaluation(2, 90.0, cer=6.0, leading="cer", normalizer=mixed),
    ]
    history = from_metrics(lines)
    best = history.best()
    assert (history.metric, best and best.step) == ("cer", 2)
    characters = "whispertune-characters 1"
    assert from_metrics([evaluation(1, 88.0, normalizer=characters)]).metric == "cer"  # an older line
    assert from_metrics([evaluation(1, 88.0, normalizer=characters, leading="wer")]).metric == "wer"
    assert from_metrics([evaluation(1, 88.0, normalizer=mixed)]).leading is None


def test_evaluations_of_another_part_of_dev_are_left_out_and_told() -> None:
    rates = ((50, 30.0, 16), (100, 26.0, 16), (150, 36.0, 250), (200, 33.0, 250))
    history = from_metrics(lines_of(rates))
    assert [rate for _, rate in history.measured("wer")] == [36.0, 33.0]
    assert history.notes == (
        "2 of the evaluations were not of 250 rows of dev, as the last is: only those like the last are compared",
    )
    unknown = from_metrics([evaluation(50, 30.0), evaluation(100, 26.0, rows=16)])
    assert len(unknown.measured("wer")) == 2
    assert unknown.notes == ()
    cut = from_metrics([evaluation(50, 30.0, rows=90, context="fit"), evaluation(100, 26.0, rows=16, context="full")])
    assert len(cut.notes) == 1  # of the clips alone, which is why the rows are fewer
    unreadable = [*lines_of(((50, 30.0, 16), (100, 26.0, 16))), evaluation(150, 25.0, rows=15, rows_unreadable=1)]
    assert len(from_metrics(unreadable).measured("wer")) == 3
    average = [*lines_of(rates), evaluation(200, 25.0, rows=250, weights="average")]
    assert len(from_metrics(average).measured("wer")) == 2


def lines_of(rates: tuple[tuple[int, float, int], ...]) -> list[dict[str, Any]]:
    return [evaluation(at, rate, rows=rows) for at, rate, rows in rates]


def test_a_line_that_is_there_twice_counts_once_and_one_cut_off_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", [step(1, 3.0), step(1, 2.5), evaluation(1, 80.0), evaluation(1, 60.0)])
    with path.open("a") as file:
        file.write('{"kind": "step", "st')
    history = read_history(path)
    assert [each.loss for each in history.steps] == [2.5]
    assert [each.wer for each in history.evaluations] == [60.0]


def trainer_lines(factor: float) -> list[dict[str, Any]]:
    return [
        {"step": 25, "epoch": 0.1, "loss": 1.2, "learning_rate": 5e-6, "grad_norm": 7.0},
        {"step": 50, "epoch": 0.2, "loss": math.nan, "learning_rate": 1e-5, "grad_norm": math.inf},
        {"step": 50, "epoch": 0.2, "eval_loss": 0.4, "eval_wer": 40.0 * factor, "eval_cer": 12.0 * factor},
        {"step": 75, "epoch": 0.3, "loss": 0.8, "learning_rate": 8e-6},
        {"step": 100, "epoch": 0.4, "eval_loss": 0.35, "eval_wer": 30.0 * factor, "eval_cer": 9.0 * factor},
        {"step": 100, "epoch": 0.4, "train_runtime": 900.0, "train_loss": 1.0, "total_flos": 1.0},
    ]


@pytest.mark.parametrize("factor", [1.0, 0.01])
def test_transformers_log_is_read_in_per_cent_or_as_shares(factor: float) -> None:
    history = from_trainer_state(trainer_lines(factor))
    assert history.writer == "transformers"
    assert [(each.step, each.loss, each.grad_norm) for each in history.steps] == [
        (25, 1.2, 7.0),
        (50, None, None),
        (75, 0.8, None),
    ]
    assert [(each.step, each.loss) for each in history.evaluations] == [(50, 0.4), (100, 0.35)]
    assert [each.wer for each in history.evaluations] == pytest.approx([40.0, 30.0])
    assert [each.cer for each in history.evaluations] == pytest.approx([12.0, 9.0])
    best = history.best()
    assert best is not None
    assert best.step == 100
    assert history.peak_rate == 1e-5


def test_a_trainers_folder_is_read_from_its_newest_checkpoint(tmp_path: Path) -> None:
    for number, lines in ((500, trainer_lines(1.0)[:1]), (1000, trainer_lines(1.0))):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": lines}))
    (tmp_path / "checkpoint-old").mkdir()
    assert len(read_history(tmp_path).evaluations) == 2
    assert len(read_history(tmp_path / "checkpoint-500").steps) == 1


def test_where_only_characters_were_counted_they_select() -> None:
    history = from_metrics([{"kind": "evaluation", "step": place, "cer": rate} for place, rate in ((1, 9.0), (2, 8.0))])
    best = history.best()
    assert history.metric == "cer"
    assert best is not None
    assert best.step == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trainer_state.json", "{"),
        ("trainer_state.json", "[]"),
        ("trainer_state.json", '{"global_step": 3}'),
        ("trainer_state.json", '{"log_history": [1, 2]}'),
        ("trainer_state.json", '{"log_history": []}'),
        ("trainer_state.json", "\udcff\x00"),
        ("metrics.jsonl", ""),
        ("metrics.jsonl", '{"kind": "step"}\nwords\n[1]\n'),
        ("notes.txt", "hello"),
    ],
)
def test_what_is_neither_is_refused_with_what_would_do(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(InputError, match=r"trainer_state\.json"):
        read_history(path)


def test_folders_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError) as error:
            read_history(path)
        assert str(path) in str(error.value)
