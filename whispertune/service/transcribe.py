"""Recordings to captions, a model by name.

written = transcribe_files([Path("talk.mp3")], "my-run", Options(language="sv"), ("vtt", "txt"))
written[0].files
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from whispertune.data.audio import AudioReader
from whispertune.data.captions import WRITERS, Cue, write_captions
from whispertune.decode.cues import MAX_LINES, wrap
from whispertune.decode.transcribe import Options, Transcript, open_transcriber
from whispertune.errors import InputError
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


def transcribe_files(
    recordings: Sequence[Path],
    model: str,
    options: Options,
    formats: Sequence[str] = ("vtt",),
    *,
    out: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> list[Transcribed]:
    """Transcribe recordings and write them in every format asked for.

    Raises:
        InputError: unknown format, or a file that would be overwritten; checked before anything is decoded.
    """
    formats = [name.strip() for name in formats]
    for name in formats:
        if name not in WRITERS:
            raise InputError(f"unknown format {name!r}", where="--format", fix=f"one of {', '.join(WRITERS)}")
    targets = [[(out or path.parent) / f"{path.stem}.{name}" for name in formats] for path in recordings]
    everything = [target for row in targets for target in row]
    for target in everything:
        if everything.count(target) > 1:
            raise InputError("two recordings would be written to the same file", where=str(target), fix="rename one")
        if target.exists() and not overwrite:
            raise InputError("the file is there already", where=str(target), fix="--overwrite, or --out elsewhere")
    tell = reporter or Reporter()
    results = []
    transcribe = open_transcriber(model, options, tell.say)
    with AudioReader() as reader:
        for path, files in zip(recordings, targets, strict=True):
            samples = reader.read(path)
            transcript = transcribe(samples, path, _watch(tell, path.name))
            for file in files:
                file.parent.mkdir(parents=True, exist_ok=True)
                cues = _on_lines(transcript.cues, options) if file.suffix in DISPLAYED else transcript.cues
                write_captions(file, cues, language=transcript.language)
            results.append(Transcribed(transcript, tuple(files)))
    return results


def _on_lines(cues: Sequence[Cue], options: Options) -> list[Cue]:
    """Sentences on balanced lines of at most the characters asked for; other cues stay as the model cut them."""
    if options.cues != "sentence":
        return list(cues)
    return [replace(cue, text=wrap(cue.text, options.max_line_characters, MAX_LINES)) for cue in cues]


def _watch(tell: Reporter, name: str) -> Callable[[float, float], None]:
    return lambda done, total: tell.evaluating(f"{name}, seconds", round(done), round(total))
