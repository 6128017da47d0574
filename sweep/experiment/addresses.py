"""Addresses of trackers and of artifacts, checked and made absolute."""

import urllib.parse
from pathlib import Path

from sweep.errors import TrackerError, folder_bar, hidden

# Kinds of address to which MLflow itself can write.
MLFLOW = frozenset(
    {"abfss", "b2", "dbfs", "ftp", "gs", "hdfs", "r2", "s3", "sftp", "viewfs", "wasbs"}
)


def place(value: str) -> str:
    """The address for artifacts that an experiment file names.

    Args:
        value: A folder, or an address such as ``s3://bucket/folder``.

    Returns:
        The address unchanged, or ``file://`` and the absolute path of the folder.

    Raises:
        ValueError: If MLflow knows no such kind of address, or it contains a password or options.
    """
    scheme, separator, rest = value.partition("://")
    if not separator:
        return Path(value).expanduser().absolute().as_uri()
    if ":" in rest.partition("/")[0].rpartition("@")[0] or {*rest} & {"?", "#"}:
        raise ValueError(
            "expected an address without password and options, which the store would show; got "
            "one with them; put them into environment variables"
        )
    if scheme not in {*MLFLOW, "file"}:
        raise ValueError(
            "expected a folder or an address of a kind that MLflow knows, such as "
            f"s3://bucket/folder; got {scheme}://"
        )
    return value


def below(location: str, name: str) -> str:
    """A sweep's own folder at an address."""
    return f"{location.rstrip('/')}/{urllib.parse.quote(name, safe='')}"


# Value of ``tracking_uri`` for a store without a server, to be copied into another one later.
OFFLINE = "offline"
SQLITE = "sqlite:///"
_MAGIC = b"SQLite format 3\0"


def default_uri() -> str:
    """Address of a database in the working directory, where ``mlflow ui`` looks too."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def located(uri: str | None, storage_path: str = "sweeps") -> str:
    """The full address of a ``tracking_uri``, with an absolute path for a database.

    Args:
        uri: Address from an experiment file or a command; None for the database in the working
            directory.
        storage_path: Folder of the database of ``offline``.
    """
    if uri is None:
        return default_uri()
    if uri == OFFLINE:
        return f"{SQLITE}{Path(storage_path).absolute() / 'offline.db'}"
    if uri.startswith(SQLITE):
        return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}"
    return uri


def checked(uri: str) -> str:
    """Check the address of a tracker; the path of a SQLite file becomes absolute.

    Raises:
        TrackerError: If it is no such address, or the file cannot be a store.
    """
    if not uri.startswith((SQLITE, "http://", "https://")):
        got = hidden(uri) or "nothing"
        raise TrackerError(f"tracking_uri: expected sqlite:/// or http(s)://; got {got}")
    if uri.startswith("http"):
        if _readable(uri):
            return uri
        raise TrackerError(
            "tracking_uri: expected http://NAME:PASSWORD@HOST:PORT, the password's /, ?, # and @ "
            "quoted as %2F, %3F, %23 and %40; got something else"
            if "@" in uri
            else f"tracking_uri: expected http://HOST:PORT; got {uri}"
        )
    path = Path(uri.removeprefix(SQLITE)).absolute()
    got = ""
    if path.is_dir():
        got = f"the folder {path}"
    elif not path.exists() and (bar := folder_bar(path.parent)):
        got = f"{path}: {bar}"
    elif path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            got = "" if file.read(len(_MAGIC)) == _MAGIC else f"another file, {path}"
    if got:
        raise TrackerError(
            f"tracking_uri: expected a SQLite database or a path for a new one; got {got}"
        )
    return f"{SQLITE}{path}"


def _readable(uri: str) -> bool:
    """Whether an address has a host, a valid port and at most one ``@``."""
    try:
        parts = urllib.parse.urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    return port != 0 and bool(parts.hostname) and parts.netloc.count("@") <= 1
