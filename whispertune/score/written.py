"""The language a row's text is written in, and what it means for a set: its normalizers, and the rate that leads.

    text_language(segment)       # "en" where speech is translated, else what is spoken
    normalizers_of(segments)     # one a row, each that of its text's language
    characters_lead(segments)    # whether most rows are written without spaces, so that CER is the figure to read

Whisper translates into English alone. Each row counts once, whatever its length; where as many are written with
spaces as without, WER leads. None of this depends on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from whispertune.data.segments import Segment
from whispertune.score.normalize import Normalizer, leads_with_cer, normalizer_for

TRANSLATED_INTO = "en"


def text_language(segment: Segment) -> str:
    """Of a row's text, which is not what is spoken where it is translated."""
    return TRANSLATED_INTO if segment.task == "translate" else segment.language


def normalizers_of(segments: Iterable[Segment], named: Normalizer | None = None) -> tuple[Normalizer, ...]:
    """Of each row the normalizer of its text's language, or for all of them the one that was named."""
    return tuple(named or normalizer_for(text_language(segment)) for segment in segments)


def characters_lead(segments: Sequence[Segment]) -> bool:
    """Whether the character error rate is the figure to read of these rows."""
    return 2 * sum(leads_with_cer(text_language(segment)) for segment in segments) > len(segments)
