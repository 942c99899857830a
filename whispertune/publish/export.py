"""Export, verified: the same clips through the source and through the export in its real runtime.

report = export(find_model("my-run"), "ct2", Path("deployed"), clips=segments)
report.comparison.apart      # points of WER or CER; past the tolerance VerificationError is raised, nothing written
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from whispertune.data.segments import Segment
from whispertune.errors import InputError, VerificationError
from whispertune.model.export import EXPORTERS, check_export
from whispertune.model.load import ModelFolder, copy_mark
from whispertune.publish.comparison import Comparison, compare
from whispertune.publish.runtimes import RUNTIMES
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.reporting import Reporter

# Points of what decides that an export may be from its source, by what its weights are stored in.
TOLERANCES: Final = {
    "float32": 0.5,
    "float16": 0.5,
    "bfloat16": 0.5,
    "int8": 1.0,
    "int8_float16": 1.0,
    "q8_0": 1.0,
    "q5_0": 3.0,
}


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
        found = self.comparison
        content = asdict(self) | {"folder": str(self.folder), "verified": found is not None}
        compared = content.pop("comparison") or {}
        apart = {"wer_apart": found.wer_apart, "cer_apart": found.cer_apart} if found else {}
        return content | compared | apart


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
            runtime = RUNTIMES[to](partial, folder)
            compared = compare(Transformers(folder), runtime, clips, reporter or Reporter())
        size = sum(file.stat().st_size for file in partial.iterdir())
        report = ExportReport(
            out, to, chosen, size, runtime.name if clips else exporter.runtime, TOLERANCES[chosen], compared
        )
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
