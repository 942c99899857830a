"""The exports of a publication that are kept for the next one, as long as they are what would be made again.

kept = KeptExports(Path("my-run/publish"), find_model("my-run"))
kept.get(wanted, verify=True)        # None: to be made, in kept.folder(wanted)
kept.add(wanted, report)
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from whispertune.files import replace_text, sha256, writing
from whispertune.model.load import ModelFolder
from whispertune.publish.export import ExportReport
from whispertune.publish.exported import Exported, Wanted
from whispertune.publish.runtimes import RUNTIMES

MEMORY, FOLDER = "exports.json", "exports"  # in a publication's folder
PACKAGE: Final = "whispertune"


class KeptExports:
    """What was exported of one model by this version of Whispertune; what is of others is removed."""

    def __init__(self, place: Path, source: ModelFolder) -> None:
        self._memory, self._exports = place / MEMORY, place / FOLDER
        made_of = {"version": version(PACKAGE), "source": _hashes(source.path)}
        known = _read(self._memory)
        if any(known.get(name) != value for name, value in made_of.items()):
            shutil.rmtree(self._exports, ignore_errors=True)
            known = {**made_of, "made": {}}
        self._known: dict[str, Any] = known

    def folder(self, wanted: Wanted) -> Path:
        """Where an export lies."""
        return self._exports / wanted.key

    def get(self, wanted: Wanted, *, verify: bool) -> Exported | None:
        """An export whose files are those that were written; None, and an empty place, where there is none.

        With `verify` it was verified too, in the version of the runtime that is installed.
        """
        entry = self._known["made"].get(wanted.key)
        if entry and entry["files"] == _hashes(self.folder(wanted)):
            found = Exported.read(entry["export"] | {"folder": wanted.folder})
            if not verify or (found.verified and found.runtime == RUNTIMES[wanted.format].package.name):
                return found
        shutil.rmtree(self.folder(wanted), ignore_errors=True)
        return None

    def add(self, wanted: Wanted, report: ExportReport) -> Exported:
        """Remember what was made in `folder`."""
        found = Exported.of(wanted, report)
        self._known["made"][wanted.key] = {"export": found.as_json(), "files": _hashes(self.folder(wanted))}
        with writing(self._memory):
            replace_text(self._memory, json.dumps(self._known, indent=2, ensure_ascii=False) + "\n")
        return found


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file, by its name in the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _read(memory: Path) -> dict[str, Any]:
    """What is remembered; nothing where that cannot be read."""
    try:
        return dict(json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
