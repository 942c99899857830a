"""Recordings to captions, a model by name.

done = transcribe_files([Path("talk.mp3")], "my-run", Options(language="sv"), ("vtt", "txt"))
done.written[0].files
done.failed                  # an error for each recording that does not decode
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from whispertune.data.audio import AudioReader
from whispertune.data.captions import WRITERS, Cue, write_captions
from whispertune.decode.cues import MAX_LINES, wrap
from whispertune.decode.transcribe import Options, Transcript, open_transcriber
from whispertune.errors import AudioError, InputError
from whispertune.files import writing
from whispertune.reporting import Reporter

DISPLAYED: Final = (".vtt", ".srt")  # formats whose lines are shown as they stand


@dataclass(frozen=True, slots=True)
class Transcribed:
    """A transcript and the files it was written to."""

    transcript: Transcript
    files: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """What `transcribe --json` prints of one recording."""
        return {
            "recording": str(self.transcript.recording),
            "language": self.transcript.language,
            "cues": len(self.transcript.cues),
            "audio_seconds": round(self.transcript.audio_seconds, 2),
            "seconds": round(self.transcript.seconds, 2),
            "files": [str(path) for path in self.files],
        }


@dataclass(frozen=True, slots=True)
class Transcriptions:
    """What became of several recordings."""

    written: tuple[Transcribed, ...]
    failed: tuple[AudioError, ...]

    def as_json(self) -> dict[str, Any]:
        """What `transcribe --json` prints."""
        return {
            "transcripts": [each.as_json() for each in self.written],
            "failed": [{"recording": each.where, "reason": each.what} for each in self.failed],
        }


def transcribe_files(
    recordings: Sequence[Path],
    model: str,
    options: Options,
    formats: Sequence[str] = ("vtt",),
    *,
    out: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Transcriptions:
    """Transcribe recordings and write them in every format asked for; one that does not decode stops no other.

    Raises:
        InputError: unknown format, no such file, or one that would be overwritten; before anything is decoded.
    """
    targets = _targets(recordings, [name.strip() for name in formats], out, overwrite=overwrite)
    tell = reporter or Reporter()
    written: list[Transcribed] = []
    failed: list[AudioError] = []
    transcribe = open_transcriber(model, options, tell.say)
    with AudioReader() as reader:
        for path, files in zip(recordings, targets, strict=True):
            try:
                samples = reader.read(path)
            except AudioError as error:
                failed.append(error)
                continue
            transcript = transcribe(samples, path, _watch(tell, path.name))
            for file in files:
                cues = _on_lines(transcript.cues, options) if file.suffix in DISPLAYED else transcript.cues
                with writing(file):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_captions(file, cues, language=transcript.language)
            written.append(Transcribed(transcript, files))
    return Transcriptions(tuple(written), tuple(failed))


def _targets(
    recordings: Sequence[Path], formats: Sequence[str], out: Path | None, *, overwrite: bool
) -> list[tuple[Path, ...]]:
    """The files of each recording, which nothing stands in the way of."""
    for name in formats:
        if name not in WRITERS:
            raise InputError(f"unknown format {name!r}", where="--format", fix=f"one of {', '.join(WRITERS)}")
    targets = [tuple((out or path.parent) / f"{path.stem}.{name}" for name in formats) for path in recordings]
    everything = [target for row in targets for target in row]
    for target, count in Counter(everything).items():
        if count > 1:
            raise InputError("two recordings would be written to the same file", where=str(target), fix="rename one")
        if target.exists() and not overwrite:
            raise InputError("the file is there already", where=str(target), fix="--overwrite, or --out elsewhere")
    for path in recordings:
        if not path.is_file():
            raise InputError("no such file", where=str(path), fix="give audio or video files")
    return targets


def _on_lines(cues: Sequence[Cue], options: Options) -> list[Cue]:
    """Sentences on balanced lines of at most the characters asked for; other cues stay as the model cut them."""
    if options.cues != "sentence":
        return list(cues)
    return [replace(cue, text=wrap(cue.text, options.max_line_characters, MAX_LINES)) for cue in cues]


def _watch(tell: Reporter, name: str) -> Callable[[float, float], None]:
    return lambda done, total: tell.evaluating(f"{name}, seconds", round(done), round(total))
