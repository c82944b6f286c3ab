"""Checkpoints and adapters from the Hugging Face Hub: what is fetched, and errors in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from howsure.errors import ModelError

_TABLES = ["*.csv", "*.parquet"]
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
# Some repositories hold the weights twice, in their authors' own layout too.
_UNWANTED = ["consolidated*", "original/*", "*/*", "*.index.json.*"]


def fetch(
    name: str,
    revision: str | None,
    check: Callable[[Path], Path],
    *,
    what: str = "model",
    with_code: bool = False,
    dataset: bool = False,
) -> Path:
    """The folder of a repository's snapshot that `check` accepts, from the local cache or the Hub.

    Of a `dataset` the tables are fetched, of a model its files in the top folder.

    Raises ModelError: offline, unknown or gated repository, unknown revision, no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = _TABLES if dataset else [*_WANTED, "*.py"] if with_code else _WANTED

    def snapshot(*, local: bool) -> Path:
        return Path(
            snapshot_download(
                name,
                repo_type="dataset" if dataset else "model",
                revision=revision,
                local_files_only=local,
                allow_patterns=wanted,
                ignore_patterns=None if dataset else _UNWANTED,
                etag_timeout=10,
            )
        )

    try:
        return check(snapshot(local=True))
    except (LocalEntryNotFoundError, ModelError):
        pass
    _refuse_offline(what, name, revision)
    try:
        return check(snapshot(local=False))
    except Exception as error:
        raise _explained(error, what, name, revision) from error


def fetch_config(name: str, revision: str | None) -> Path:
    """The folder in the local cache that holds a repository's config.json, perhaps nothing else.

    Raises ModelError as `fetch` does.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*, local: bool) -> Path:
        file = hf_hub_download(
            name, "config.json", revision=revision, local_files_only=local, etag_timeout=10
        )
        return Path(file).parent

    try:
        return download(local=True)
    except LocalEntryNotFoundError:
        _refuse_offline("model", name, revision)
    try:
        return download(local=False)
    except Exception as error:
        raise _explained(error, "model", name, revision) from error


def _refuse_offline(what: str, name: str, revision: str | None) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise ModelError(
            f"{what} {name!r}{_at(revision)} is not in the local Hub cache and HF_HUB_OFFLINE is "
            "set; give a local folder, or unset it"
        )


def _at(revision: str | None) -> str:
    return f" at revision {revision!r}" if revision else ""


def _explained(error: Exception, what: str, name: str, revision: str | None) -> Exception:
    """The error in one line that says what to do; an error that is no network's is left alone."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{what} {name!r} is gated: accept its licence on its page on the Hub, then log in "
            "(`hf auth login`) or set HF_TOKEN; or give a local folder"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError(
            f"{what} {name!r} has no revision {revision!r}; name a branch, tag or commit of it "
            "with --revision"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"{what} {name!r} is no local folder and not on the Hub, or it is private; check the "
            "name, log in (`hf auth login`) or set HF_TOKEN"
        )
    if isinstance(error, HfHubHTTPError | OSError | ValueError) and not isinstance(
        error, ModelError
    ):
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return ModelError(
            f"{what} {name!r} is no local folder and could not be had from the Hub "
            f"({lines[0][:160]}); check the name, the network, or give a local folder"
        )
    return error
