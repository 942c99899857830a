"""Suspects: swapped texts are found by the model as it comes, and no row is lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional as F

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment, SourceSpec
from whispertune.data.sources import open_source
from whispertune.decode.engines import load_live
from whispertune.errors import DataError
from whispertune.inspect.losses import text_losses
from whispertune.inspect.suspects import rank_suspects
from whispertune.model.load import ModelFolder
from whispertune.windows.features import log_mel

RATE_HZ = 16_000


def noise(folder: Path, name: str, seconds: float) -> Path:
    samples = np.random.default_rng(len(name)).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)
    soundfile.write(folder / name, samples, RATE_HZ)
    return folder / name


def rows_of(location: Path, language: str, reader: AudioReader, limit: int | None = None) -> list[Segment]:
    spec = SourceSpec(str(location), language=language, limit_rows=limit)
    return list(open_source(spec, reader).segments)


def swapped(rows: Sequence[Segment], share: float, seed: int) -> tuple[list[Segment], set[str]]:
    """The rows with the texts of some of them passed on among these, and which these are."""
    chosen = np.random.default_rng(seed).choice(len(rows), round(share * len(rows)), replace=False).tolist()
    changed = list(rows)
    for taker, giver in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        changed[taker] = replace(rows[taker], text=rows[giver].text)
    return changed, {rows[row].id for row in chosen}


def test_swapped_texts_are_the_worst(mboshi: Path, base: ModelFolder, reader: AudioReader) -> None:
    """By a model that does not know the language, so that what it writes would tell nothing."""
    rows, wrong = swapped(rows_of(mboshi / "train", "ln", reader, limit=40), share=0.1, seed=2)
    suspects, problems = rank_suspects(rows, base, reader, decode=False)
    assert {each.segment.id for each in suspects[: len(wrong)]} == wrong
    assert len(suspects) == len(rows)
    assert not problems


def test_a_decode_that_says_the_same_clears_a_row(
    english_read: Path, tiny_en: ModelFolder, reader: AudioReader
) -> None:
    rows = rows_of(english_read, "en", reader)
    suspects, _ = rank_suspects(rows, tiny_en, reader)
    (cleared,) = (each for each in suspects if each.cer is not None)  # of three rows, one is decoded
    assert cleared.cer is not None
    assert cleared.cer < 30
    assert cleared.score <= 0
    assert "nearly the same" in cleared.reason


def test_a_wrong_text_is_shown_with_what_was_heard(
    english_read: Path, tiny_en: ModelFolder, reader: AudioReader
) -> None:
    rows = rows_of(english_read, "en", reader)
    rows[1] = replace(rows[1], text="The weather in the north of the country was cold, with a little snow.")
    suspects, _ = rank_suspects(rows, tiny_en, reader)
    worst = suspects[0]
    assert worst.segment == rows[1]
    assert worst.gain_per_token < min(each.gain_per_token for each in suspects[1:])
    assert worst.cer is not None
    assert worst.cer > 60
    assert worst.heard
    assert worst.heard.strip() in worst.reason


def test_every_row_is_ranked_once_and_progress_ends_at_all(
    noises: Path, tiny: ModelFolder, reader: AudioReader
) -> None:
    rows = rows_of(noises / "train", "sv", reader)
    told: list[tuple[int, int]] = []
    suspects, problems = rank_suspects(
        rows, tiny, reader, decode=False, progress=lambda done, total: told.append((done, total))
    )
    assert sorted(each.segment.id for each in suspects) == sorted(row.id for row in rows)
    assert not problems
    scores = [each.score for each in suspects]
    assert scores == sorted(scores, reverse=True)
    assert all(each.cer is None and each.heard is None for each in suspects)
    assert told[-1] == (len(rows), len(rows))


def test_the_worst_fifth_is_decoded(noises: Path, tiny: ModelFolder, reader: AudioReader) -> None:
    rows = rows_of(noises / "train", "sv", reader)
    told: list[tuple[int, int]] = []
    suspects, _ = rank_suspects(rows, tiny, reader, progress=lambda done, total: told.append((done, total)))
    assert sum(each.cer is not None for each in suspects) == 3  # of twelve
    assert told[-1] == (15, 15)


def test_what_cannot_be_read_is_a_problem(tmp_path: Path, tiny: ModelFolder, reader: AudioReader) -> None:
    good, broken = noise(tmp_path, "good.wav", 3), tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF of nothing")
    rows = [
        Segment("good", good, 0, 3, "en bra rad", "sv"),
        Segment("broken", broken, 0, 3, "en trasig rad", "sv"),
        Segment("long", good, 0, 31, "en lång rad", "sv"),
        Segment("wordy", good, 0, 3, "många ord " * 200, "sv"),
    ]
    suspects, problems = rank_suspects(rows, tiny, reader, decode=False)
    assert [each.segment.id for each in suspects] == ["good"]
    assert sorted((problem.where, problem.kind) for problem in problems) == [
        ("broken", "audio does not decode"),
        ("long", "too long for one window"),
        ("wordy", "too long for one window"),
    ]


def test_a_cue_behind_the_end_does_not_take_its_neighbours_along(
    tmp_path: Path, tiny: ModelFolder, reader: AudioReader
) -> None:
    talk = noise(tmp_path, "talk.wav", 8)
    times = [(0, 3), (3.5, 6), (6.5, 12)]
    rows = [
        Segment(str(row), talk, start_s, end_s, "en rad till", "sv", continues=row > 0)
        for row, (start_s, end_s) in enumerate(times)
    ]
    suspects, problems = rank_suspects(rows, tiny, reader, decode=False)
    assert sorted(each.segment.id for each in suspects) == ["0", "1"]
    assert [problem.where for problem in problems] == ["2"]


@pytest.mark.parametrize(("spoken", "task"), [("sv", "transcribe"), ("ja", "translate")])
def test_losses_are_those_of_the_tokens_of_each_text(
    tmp_path: Path, tiny: ModelFolder, reader: AudioReader, spoken: str, task: str
) -> None:
    talk = noise(tmp_path, "talk.wav", 5)
    first = Segment("0", talk, 0, 2, "det här är en rad", spoken, task)
    second = Segment("1", talk, 2, 5, "och en till", spoken, task, continues=True)
    losses, _ = text_losses([first, second], load_live(tiny), reader)

    vocabulary = tiny.vocabulary
    texts = [vocabulary.encode(each.text, "sv") for each in (first, second)]
    times = [vocabulary.timestamp(time_s) for time_s in (0, 2, 2, 5)]
    prefix = vocabulary.prefix(spoken, task, timestamps=True)
    tokens = torch.tensor([[*prefix, times[0], *texts[0], times[1], times[2], *texts[1], times[3]]])
    audio = torch.from_numpy(np.pad(reader.read(talk), (0, 25 * RATE_HZ)))
    model = tiny.load().eval()
    for name, sound in (("heard", audio), ("unheard", torch.zeros_like(audio))):
        with torch.no_grad():
            logits = model(log_mel(sound[None], 80), decoder_input_ids=tokens[:, :-1]).logits[0]
        of_tokens = F.cross_entropy(logits, tokens[0, 1:], reduction="none").numpy()
        start = len(prefix)  # of the first text, among the targets
        end = start + len(texts[0]) + 1
        expected = of_tokens[start:end].mean(), of_tokens[end + 1 :].mean()
        assert [getattr(loss, name) for loss in losses] == pytest.approx(expected, abs=0.003)


def test_rows_whose_ids_are_equal_keep_what_is_theirs(noises: Path, tiny: ModelFolder, reader: AudioReader) -> None:
    """Texts, losses and decodes; the row that does not fit is named."""
    rows = rows_of(noises / "train", "sv", reader)
    rows[4] = replace(rows[4], text="många ord " * 200)
    alike = [replace(row, id="same") for row in rows]
    losses, _ = text_losses(rows, load_live(tiny), reader)
    found, problems = text_losses(alike, load_live(tiny), reader)
    assert [each.segment for each in found] == alike[:4] + alike[5:]
    assert [each.heard for each in found] == [each.heard for each in losses]
    assert [each.where for each in problems] == ["same"]
    told, again = (
        {each.segment.text: each.heard for each in rank_suspects(of, tiny, reader)[0]} for of in (rows, alike)
    )
    assert again == told


def test_no_rows_are_an_error(tiny: ModelFolder, reader: AudioReader) -> None:
    with pytest.raises(DataError, match="no rows"):
        rank_suspects([], tiny, reader)
