"""What of a publication can be checked without the hub: names of repositories, and the head of a card.

check_repository("me/whisper-small-sv")
check_head(text, where="resolved.toml")          # for a dry run; the hub itself is asked before a push
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from whispertune.errors import InputError

# https://huggingface.co/docs/hub/repositories-licenses, as of August 2026 (huggingface/hub-docs at 242f4a1).
LICENCES: Final = (
    *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0"),
    *("bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause"),
    *("bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
    *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0"),
    *("etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1"),
    *("lgpl-3.0", "isc", "h-research", "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0"),
    *("odc-by", "odbl", "openmdw-1.0", "openmdw-1.1", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa"),
    *("unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license", "fair-noncommercial-research-license"),
    *("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other"),
)
MEND: Final = "give --licence as the hub writes it, or other; all else comes from resolved.toml in the run"
_LANGUAGE: Final = re.compile("[a-z]{2,3}")  # ISO 639-1, -2 and -3


def check_repository(name: str) -> None:
    """See that a repository may be called so.

    Raises:
        InputError: the hub has no such names.
    """
    if reason := _no_name(name):
        fix = "write it as user/name: letters, digits and - _ . of which none stands at an end, and no -- or .."
        raise InputError(f"no name of a repository: {reason}", where=name, fix=fix)


def check_head(text: str, *, where: str) -> None:
    """See that the hub would take the head of a card, as far as that can be known without it.

    Raises:
        InputError: a licence that it does not list, a language that is no code, or the name of no repository.
    """
    from huggingface_hub import RepoCard

    if wrong := "; ".join(_wrong(RepoCard(text).data.to_dict())):
        raise InputError(f"the hub would reject this card: {wrong}", where=where, fix=MEND)


def _wrong(head: dict[str, Any]) -> Iterator[str]:
    for licence in _each(head.get("license")):
        if licence not in LICENCES:
            near = get_close_matches(licence, LICENCES)
            yield f"it has no licence {licence!r}" + (f" (near: {', '.join(near)})" if near else "")
    for language in _each(head.get("language")):
        if not _LANGUAGE.fullmatch(language):
            yield f"the language {language!r} is no code of ISO 639"
    for name in [*_each(head.get("base_model")), *_each(head.get("datasets"))]:
        if "/" in name and (reason := _no_name(name)):
            yield f"{name} is no name of a repository: {reason}"


def _each(value: Any) -> list[str]:
    """The values of a key that may have one or several."""
    return [str(each) for each in (value if isinstance(value, list) else [value]) if each is not None]


def _no_name(name: str) -> str | None:
    """Why a repository cannot be called so; None where it can."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if name.count("/") != 1:
        return "it has no owner, or more than one"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        return str(error).strip().splitlines()[0]
    return None
