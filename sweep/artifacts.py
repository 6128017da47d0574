"""Addresses of the files of runs, where no server keeps them."""

import urllib.parse
from pathlib import Path

# The kinds of address that MLflow itself can write to.
MLFLOW = frozenset(
    {"abfss", "b2", "dbfs", "ftp", "gs", "hdfs", "r2", "s3", "sftp", "viewfs", "wasbs"}
)


def place(value: str) -> str:
    """The address of a place that an experiment file names.

    Args:
        value: A folder, or an address such as ``s3://bucket/folder``.

    Returns:
        The address as it is, or ``file://`` and the absolute path of the folder.

    Raises:
        ValueError: If MLflow knows no such kind of address, or it bears a password or options.
    """
    scheme, separator, rest = value.partition("://")
    if not separator:
        return Path(value).expanduser().absolute().as_uri()
    if ":" in rest.partition("/")[0].rpartition("@")[0] or {*rest} & {"?", "#"}:
        raise ValueError(
            "expected an address without password and options, which would stand in the store; "
            "give them by the environment"
        )
    if scheme not in {*MLFLOW, "file"}:
        raise ValueError(
            "expected a folder or an address of a kind that MLflow knows, such as "
            f"s3://bucket/folder; got {scheme}://"
        )
    return value


def below(location: str, name: str) -> str:
    """A sweep's own part of a place."""
    return f"{location.rstrip('/')}/{urllib.parse.quote(name, safe='')}"
