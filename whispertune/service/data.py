"""Data by name, read as a command asks for it.

found = read_data("data/test", vocabulary, generation, reader, language="sv")
"""

from __future__ import annotations

from whispertune.data.audio import AudioReader
from whispertune.data.problems import summary
from whispertune.data.segments import SourceData
from whispertune.errors import DataError
from whispertune.model.generation import Generation
from whispertune.recipe import SourceTable
from whispertune.reporting import Reporter
from whispertune.train.feeding.splits import read_sources
from whispertune.windows.tokens import Vocabulary


def read_data(
    data: str,
    vocabulary: Vocabulary,
    generation: Generation,
    reader: AudioReader,
    *,
    language: str | None = None,
    task: str | None = None,
    limit_rows: int | None = None,
    scored: bool = False,
    whole: bool = False,
) -> SourceData:
    """Segments of a path given on the command line; language and task fall back to the model's own."""
    table = SourceTable(source=data, limit_rows=limit_rows)
    fallback = language or generation.language or (None if vocabulary.multilingual else "en")
    chosen = task or generation.task or "transcribe"
    return read_sources(
        [table], vocabulary, reader, language=fallback, task=chosen, origin="data", scored=scored, whole=whole
    )


def read_usable(
    data: str,
    vocabulary: Vocabulary,
    generation: Generation,
    reader: AudioReader,
    tell: Reporter,
    *,
    language: str | None = None,
    task: str | None = None,
    limit_rows: int | None = None,
    whole: bool = False,
) -> SourceData:
    """`read_data` of rows that are scored, which tells of those that cannot be used.

    Raises:
        DataError: none of them can.
    """
    found = read_data(
        data,
        vocabulary,
        generation,
        reader,
        language=language,
        task=task,
        limit_rows=limit_rows,
        scored=True,
        whole=whole,
    )
    if found.problems:
        tell.say(summary(found, data))
    if not found.segments:
        raise DataError("no usable segments", where=data)
    return found
