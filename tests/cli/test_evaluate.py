"""`whispertune evaluate` with everything it can be asked for, on real speech, real models and a random one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from whispertune.cli import main
from whispertune.cli.evaluate import print_examination
from whispertune.data.audio import AudioReader
from whispertune.data.captions import Cue, write_captions
from whispertune.decode.engines import CTranslate2Engine
from whispertune.evaluation.examination import Examination
from whispertune.model.encoder import WhisperEncoder
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.parameters import merged_state
from whispertune.score.translation import score_translations
from whispertune.score.wer import read_utterances
from whispertune.service.evaluate import Decoding, compare_models, evaluate_model
from whispertune.service.examine import Wanted, examine_model, write_report

PAUSE_S = 1.5


def asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What `evaluate --json` prints."""
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture(scope="module")
def run(tiny: ModelFolder, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run looks like whose model is the random one, tuned from the same."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny.path, folder / "model")
    (folder / "run.json").write_text("{}")
    recipe = f'model = "{tiny.path.as_posix()}"\n[[data.train]]\nsource = "{(noises / "train").as_posix()}"\n'
    (folder / "resolved.toml").write_text(recipe)
    return folder


@pytest.fixture(scope="module")
def talk(english_read: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of read English as one recording, with its captions, which are sloppy: one reaches into the next."""
    folder = tmp_path_factory.mktemp("talks")
    rows = [json.loads(line) for line in (english_read / "metadata.jsonl").read_text().splitlines()][1:]
    pause = np.zeros(round(PAUSE_S * 16_000), dtype=np.float32)
    audio, cues, at_s = [pause], [], PAUSE_S
    for row in rows:
        samples, rate = soundfile.read(english_read / row["file_name"], dtype="float32")
        assert rate == 16_000
        cues.append(Cue(at_s, at_s + len(samples) / rate, row["text"]))
        audio += [samples, pause]
        at_s = cues[-1].end_s + PAUSE_S
    soundfile.write(folder / "talk.flac", np.concatenate(audio), 16_000)
    cues[0] = replace(cues[0], end_s=cues[1].start_s + 0.1)
    write_captions(folder / "talk.en.vtt", cues, "en")
    return folder


@pytest.fixture(scope="module")
def asked_for(run: Path, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Examination, str]:
    """All that can be asked for of the rows of a set, once, and the report."""
    wanted = Wanted(terms=("noise", "QLoRA"), tokens=True, silence=True, noise_db=(20.0, 10.0), noise_from="babble")
    report = tmp_path_factory.mktemp("report") / "report.html"
    how = Decoding(language="sv", context="fit")  # which costs less
    found = examine_model(str(run), str(noises / "dev"), how, wanted)
    write_report(found, report)
    return found, report.read_text(encoding="utf-8")


def test_all_that_can_be_asked_for(asked_for: tuple[Examination, str], run: Path, tiny: ModelFolder) -> None:
    found = json.loads(json.dumps(asked_for[0].as_json()))
    assert found["rows"] == 3
    assert found["base"]["model"] == str(tiny.path)  # that of the run, unasked
    assert found["base"]["wer"] == found["wer"]  # the same weights
    conditions = ["clean", "babble 20 dB", "babble 10 dB", "telephone"]
    assert [each["condition"] for each in found["noise"]] == conditions * 2
    assert [each["model"] for each in found["noise"]] == [str(tiny.path)] * 4 + [str(run)] * 4
    assert found["noise"][4]["wer"] == found["wer"]
    assert found["tokens"]["measured"] == "teacher-forced"
    assert found["silence"]["clips"] > 10
    assert found["terms_recall"] == 0.0
    assert {"terms_precision", "terms_false_insertions", "terms_near"} <= found.keys()
    assert {each["attribute"] for each in found["slices"]} >= {"level", "speech rate"}
    assert found["peak_memory_mb"] > 50


def test_the_report_has_it_all(asked_for: tuple[Examination, str]) -> None:
    _, text = asked_for
    assert all(f'id="{part}"' in text for part in ("rates", "terms", "tokens", "noise", "silence", "worst"))
    assert text.count("<audio ") == 3


def test_the_same_in_words(asked_for: tuple[Examination, str], capsys: pytest.CaptureFixture[str]) -> None:
    print_examination(asked_for[0])
    printed = capsys.readouterr().out
    for part in ("WER raw", "s of decoding a second of audio", "teacher-forced: loss", "on silence: text on"):
        assert part in printed
    assert "terms: 0 of 3 right (0.0 %)" in printed
    assert "babble" in printed


def test_without_more_nothing_more_is_decoded(
    run: Path, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report, names = tmp_path / "out.jsonl", tmp_path / "report.html", tmp_path / "names.txt"
    names.write_text("noise\n")
    options = ("--language", "sv", "--out", out, "--report", report, "--entities", names)
    found = asked(capsys, run, noises / "dev", *options)
    assert (found["entities"]["tagger"], found["entities"]["entities"]) == ("names.txt", 3)
    assert len(read_utterances(out)) == found["rows"] == 3
    assert 'id="noise"' not in report.read_text(encoding="utf-8")
    assert not found.keys() & {"meaning", "base", "tokens", "noise", "silence", "cues", "terms_recall", "bleu"}
    assert {"slices", "hallucination", "confusions", "real_time_factor", "peak_memory_mb"} <= found.keys()


def test_a_base_whose_weights_are_gone_stands_beside_nothing(
    run: Path, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    recipe = (run / "resolved.toml").read_text().partition("\n")[2]
    (moved / "resolved.toml").write_text(f'model = "no-such-model"\n{recipe}')
    assert main(["evaluate", str(moved), str(noises / "dev"), "--language", "sv", "--noise", "5", "--json"]) == 0
    printed = capsys.readouterr()
    assert "its base model cannot be had" in printed.err
    assert "base" not in json.loads(printed.out.splitlines()[-1])


def test_translations_are_scored_as_such(
    run: Path, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against references that are in part what the model writes, so that there is something to score."""
    data, out = tmp_path / "data", tmp_path / "out.jsonl"
    options = ("--language", "sv", "--task", "translate", "--out", out)
    asked(capsys, run, noises / "dev", *options)
    shutil.copytree(noises / "dev", data)
    texts = [" ".join(each.hypothesis.split()[:8]) for each in read_utterances(out)]
    rows = [{"file_name": f"{number}.wav", "text": f"said {text}"} for number, text in enumerate(texts)]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = asked(capsys, run, data, *options, "--base", run / "model")
    assert found["base"]["bleu"] == found["bleu"]  # the same weights
    utterances = read_utterances(out)
    scores = score_translations([each.reference for each in utterances], [each.hypothesis for each in utterances])
    assert (found["bleu"], found["chrf"]) == pytest.approx((scores.bleu, scores.chrf))
    assert min(scores.bleu, scores.chrf) > 1
    assert found["bleu_signature"] == scores.bleu_signature


class Bags:
    """Counts of words as embeddings."""

    name = "bags"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        words = sorted({word for text in texts for word in text.split()})
        return np.array([[text.split().count(word) for word in words] for text in texts], dtype=np.float32)


def test_the_negations_of_translations_are_those_of_english(
    run: Path, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that the random model writes has a "not"; the embeddings stand in for a model that is too large here."""
    monkeypatch.setattr("whispertune.service.examine.load_embedder", lambda folder: Bags())
    data = shutil.copytree(noises / "dev", tmp_path / "data")
    rows = [{"file_name": f"{n}.wav", "text": "do not take it", "task": "translate"} for n in range(3)]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = Decoding(language="ja", context="fit")
    found = examine_model(str(run), str(data), how, Wanted(meaning=tmp_path))
    assert found.meaning is not None
    assert [each.negated for each in found.meaning.wrong] == [True] * 3
    assert found.evaluation.scores.normalizer == "whisper-english 1"


@pytest.fixture(scope="module")
def mixed(noises: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of noise that are said to be in three languages."""
    data = tmp_path_factory.mktemp("mixed") / "dev"
    shutil.copytree(noises / "dev", data)
    texts = (("en", "Hello there"), ("hi", "यह सुंदर है"), ("ar", "قال أحمد"))
    rows = [{"file_name": f"{n}.wav", "text": text, "language": code} for n, (code, text) in enumerate(texts)]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return data


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ((), "whisper-english 1, whispertune-arabic 1, whispertune-indic 1"),
        (("--normalizer", "arabic+digits+alef"), "whispertune-arabic+alef+digits 1"),
    ],
)
def test_what_normalised_is_named(
    options: tuple[str, ...],
    used: str,
    run: Path,
    mixed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names, report = tmp_path / "names.txt", tmp_path / "report.html"
    names.write_text("Hello\n")
    more = ("--context", "fit", "--entities", names, "--report", report)
    found = asked(capsys, run, mixed, *more, *options)
    assert found["normalizer"] == found["entities"]["normalizer"] == used
    assert f"normaliser: {used}" in report.read_text(encoding="utf-8")


def test_whole_recordings(talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.html"
    wanted = Wanted(recordings=True, tokens=True)
    examined = examine_model("bundled:whisper-tiny.en", str(talk), wanted=wanted)
    write_report(examined, report)
    found = json.loads(json.dumps(examined.as_json()))
    assert found["wer_normalized"] < 10  # read English, as good as solved
    assert found["rows"] == found["cues"]["cues"] == 2
    assert found["cues"]["recordings"] == 1
    assert found["audio_seconds"] == pytest.approx(11.66 + 11.0 + 3 * PAUSE_S, abs=0.1)
    starts = found["cues"]["starts"]
    assert starts["matched"] == 2
    assert starts["median_s"] < 1.0
    assert found["tokens"]["rows"] == 2
    assert 'id="cues"' in report.read_text(encoding="utf-8")
    print_examination(examined)
    assert "cue starts: 2 of 2 matched, off by" in capsys.readouterr().out


def test_the_first_recordings_are_whole(
    noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    """The limit counts recordings; in noise nobody speaks, so nothing is written."""
    for name in ("a", "b"):
        shutil.copy(noises / "train" / "0.wav", tmp_path / f"{name}.wav")
        write_captions(tmp_path / f"{name}.sv.vtt", [Cue(0.0, 0.5, "ett två"), Cue(0.5, 0.9, "tre")])
    found = asked(capsys, run, tmp_path, "--recordings", "--limit", 1, "--base", run / "model")
    assert found["cues"]["recordings"] == 1
    assert found["rows"] == 2
    assert found["wer"] == found["deletions"] == found["base"]["wer"] == 100.0


def test_text_that_is_cut_off_is_seen(
    asked_for: tuple[Examination, str], tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    """Of a model that never ends by itself all texts end at the limit of the engine."""
    model = tiny.load()
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[tiny.vocabulary.end] = 0
    write_folder(tmp_path, merged_state(model), tiny.shape, tiny.tokenizer_json, tiny.generation)
    endless = examine_model(str(tmp_path), str(noises / "dev"), Decoding(language="sv", context="fit"))
    assert (endless.analysis.signs.at_limit, asked_for[0].analysis.signs.at_limit) == (3, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--noise", "loud"], "'loud' is no signal-to-noise ratio"),
        (["--noise", ""], "'' is no signal-to-noise ratio"),
        (["--noise", "10", "--noise-from", "nowhere"], "--noise-from nowhere: no such folder"),
        (["--noise", "10", "--recordings"], "with --recordings, and with --noise and without it"),
        (["--base", "no-such-model"], "no model 'no-such-model'"),
        (["--report", "."], "is a folder"),
        (["--normalizer", "arabisch"], "one of basic, english, indic, arabic, characters"),
        (["--normalizer", "basic+alef"], "choose among digits"),
        (["--report", "nowhere/report.html"], "there is no such folder"),
        (["--report", "nowhere/report.html"], "make it, or choose another --report"),
    ],
)
def test_what_cannot_be_asked_for(
    options: list[str], says: str, tiny: ModelFolder, noises: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tiny.path), str(noises / "dev"), "--language", "sv", *options]) == 2
    assert says in capsys.readouterr().err


def test_a_report_does_not_replace_what_is_none(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "notes.html"
    target.write_text("mine")
    arguments = ["evaluate", str(tiny.path), str(noises / "dev"), "--language", "sv", "--report", str(target)]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "is there already" in told
    assert "choose another --report" in told
    assert "--out" not in told
    assert target.read_text() == "mine"


def test_a_base_is_given_the_clips_of_the_model(
    run: Path, tiny: ModelFolder, noises: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stretch is read once under each condition for both, and neither's texts depend on that."""
    how, noise = Decoding(language="sv", context="fit"), (10.0, 0.0)
    before = examine_model(str(tiny.path), str(noises / "dev"), how, Wanted(noise_db=noise))
    asked: Counter[tuple[str, float]] = Counter()
    read = AudioReader.read

    def counting(self: AudioReader, recording: Any, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
        asked[str(recording), start_s] += 1
        return read(self, recording, start_s, end_s)

    monkeypatch.setattr(AudioReader, "read", counting)
    found = examine_model(str(run), str(noises / "dev"), how, Wanted(noise_db=noise))
    assert found.base is not None
    assert len(asked) == 3
    assert set(asked.values()) == {4}  # clean, two ratios, a telephone
    assert found.base.evaluation.utterances == before.evaluation.utterances
    for beside, by_itself in zip(found.noise[str(tiny.path)], before.noise[str(tiny.path)], strict=True):
        assert beside.condition == by_itself.condition
        assert beside.evaluation.utterances == by_itself.evaluation.utterances
    assert {each.attribute for each in found.analysis.slices} >= {"level"}  # all rows were listened to


def test_a_model_beside_itself(tiny: ModelFolder, noises: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny.path), str(noises / "dev"), "--base", str(tiny.path)]) == 2
    assert "is the model itself" in capsys.readouterr().err


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a model is read, and how many clips are encoded: by the engine, and by the model in memory."""
    counts = {"read": 0, "by the engine": 0, "by the model": 0}
    load, encode, whole = ModelFolder.load, CTranslate2Engine.encode, WhisperEncoder.whole

    def loading(self: ModelFolder, dropout: float = 0.0) -> Any:
        counts["read"] += 1
        return load(self, dropout)

    def encoding(self: CTranslate2Engine, mel: Any) -> Any:
        counts["by the engine"] += len(mel)
        return encode(self, mel)

    def encoding_whole(self: WhisperEncoder, mels: Any) -> Any:
        counts["by the model"] += sum(map(len, mels))
        return whole(self, mels)

    monkeypatch.setattr(ModelFolder, "load", loading)
    monkeypatch.setattr(CTranslate2Engine, "encode", encoding)
    monkeypatch.setattr(WhisperEncoder, "whole", encoding_whole)
    return counts


def test_tokens_are_counted_while_decoding(run: Path, noises: Path, counted: dict[str, int]) -> None:
    found = examine_model(str(run), str(noises / "dev"), Decoding(language="sv", context="fit"), Wanted(tokens=True))
    assert counted == {"read": 1, "by the engine": 3, "by the model": 0}
    assert found.tokens is not None
    assert found.tokens.loss == pytest.approx(np.log(find_model(str(run)).shape.vocabulary), rel=0.2)
    without = evaluate_model(str(run), str(noises / "dev"), Decoding(language="sv", context="fit"))
    assert found.evaluation.utterances == without.utterances


@pytest.mark.parametrize("form", ["transformers", "ct2"])
def test_a_comparison_reads_and_encodes_once(
    form: str, run: Path, tiny: ModelFolder, noises: Path, tmp_path: Path, counted: dict[str, int]
) -> None:
    other = str(tiny.path)
    if form == "ct2":
        other = str(tmp_path / "ct2")
        assert (
            main(["export", str(tiny.path), "--to", "ct2", "--out", other, "--quantization", "float32", "--no-verify"])
            == 0
        )
        find_model(other)  # in the cache from here on
        counted |= dict.fromkeys(counted, 0)
    first, second = compare_models([str(run), other], str(noises / "dev"), Decoding(language="sv", context="fit"))
    assert counted == {"read": 2, "by the engine": 6, "by the model": 0}
    assert second.loss is not None
    assert first.loss == pytest.approx(second.loss, rel=1e-3)  # the same weights
    assert first.evaluation.utterances == second.evaluation.utterances


def test_weights_in_integers_have_no_tokens(
    run: Path, tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    int8, data = str(tmp_path / "int8"), str(noises / "dev")
    assert main(["export", str(tiny.path), "--to", "ct2", "--out", int8, "--quantization", "int8", "--no-verify"]) == 0
    assert main(["evaluate", int8, data, "--language", "sv", "--tokens"]) == 2
    assert "lost what training needs" in capsys.readouterr().err
    first, second, third = compare_models(
        [str(tiny.path), str(run), int8], data, Decoding(language="sv", context="fit")
    )
    assert first.loss == pytest.approx(np.log(tiny.shape.vocabulary), rel=0.2)  # of random weights
    assert second.loss == first.loss
    assert third.loss is None
