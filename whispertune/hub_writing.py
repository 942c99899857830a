"""What writing to the model hub has in common, whatever is written: who may see it, and its errors as ours.

with told(repository):
    name = open_repository(api, repository, "model", public=False)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from whispertune.data.sources.hub_place import is_transient
from whispertune.errors import InputError, WhispertuneError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG_IN: Final = "log in with `hf auth login` or set HF_TOKEN to a token that may write; the name is user/repository"
AGAIN: Final = "run the same command again: what was uploaded is not sent twice"


def open_repository(api: HfApi, repository: str, kind: str, *, public: bool, **more: Any) -> str:
    """Make the repository where it is not there yet; its full name.

    Raises:
        InputError: it was there before, and others may see it than are meant to.
    """
    name: str = api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True, **more).repo_id
    if api.repo_info(name, repo_type=kind).private is public:
        now, fix = ("private", "make it public on its page") if public else ("public", "give --public if that is meant")
        raise InputError(f"the repository is there already and is {now}", where=name, fix=f"{fix}, or another name")
    return name


@contextmanager
def told(repository: str) -> Iterator[None]:
    """The hub's errors as ours."""
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

    try:
        yield
    except WhispertuneError:
        raise
    except (HFValidationError, LocalTokenNotFoundError) as error:
        raise InputError(_first_line(error), where=repository, fix=LOG_IN) from error
    except Exception as error:  # of the hub, of its HTTP library, of sockets: several trees
        cause = _cause(error)
        response = getattr(cause, "response", None)
        if response is not None and response.status_code in (401, 403, 404):
            raise InputError("the hub does not let us write there", where=repository, fix=LOG_IN) from error
        if response is None and not isinstance(cause, OSError) and not is_transient(cause):
            raise
        raise WhispertuneError(f"the hub failed: {_first_line(cause)}", where=repository, fix=AGAIN) from error


def _cause(error: BaseException) -> BaseException:
    """What stands behind it: threads that upload large files raise a RuntimeError, caused by what happened."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
