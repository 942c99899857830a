"""An export is verified in its runtime, or it did not happen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tests.finished_run import finished_run
from tests.publish.small import small_model
from whispertune.cli import main
from whispertune.data.segments import Segment
from whispertune.decode.context import Mark, mark_of
from whispertune.errors import InputError, VerificationError
from whispertune.model import export as writers
from whispertune.model.formats import ctranslate2 as ct2
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.comparison import Comparison, Reference
from whispertune.publish.export import ExportReport, export
from whispertune.publish.exported import Exported
from whispertune.publish.origin import origin_of
from whispertune.publish.readme import readme
from whispertune.publish.runtimes import RUNTIMES
from whispertune.publish.runtimes.heard import Clip, Heard, Runtime
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.publish.usage import Spoken, remark
from whispertune.reporting import Reporter
from whispertune.service.data import read_data
from whispertune.service.export import export_model, reference_of


def test_a_spoiled_export_is_removed(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(folder: ModelFolder, out: Path, quantization: str) -> None:
        writers.write_ctranslate2(folder, out, quantization)
        arrays = ct2.read_model_bin(out / "model.bin")
        weight = np.array(arrays["decoder/embeddings/weight"])
        arrays["decoder/embeddings/weight"] = np.roll(weight, 1, axis=0)  # every token means another
        (out / "model.bin").write_bytes(ct2.model_bin(arrays))

    exporter = replace(writers.EXPORTERS["ct2"], write=spoiled)
    monkeypatch.setitem(writers.EXPORTERS, "ct2", exporter)
    monkeypatch.chdir(tmp_path)
    code = main(
        ["export", str(tiny.path), "--to", "ct2", "--out", "out", "--data", str(noises / "dev"), "--language", "sv"]
    )
    assert code == VerificationError("").exit_code == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["ct2", "transformers"])
def test_an_export_may_be_decoded_as_its_source(to: str, tiny: ModelFolder, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny.path, source)
    Mark(("full", "fit")).write(source)
    report = export(ModelFolder("source", source), to, tmp_path / "out", reference=None)
    assert mark_of(str(report.folder)).contexts == ("full", "fit")


def test_an_export_of_an_export_says_so_too(tiny: ModelFolder, tmp_path: Path) -> None:
    for number, to in enumerate(("ct2", "ct2", "transformers")):
        if number:
            Mark(("full", "fit")).write(tmp_path / "out0")
        source = find_model(str(tmp_path / f"out{number - 1}")) if number else tiny
        export(source, to, tmp_path / f"out{number}", reference=None, quantization="float32")
    assert mark_of(str(tmp_path / "out2")).contexts == ("full", "fit")


def test_the_working_folder_is_refused(tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for out in (".", "../empty"):
        with pytest.raises(InputError, match="folder you are in"):
            export(tiny, "ct2", Path(out), reference=None)


def test_languages_without_spaces_are_verified_by_characters(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip of theirs is one word: WER would take a character for all of it."""
    monkeypatch.setattr(Reference, "compare", lambda *_: found)
    found = Comparison(
        clips=50,
        words=50,
        characters=700,
        texts_equal=49,
        wer_source=10.0,
        wer_export=12.0,
        cer_source=8.0,
        cer_export=8.14,
        texts_apart=1.5,
        metric="cer",
        first_difference=None,
        tokens_equal=49,
        audio_seconds=50.0,
        source_seconds=5.0,
        export_seconds=2.0,
    )
    reference = Reference(Perfect, [Segment("a", noises / "dev" / "0.wav", 0.0, 1.0, "今天天气很好", "zh")])
    report = export(tiny, "ct2", tmp_path / "out", reference=reference)
    assert report.as_json()["cer_apart"] == pytest.approx(0.14)
    assert "0.14 CER from the source (8.00 there, 8.14 here" in found.told(report.tolerance)
    found = replace(found, cer_export=9.0)
    with pytest.raises(VerificationError, match=r"1\.00 CER .* on 50 clips with 700 characters"):
        export(tiny, "ct2", tmp_path / "other", reference=reference)


class Perfect:
    """Writes what was said."""

    name = "perfect 1.0"

    def hear(self, clip: Clip) -> Heard:
        assert len(clip.samples) == 16_000
        return Heard("今天天气很好", ())


def test_their_clips_are_compared_so(tiny: ModelFolder, noises: Path) -> None:
    clips = [Segment(str(n), noises / "dev" / f"{n}.wav", 0.0, 1.0, "今天天气很好", "zh") for n in range(2)]
    opened: list[Runtime] = []

    def source() -> Runtime:
        opened.append(Transformers(tiny))
        return opened[0]

    reference = Reference(source, clips)
    found = reference.compare(Perfect(), Reporter())
    assert (found.metric, found.words, found.characters) == ("cer", 2, 12)
    assert (found.audio_seconds, found.tokens_equal) == (2.0, 0)
    assert (found.cer_export, found.wer_export) == (0.0, 0.0)
    assert found.apart == found.cer_source
    again = reference.compare(Perfect(), Reporter())
    assert replace(again, export_seconds=found.export_seconds) == found
    assert len(opened) == 1
    enough = Reference(Perfect, [replace(clips[0], text="今" * 100)] * 30)
    assert enough.compare(Perfect(), Reporter()).clips == 20


def test_not_verified_is_said(tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "export",
        str(tiny.path),
        "--to",
        "transformers",
        "--out",
        str(tmp_path / "out"),
        "--no-verify",
        "--json",
    ]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["verified"] is False


def test_no_clips_no_reference() -> None:
    with pytest.raises(InputError, match="--data"):
        Reference(Perfect, [])


def test_as_many_clips_as_500_words_need(mboshi: Path, base: ModelFolder, reader: object) -> None:
    found = read_data(str(mboshi / "dev"), base.vocabulary, base.generation, reader, language="ln")  # type: ignore[arg-type]
    compared = Reference(Silent, found.segments).compare(Silent(), Reporter())
    words = [len(segment.text.split()) for segment in found.segments[: compared.clips]]
    assert sum(words[:-1]) < 500 <= sum(words) == compared.words


class Silent:
    """Writes nothing."""

    name = "silent 1.0"

    def hear(self, clip: Clip) -> Heard:
        return Heard("", ())


class Says(Silent):
    """The same of every clip."""

    def __init__(self, text: str) -> None:
        self.text = text

    def hear(self, clip: Clip) -> Heard:
        return Heard(self.text, (1,))


@pytest.mark.parametrize(
    ("there", "here", "texts_apart", "passes"),
    [
        ("ett två tre fyra fem", "", 100.0, False),
        ("ett två tre fyra fem", "unrelated sounds", 90.0, False),
        ("ett två tre fyra fem", "ett tva tre fyra fen", 10.0, True),
        ("", "", 0.0, True),
        ("", "ett " * 100, 100.0, False),
        ("one two three four fem", "one two three", 40.0, False),  # its errors alone tell
    ],
)
def test_of_a_source_without_a_right_word_the_texts_decide(
    there: str, here: str, texts_apart: float, passes: bool, noises: Path
) -> None:
    """Nothing at all has the error rate of nothing right."""
    clips = [Segment(str(n), noises / "dev" / f"{n}.wav", 0.0, 1.0, "one two three four five", "en") for n in range(3)]
    found = Reference(lambda: Says(there), clips).compare(Says(here), Reporter())
    assert found.texts_apart == pytest.approx(texts_apart, abs=10)
    assert found.passes(0.5) is passes
    told = found.told(0.5)
    assert ("so many errors tell little" in told) is (not found.telling)


def test_an_export_that_writes_nothing_is_none(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [Segment(str(n), noises / "dev" / f"{n}.wav", 0.0, 1.0, "one two three", "en") for n in range(3)]
    monkeypatch.setitem(RUNTIMES, "ct2", Opened(Silent()))
    reference = Reference(lambda: Says("ett två tre"), clips)
    with pytest.raises(
        VerificationError, match=r"0\.00 WER from the source (.|\n)*100 % from the source's(.|\n)*--data"
    ):
        export(tiny, "ct2", tmp_path / "out", reference=reference)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(RUNTIMES, "ct2", Opened(Says("ett två tre")))
    report = export(tiny, "ct2", tmp_path / "out", reference=reference)
    assert report.as_json()["texts_apart"] == 0


def test_a_run_with_a_small_dev_is_verified_on_rows_of_train_too(
    tiny: ModelFolder, noises: Path, tmp_path: Path
) -> None:
    """The tolerances are for 500 words: of a few, two words that were a toss-up are more than half a point."""
    data = tmp_path / "data"
    shutil.copytree(noises, data)
    run = finished_run(tmp_path / "my-run", tiny.path, data)
    rows = {name: len((data / name / "metadata.jsonl").read_text().splitlines()) for name in ("train", "dev")}
    found = reference_of(str(run.folder), tiny).compare(Transformers(tiny), Reporter())
    assert (found.clips, found.clips_of_train) == (sum(rows.values()), rows["train"])
    shutil.rmtree(data / "train")
    found = reference_of(str(run.folder), tiny).compare(Transformers(tiny), Reporter())
    assert (found.clips, found.clips_of_train) == (rows["dev"], 0)


def test_its_readme_tells_whose_it_is(tiny: ModelFolder, tmp_path: Path, noises: Path) -> None:
    run = finished_run(tmp_path / "my-run", tiny.path, noises)
    export_model(str(run.folder), "ct2", tmp_path / "out", quantization="float32", verify=False)
    lines = (tmp_path / "out" / "README.md").read_text().splitlines()
    assert lines[0] == "# my-run"
    assert "- Base model: openai/whisper-base (https://huggingface.co/openai/whisper-base)" in lines
    assert "- Licence of the base model: apache-2.0" in lines
    assert "- Format: ct2, float32" in lines
    assert f"- Written by: Whispertune {version('whispertune')}" in lines
    assert "- Verified: no: not verified (--no-verify)" in lines
    assert "faster_whisper" in lines[-1]


def test_of_a_folder_it_says_what_is_not_known(tiny: ModelFolder, tmp_path: Path, noises: Path) -> None:
    report = export_model(str(tiny.path), "transformers", tmp_path / "out", data=str(noises / "dev"), language="sv")
    text = (tmp_path / "out" / "README.md").read_text()
    assert f"- Base model: {tiny.path.name} (its origin is not known here)" in text
    assert "- Licence of the base model: not known" in text
    assert report.comparison is not None
    assert f"- Verified: in {report.runtime}: {report.comparison.told(report.tolerance)}" in text
    assert str(tiny.path.parent) not in text


SWEDISH = Spoken("sv", "translate", multilingual=True, suppress_blank=False)


def test_a_readme_for_each_format() -> None:
    for to, exporter in writers.EXPORTERS.items():
        for quantization in exporter.quantizations:
            report = ExportReport(Path("out"), to, quantization, 0, exporter.runtime, 0.5, None)
            text = readme(report, "bundled:whisper-base", origin_of("bundled:whisper-base"), SWEDISH)
            loaded = text.splitlines()[-1]
            assert loaded.startswith("- Loaded by: ")
            assert "None" not in loaded
            assert "{" not in loaded


def test_whisper_cpp_is_told_language_and_what_to_leave_out(tmp_path: Path) -> None:
    """It takes speech for English, and writes all that other runtimes leave out."""
    small_model(tmp_path / "sv", Generation(begin_suppress=(50257,), language="sv", task="translate"))
    export_model(str(tmp_path / "sv"), "ggml", tmp_path / "out", quantization="q5_0", verify=False)
    told = (tmp_path / "out" / "README.md").read_text()
    assert "whisper-cli -m ggml-model-q5_0.bin -l sv -tr -nt " in told
    assert '-nfa --suppress-regex "$(cat suppress_regex.txt)" -f speech.wav`' in told
    assert "cannot be told `suppress_blank=False`" in told
    card = remark(Exported("ggml", "q5_0", "ggml", 1, "", None), SWEDISH)
    assert card is not None
    command = card.split("`")[1]
    assert command in told
    assert command.startswith("whisper-cli ")


class Opened:
    """A runtime for a format, whatever was written."""

    package = RUNTIMES["ct2"].package

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def __call__(self, folder: Path, source: ModelFolder) -> Runtime:
        return self.runtime
