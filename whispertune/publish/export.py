"""Export, verified: the same clips through the source and through the export in its real runtime.

report = export(find_model("my-run"), "ct2", Path("deployed"), reference=reference)
report.comparison.apart      # points of WER or CER; past the tolerance VerificationError is raised, nothing written
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from whispertune.errors import VerificationError
from whispertune.files import writing
from whispertune.model.export import EXPORTERS, check_export
from whispertune.model.formats.adapter import kept_base
from whispertune.model.load import ModelFolder, find_model
from whispertune.publish.comparison import Comparison, Reference
from whispertune.publish.origin import Origin, carry
from whispertune.publish.runtimes import RUNTIMES
from whispertune.reporting import Reporter

README: Final = "README.md"


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
        """The report as plain values; `clips_unreadable` is there where clips could not be read."""
        found = self.comparison
        content = asdict(self) | {"folder": str(self.folder), "verified": found is not None}
        compared = content.pop("comparison") or {}
        if not compared.get("clips_unreadable"):
            compared.pop("clips_unreadable", None)
        apart = {"wer_apart": found.wer_apart, "cer_apart": found.cer_apart} if found else {}
        return content | compared | apart


def check_possible(source: ModelFolder, to: str, *, verify: bool) -> None:
    """See that a model has what a format is made of, and that its runtime is installed where it is to be verified.

    Raises:
        InputError: no adapter was kept, the model that it belongs to is gone, or the runtime is not installed.
    """
    if to == "adapter":
        base = kept_base(source.path)
        if verify:
            find_model(base)
    if verify:
        RUNTIMES[to].package.check()


def export(
    folder: ModelFolder,
    to: str,
    out: Path,
    *,
    quantization: str | None = None,
    reference: Reference | None,
    base: Origin | None = None,
    readme: Callable[[ExportReport], str] | None = None,
    reporter: Reporter | None = None,
) -> ExportReport:
    """Write an export and hold it against its source, `reference`; None leaves the check out, and says so.

    Args:
        base: the model that this one was tuned from, which the export says in its mark.
        readme: what its README.md tells; None in a publication, whose card tells it.

    Raises:
        InputError: no such format, a folder in use, or one that cannot be written.
        VerificationError: the runtime's errors or texts are too far from the source's; nothing is written.
    """
    chosen = check_export(to, out, quantization)
    exporter = EXPORTERS[to]
    target = out.resolve()
    partial = target.with_name(f".{target.name}.partial")  # an export is verified or it did not happen
    try:
        with writing(out):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            exporter.write(folder, partial, chosen)
            carry(folder.path, partial, base)
        name, compared = exporter.runtime, None
        if reference:
            runtime = RUNTIMES[to](partial, folder)
            name, compared = runtime.name, reference.compare(runtime, reporter or Reporter())
        size = sum(file.stat().st_size for file in partial.iterdir())
        report = ExportReport(out, to, chosen, size, name, exporter.tolerances[chosen], compared)
        _check(report)
        with writing(out):
            _finish(partial, target, readme(report) if readme else None)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return report


def _finish(partial: Path, target: Path, text: str | None) -> None:
    """Put what was verified, with its README.md, in its place."""
    if text:
        (partial / README).write_text(text, encoding="utf-8")
    if target.exists():
        target.rmdir()  # empty
    partial.rename(target)


def _check(report: ExportReport) -> None:
    found = report.comparison
    if found is None or found.passes(report.tolerance):
        return
    other = "a finer --quantization" if found.telling else "--data with clips that the model knows"
    raise VerificationError(
        f"{report.runtime} is {found.told(report.tolerance)}",
        where=str(report.folder),
        fix=f"nothing was written; try {other}. First difference: {found.first_difference}",
    )
