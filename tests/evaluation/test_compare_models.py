"""`whispertune compare` on models and data by name: what is decoded, in which language, and what is kept of clips."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whispertune.cli import main
from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.engines import open_engine
from whispertune.evaluation.evaluate import evaluate
from whispertune.evaluation.inputs import Kept, Source
from whispertune.model.load import ModelFolder
from whispertune.service.evaluate import Decoding, compare_models


def test_the_command(english_read: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compared.html"
    models = ["bundled:whisper-tiny.en", "bundled:whisper-base"]
    options = ["--data", str(english_read), "--language", "en", "--out", str(out), "--json"]
    assert main(["compare", *models, *options]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [each["model"] for each in found["models"]] == models
    assert [each["verdict"] for each in found["models"]] == [None, "no difference shown"]  # three clips show nothing
    assert all(each["real_time_factor"] > 0 and 0 <= each["wer"] < 30 for each in found["models"])
    assert all(0 < each["loss"] < 0.25 for each in found["models"])  # teacher-forced
    assert found["pairs"] == []
    assert {"verdict_normalized", "p_value_normalized"} <= found["models"][1].keys()
    assert "bundled:whisper-base" in out.read_text()


def test_the_command_in_words(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(tiny.path, tmp_path / "other")
    options = ["--data", str(noises / "dev"), "--language", "sv", "--limit", "1", "--normalizer", "basic+digits"]
    assert main(["compare", str(tiny.path), str(other), *options]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 rows" in printed
    assert "normaliser: whispertune-basic+digits 1" in printed
    assert "no difference shown to" in printed


@pytest.fixture
def asked_of_readers(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, float, float]]:
    """How often each stretch of audio is read, by a real reader."""
    found: Counter[tuple[str, float, float]] = Counter()
    read = AudioReader.read

    def counting(self: AudioReader, recording: Any, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
        found[str(recording), start_s, end_s or 0.0] += 1
        return read(self, recording, start_s, end_s)

    monkeypatch.setattr(AudioReader, "read", counting)
    return found


@pytest.mark.parametrize("context", ["full", "fit"])
def test_audio_is_read_once_for_all_models(
    context: Any,
    tiny: ModelFolder,
    noises: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked_of_readers: Counter[tuple[str, float, float]],
) -> None:
    copies = [str(shutil.copytree(tiny.path, tmp_path / name)) for name in "bc"]
    options = ["--data", str(noises / "dev"), "--language", "sv", "--context", context, "--json"]
    assert main(["compare", str(tiny.path), *copies, *options]) == 0
    assert set(asked_of_readers.values()) == {1}
    assert len(asked_of_readers) == 3
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(each["first"], each["second"], each["verdict"]) for each in found["pairs"]] == [
        (*copies, "no difference shown")
    ]
    engine = open_engine("ctranslate2", str(tiny.path))
    rows = compare_models([str(tiny.path), *copies], str(noises / "dev"), Decoding(language="sv", context=context))
    with AudioReader() as reader:
        alone = evaluate(engine, rows[0].evaluation.segments, reader, context=context)
    assert [row.evaluation.utterances for row in rows] == [alone.utterances] * 3


def test_mels_of_other_sizes_and_conditions_are_kept_apart(noises: Path) -> None:
    row = Segment("a", noises / "dev" / "0.wav", 0.0, 1.0, "", "sv")
    kept = Kept()
    with AudioReader() as reader:
        plain = Source(reader, "fit", kept=kept)
        softer = Source(reader, "fit", lambda samples, _: samples / 10, kept, "softer")
        sources = [(plain, 80), (plain, 128), (softer, 80)]
        first, again = ([source.read([row], n_mels)[0] for source, n_mels in sources] for _ in range(2))
    shapes = [(len(each.inputs), each.inputs.shape[1]) for each in first if each]
    assert shapes == [(1, 80), (1, 128), (1, 80)]
    assert len(kept) == 3
    assert all(each and other and each.inputs.equal(other.inputs) for each, other in zip(first, again, strict=True))
    assert first[0]
    assert first[2]
    assert not first[0].inputs.equal(first[2].inputs)


def test_what_was_kept_counts_as_time_of_decoding(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first model reads and the second does not, and both take a second longer where reading takes it."""
    other = str(shutil.copytree(tiny.path, tmp_path / "other"))
    read, waits = AudioReader.read, 0.4

    def slow(self: AudioReader, *given: Any, **named: Any) -> np.ndarray:
        time.sleep(waits)
        return read(self, *given, **named)

    monkeypatch.setattr(AudioReader, "read", slow)
    rows = compare_models([str(tiny.path), other], str(noises / "dev"), Decoding(language="sv", context="fit"))
    assert all(row.evaluation.seconds > 3 * waits for row in rows)
    assert abs(rows[0].evaluation.seconds - rows[1].evaluation.seconds) < 2 * waits


@pytest.mark.parametrize(
    ("models", "says"),
    [
        (["a", "b", "--normalizer", "none"], "one of basic, english, indic, arabic, characters"),
        (["bundled:whisper-base", "bundled:whisper-base"], "stands twice"),
        (["bundled:whisper-base", "no-such"], "no model 'no-such'"),
    ],
)
def test_wrong_names_end_with_2(
    models: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *models, "--data", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


@pytest.fixture
def speaking(tiny: ModelFolder, tmp_path: Path) -> Callable[..., str]:
    """Copies of a model that are for a language, or a task."""

    def copy(**settings: str) -> str:
        folder = shutil.copytree(tiny.path, tmp_path / "-".join(settings.values()))
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return str(folder)

    return copy


@pytest.mark.parametrize("base_first", [True, False])
def test_one_language_and_task_for_all(
    base_first: bool, tiny: ModelFolder, speaking: Callable[..., str], noises: Path
) -> None:
    """A base model names none: it is judged as what was tuned from it is."""
    models = [str(tiny.path), speaking(language="sv", task="translate")]
    rows = compare_models(models if base_first else models[::-1], str(noises / "dev"), Decoding(limit=1))
    assert [(each.language, each.task) for row in rows for each in row.evaluation.segments] == [("sv", "translate")] * 2


@pytest.mark.parametrize(("what", "one", "other"), [("language", "sv", "no"), ("task", "transcribe", "translate")])
def test_models_that_differ_are_told_before_anything_is_decoded(
    what: str, one: str, other: str, speaking: Callable[..., str], noises: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [speaking(**{what: one}), speaking(**{what: other})]
    rest = ["--language", "sv"] if what == "task" else []
    assert main(["compare", *models, "--data", str(noises / "dev"), "--limit", "1", *rest]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"--{what}" in told
    assert all(each in told.replace(" ", "") for each in (f"{models[0]}:{one}", f"{models[1]}:{other}"))
    assert main(["compare", *models, "--data", str(noises / "dev"), "--limit", "1", *rest, f"--{what}", one]) == 0


def test_models_for_two_languages_are_compared_on_rows_that_name_theirs(
    speaking: Callable[..., str], noises: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(noises / "dev", tmp_path / "data")
    lines = [json.loads(line) | {"language": "da"} for line in (data / "metadata.jsonl").read_text().splitlines()]
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = compare_models([speaking(language="sv"), speaking(language="no")], str(data), Decoding(limit=1))
    assert [each.language for row in rows for each in row.evaluation.segments] == ["da", "da"]


def test_every_model_has_to_have_the_language(
    tiny: ModelFolder, noises: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(tiny.path), "bundled:whisper-tiny.en"]
    assert main(["compare", *models, "--data", str(noises / "dev"), "--language", "sv"]) == 2
    assert "bundled:whisper-tiny.en: an English-only model" in " ".join(capsys.readouterr().err.split())
