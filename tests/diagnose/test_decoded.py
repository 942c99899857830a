"""The texts of a run: those that count, those that are whole, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnose.test_diagnosis import run_folder, save
from whispertune.diagnose.decoded import read_decoded
from whispertune.diagnose.run import diagnose
from whispertune.score.wer import UtteranceScore, score
from whispertune.train.run import Run

SAID = "den gamla bron byggdes av sten"


def heard(text: str, *, said: str = SAID, rows: int = 30, wrong: int | None = None) -> tuple[UtteranceScore, ...]:
    """Rows of one reference; the first `wrong` of them, or all, are written so."""
    texts = [text if wrong is None or row < wrong else said for row in range(rows)]
    return tuple(score([f"row-{row}" for row in range(rows)], [said] * rows, texts, "sv")[1])


def keys(run: Path) -> set[str]:
    return {each.key for each in diagnose(run).findings}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return run_folder(tmp_path / "run")


def test_texts_whose_figures_the_run_took_back_do_not_count(run: Path) -> None:
    for name in ("tuned", "base", "tuned_fit"):
        save(run, name, heard(SAID + " och så vidare" * 30, wrong=3))
    assert "hallucinations" in keys(run)
    texts = {name: (run / "evaluations" / name).read_bytes() for name in ("tuned.jsonl", "tuned_fit.jsonl")}
    Run(run).reopen()  # it goes on
    for name, content in texts.items():
        (run / "evaluations" / name).write_bytes(content)  # as a kill right there would leave them
    found = diagnose(run)
    assert "hallucinations" not in {each.key for each in found.findings}
    assert "texts of the tuned model" in found.missing
    assert found.material.notes == ()


@pytest.mark.parametrize("end", [100, None])
def test_texts_that_a_kill_cut_off_are_left_out_with_a_note(run: Path, end: int | None) -> None:
    save(run, "base", heard(SAID))
    save(run, "tuned", heard(SAID))
    path = run / "evaluations" / "tuned.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:20]) + ("" if end is None else lines[20][:end]))
    found = diagnose(run)
    (note,) = found.as_json()["notes"]
    why = "they are 20, and tuned.json counts 30" if end is None else "tuned.jsonl:21 cannot be read"
    assert note == f"the texts of tuned.jsonl are left out: {why}"
    assert "texts of the tuned model" in found.missing
    assert "texts of the base model" not in found.missing
    assert "under-trained" in {each.key for each in found.findings}


@pytest.mark.parametrize("name", ["base", "tuned_fit"])
def test_texts_that_were_scored_against_others_are_not_compared(run: Path, name: str) -> None:
    (run / "evaluations" / "base.json").unlink()
    save(run, "tuned", heard(SAID))
    save(run, name, heard("x y", said=f"{SAID} nu"))
    found = diagnose(run)
    (note,) = found.as_json()["notes"]
    assert note.startswith(
        f"the texts of {name}.jsonl are left out: rows stand twice, or were scored against other texts"
    )
    assert "texts of the tuned model" not in found.missing
    assert "texts of the base model" in found.missing
    assert "cut-clips-worse" not in {each.key for each in found.findings}


def test_rows_that_stand_twice_are_not_compared(run: Path) -> None:
    save(run, "tuned", heard(SAID))
    save(run, "base", (*heard(SAID), *heard(SAID)))
    assert read_decoded(run / "evaluations").base == ()
    assert "hallucinations" not in keys(run)


def test_figures_that_are_no_table_stand_for_nothing(run: Path) -> None:
    for content in ("", "[1]", "{"):
        (run / "evaluations" / "tuned.json").write_text(content)
        assert read_decoded(run / "evaluations").tuned == ()


def test_the_run_says_by_which_figure_its_texts_are_read(run: Path) -> None:
    save(run, "tuned", heard(SAID), leading="cer", split="test")
    material = diagnose(run).material
    assert (material.predictions.leading, material.predictions.split) == ("cer", "test")
    save(run, "tuned", heard(SAID))
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write('{"kind": "evaluation", "step": 200, "wer": 60.0, "cer": 20.0, "leading": "cer"}\n')
    material = diagnose(run).material
    assert (material.predictions.leading, material.judged.metric) == ("cer", "cer")
    assert (material.predictions.split, material.history.metric) == ("dev", "cer")
