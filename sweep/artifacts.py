"""Where the files of runs lie if no server keeps them: a folder, or a place that fsspec reaches."""

import importlib
import posixpath
import urllib.parse
from pathlib import Path
from typing import Any

import fsspec

# Schemes that MLflow serves itself; anything else goes through fsspec.
MLFLOW = frozenset(
    {"abfss", "b2", "dbfs", "ftp", "gs", "hdfs", "r2", "s3", "sftp", "viewfs", "wasbs"}
)
SCHEME = "fsspec"


def place(value: str) -> str:
    """What MLflow calls a place that an experiment file names.

    Args:
        value: A folder, or an address such as ``s3://bucket/folder``. With ``fsspec+`` before it,
            fsspec is used even where MLflow could do without.

    Returns:
        ``file://`` of a folder, an address of MLflow's own, or ``fsspec://PROTOCOL/REST`` for
        ``PROTOCOL://REST``.

    Raises:
        ValueError: If nothing knows the kind of address, or it bears a password or options.
    """
    scheme, separator, rest = value.partition("://")
    if not separator:
        return Path(value).expanduser().absolute().as_uri()
    if scheme == SCHEME:
        scheme, _, rest = rest.partition("/")
        scheme = f"{SCHEME}+{scheme}"
    if ":" in rest.partition("/")[0].rpartition("@")[0] or {*rest} & {"?", "#"}:
        raise ValueError(
            "expected an address without password and options, which would stand in the store; "
            "give them by the environment"
        )
    if scheme in {*MLFLOW, "file"}:
        return value
    scheme = scheme.removeprefix(f"{SCHEME}+")
    if scheme in ("http", "https"):
        raise ValueError(f"expected a place that can be written to; got {scheme}://")
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ValueError(f"{scheme}://: expected its package installed; {error}") from error
    except ValueError as error:
        raise ValueError(
            f"expected a folder or an address of a kind that MLflow or fsspec knows, such as "
            f"s3://bucket/folder; got {scheme}://"
        ) from error
    return f"{SCHEME}://{scheme}/{rest}"


def below(location: str, name: str) -> str:
    """A sweep's own part of a place."""
    return f"{location.rstrip('/')}/{urllib.parse.quote(name, safe='')}"


def repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """What MLflow asks for, through its entry point, at a run whose files lie on ``fsspec://``.

    For processes that are not ours, such as the server behind ``sweep ui``.
    """
    # MLflow looks its entry points up while it is imported, which is too early for that module.
    tracking = importlib.import_module("sweep.tracking")
    return tracking.FsspecArtifacts(artifact_uri, tracking_uri, registry_uri)


class Folder:
    """A folder of any filesystem that fsspec knows.

    Args:
        uri: ``fsspec://PROTOCOL/REST``.
    """

    def __init__(self, uri: str) -> None:
        protocol, _, rest = uri.removeprefix(f"{SCHEME}://").partition("/")
        self._system, root = fsspec.core.url_to_fs(f"{protocol}://{rest}")
        self._root = root.rstrip("/")

    def put(self, local: Path, name: str) -> None:
        """Copy a local file to a name in the folder."""
        target = self._inside(name)
        self._system.makedirs(posixpath.dirname(target), exist_ok=True)
        self._system.put_file(str(local), target)

    def get(self, name: str, local: Path) -> None:
        """Copy a file of the folder to a local one."""
        self._system.get_file(self._inside(name), str(local))

    def listed(self, name: str = "") -> list[tuple[str, int | None]]:
        """Names and sizes directly below a name; None for the size of a folder."""
        where = self._inside(name)
        # Other processes write here too.
        self._system.invalidate_cache()
        if not self._system.isdir(where):
            return []
        found = []
        for entry in self._system.ls(where, detail=True):
            inner = posixpath.join(name, posixpath.basename(entry["name"].rstrip("/")))
            size = None if entry["type"] == "directory" else int(entry["size"])
            found.append((inner, size))
        return sorted(found)

    def remove(self, name: str = "") -> None:
        """Remove a file, or a folder with all that is in it."""
        self._system.rm(self._inside(name), recursive=True)

    def _inside(self, name: str) -> str:
        parts = name.replace("\\", "/").split("/")
        if name and (".." in parts or not parts[0]):
            raise ValueError(f"expected a name inside the run's own folder; got {name!r}")
        return posixpath.join(self._root, name) if name else self._root
