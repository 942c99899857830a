"""Export, verified: the same clips through the source and through the export in its real runtime.

report = export(find_model("my-run"), "ct2", Path("deployed"), clips=segments)
report.comparison.apart      # points of WER or CER; past the tolerance VerificationError is raised, nothing written
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.engines import Engine, best_device, live_engine, load_live, suppressed_tokens
from whispertune.errors import AudioError, InputError, VerificationError
from whispertune.evaluation.evaluate import decode_segments
from whispertune.evaluation.inputs import Source, clip
from whispertune.model.export import EXPORTERS, check_export
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder, copy_mark
from whispertune.reporting import Reporter
from whispertune.score.normalize import leads_with_cer
from whispertune.score.wer import score
from whispertune.windows.tokens import Vocabulary

TOLERANCES = {"float32": 0.5, "float16": 0.5, "int8": 1.0, "int8_float16": 1.0}  # points from the source
ENOUGH_WORDS = 500
CHARACTERS_A_WORD = 4  # about, of languages written without spaces

Decode = Callable[[Segment, AudioReader], str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same clips through the source and through the export; rates in per cent."""

    clips: int
    words: int  # of the references
    characters: int  # of them
    texts_equal: int  # clips with the very same text
    wer_source: float
    wer_export: float
    cer_source: float
    cer_export: float
    metric: str  # what decides: "wer", or "cer" for languages written without spaces
    first_difference: str | None

    @property
    def wer_apart(self) -> float:
        """Points of WER between the two."""
        return abs(self.wer_source - self.wer_export)

    @property
    def cer_apart(self) -> float:
        """Points of CER between the two."""
        return abs(self.cer_source - self.cer_export)

    @property
    def apart(self) -> float:
        """Points between the two, of what decides."""
        return self.cer_apart if self.metric == "cer" else self.wer_apart

    def told(self, allowed: float) -> str:
        """How far apart they are, in words."""
        source, export, amount = self.wer_source, self.wer_export, f"{self.words} words"
        if self.metric == "cer":
            source, export, amount = self.cer_source, self.cer_export, f"{self.characters} characters"
        return (
            f"{self.apart:.2f} {self.metric.upper()} from the source ({source:.2f} there, {export:.2f} here, "
            f"at most {allowed} allowed) on {self.clips} clips with {amount}"
        )


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how it compares with its source."""

    folder: Path
    format: str
    quantization: str
    size_bytes: int
    runtime: str
    tolerance: float  # points of what decides
    comparison: Comparison | None  # None: not verified

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        content = asdict(self) | {"folder": str(self.folder), "verified": self.comparison is not None}
        compared = content.pop("comparison") or {}
        found = self.comparison
        apart = {"wer_apart": found.wer_apart, "cer_apart": found.cer_apart} if found else {}
        return content | compared | apart


def enough_clips(segments: Sequence[Segment]) -> list[Segment]:
    """The first segments that have 500 reference words together, or as much text without spaces; all of fewer."""
    chosen: list[Segment] = []
    words = 0.0
    for segment in segments:
        if words >= ENOUGH_WORDS:
            break
        chosen.append(segment)
        unspaced = leads_with_cer(segment.language)
        words += len(segment.text) / CHARACTERS_A_WORD if unspaced else len(segment.text.split())
    return chosen


def export(
    folder: ModelFolder,
    to: str,
    out: Path,
    *,
    quantization: str | None = None,
    clips: Sequence[Segment] | None,
    reporter: Reporter | None = None,
) -> ExportReport:
    """Write an export and hold it against its source; `clips=None` leaves the check out, and says so.

    Raises:
        InputError: no such format, a folder in use, or no clips to compare on.
        VerificationError: the runtime's errors are too far from the source's; nothing is written.
    """
    if clips is not None and not clips:
        raise InputError("no clips to verify the export with", fix="give some with --data, or --no-verify")
    chosen = check_export(to, out, quantization)
    exporter = EXPORTERS[to]
    target = out.resolve()
    partial = target.with_name(f".{target.name}.partial")  # an export is verified or it did not happen
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        exporter.write(folder, partial, chosen)
        copy_mark(folder.path, partial)
        compared = None
        if clips is not None:
            compared = compare(folder, RUNTIMES[to](partial), clips, reporter or Reporter())
        size = sum(file.stat().st_size for file in partial.iterdir())
        report = ExportReport(out, to, chosen, size, exporter.runtime, TOLERANCES[chosen], compared)
        _check(report)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if target.exists():
        target.rmdir()  # empty
    partial.rename(target)
    return report


def _check(report: ExportReport) -> None:
    found = report.comparison
    if found is not None and found.apart > report.tolerance:
        raise VerificationError(
            f"{report.runtime} is {found.told(report.tolerance)}",
            where=str(report.folder),
            fix=f"nothing was written; try a finer --quantization. First difference: {found.first_difference}",
        )


def compare(folder: ModelFolder, decode: Decode, clips: Sequence[Segment], tell: Reporter) -> Comparison:
    """Decode the clips with the source, by transformers, and with `decode`; count how far they are apart."""
    with AudioReader() as reader:
        source, _ = decode_segments(
            _engine(folder),
            clips,
            Source(reader),
            progress=lambda done, total: tell.evaluating("source by transformers", done, total),
        )
        texts = []
        for done, each in enumerate(source, start=1):
            texts.append(decode(each.segment, reader))
            tell.evaluating("export by its runtime", done, len(source))
    if not source:
        raise InputError("none of the clips to verify with decodes", fix="give others with --data")
    ids = [each.segment.id for each in source]
    references = [each.segment.text for each in source]
    language = source[0].segment.language
    theirs, _ = score(ids, references, [each.text for each in source], language)
    ours, utterances = score(ids, references, texts, language)
    pairs = [(each.text.strip(), text.strip()) for each, text in zip(source, texts, strict=True)]
    return Comparison(
        clips=len(pairs),
        words=sum(utterance.words.reference_length for utterance in utterances),
        characters=sum(utterance.characters.reference_length for utterance in utterances),
        texts_equal=sum(a == b for a, b in pairs),
        wer_source=theirs.wer,
        wer_export=ours.wer,
        cer_source=theirs.cer,
        cer_export=ours.cer,
        metric="cer" if leads_with_cer(language) else "wer",
        first_difference=next((f"{a!r} became {b!r}" for a, b in pairs if a != b), None),
    )


def _engine(folder: ModelFolder) -> Engine:
    live = load_live(folder)
    live.model.to(best_device())
    return live_engine("transformers", live)


def _open_faster_whisper(out: Path) -> Decode:
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(out), device="auto")
    suppress = suppressed_tokens(Vocabulary.from_file(out / "tokenizer.json"), Generation.from_folder(out))

    def decode(segment: Segment, reader: AudioReader) -> str:
        # faster-whisper fills what is missing of 30 s with zeros in the features, which no model was trained on;
        # silence in the samples is what the source is given too.
        samples = clip(segment, reader)
        found, _ = whisper.transcribe(
            samples,
            language=segment.language,
            task=segment.task,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
            suppress_tokens=suppress,
        )
        return "".join(piece.text for piece in found)

    return decode


def _open_transformers(out: Path) -> Decode:
    engine = _engine(ModelFolder(str(out), out))

    def decode(segment: Segment, reader: AudioReader) -> str:
        found, problems = decode_segments(engine, [segment], Source(reader))
        if problems:
            raise AudioError(problems[0].detail, where=problems[0].where)
        return found[0].text

    return decode


RUNTIMES: dict[str, Callable[[Path], Decode]] = {
    "ct2": _open_faster_whisper,
    "transformers": _open_transformers,
}
