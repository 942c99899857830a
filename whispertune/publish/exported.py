"""The exports that are published together, and how each was verified.

wanted = parse_formats("transformers,ct2:int8_float16,ggml:q5_0")   # (Wanted("transformers", "float32", ""), ...)
exported = Exported.of(wanted[0], report)
exported.verified.told                                              # "0.12 WER from the source (...)"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from whispertune.errors import InputError
from whispertune.model.export import EXPORTERS, SHORT_NAMES
from whispertune.publish.export import ExportReport

ROOT_FORMAT: Final = "transformers"  # what a hub's page and libraries look for beside the card


@dataclass(frozen=True, slots=True)
class Wanted:
    """An export that is asked for."""

    format: str
    quantization: str
    folder: str  # in the repository; "" is its root

    @property
    def key(self) -> str:
        return f"{self.format}-{self.quantization}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of holding an export against its source."""

    told: str  # how far apart they are, in words
    clips: int
    tokens_equal: int  # clips
    audio_seconds: float
    export_seconds: float


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that was made."""

    format: str
    quantization: str
    folder: str
    size_bytes: int
    runtime: str
    verified: Verified | None  # None where that was left out

    @classmethod
    def of(cls, wanted: Wanted, report: ExportReport) -> Exported:
        found = report.comparison
        verified = None
        if found is not None:
            told = found.told(report.tolerance)
            verified = Verified(told, found.clips, found.tokens_equal, found.audio_seconds, found.export_seconds)
        return cls(wanted.format, wanted.quantization, wanted.folder, report.size_bytes, report.runtime, verified)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Exported:
        """What `as_json` gave."""
        verified = content["verified"]
        return cls(**{**content, "verified": Verified(**verified) if verified else None})


def parse_formats(written: str) -> tuple[Wanted, ...]:
    """`format[:quantization]`, separated by commas; of two of one format each folder is called by both.

    Raises:
        InputError: no such format or quantization, or one of them twice.
    """
    pairs = [_parsed(each.strip()) for each in written.split(",")]
    often = Counter(name for name, _ in pairs)
    wanted = []
    for name, quantization in pairs:
        folder = "" if name == ROOT_FORMAT else name
        wanted.append(Wanted(name, quantization, f"{name}-{quantization}" if often[name] > 1 else folder))
    if len(set(pairs)) < len(pairs):
        raise InputError("a format stands there twice", where="--formats", fix="give each once")
    return tuple(wanted)


def _parsed(written: str) -> tuple[str, str]:
    name, separator, quantization = written.partition(":")
    if name not in EXPORTERS:
        raise InputError(
            f"unknown format {name!r}",
            where="--formats",
            fix=f"some of {', '.join(EXPORTERS)}, separated by commas, as in transformers,ct2:int8_float16",
        )
    known = EXPORTERS[name].quantizations
    quantization = SHORT_NAMES.get(quantization, quantization)
    if separator and quantization not in known:
        fix = f"one of {', '.join(known)}"
        raise InputError(f"{name} is not written in {quantization!r}", where="--formats", fix=fix)
    return name, quantization or known[0]
