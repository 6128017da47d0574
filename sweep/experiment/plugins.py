"""Metrics of the user: Python files, read once by the driver and sent to the workers."""

import hashlib
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import Mistake


class PluginError(Mistake, ValueError):
    """A plugin that cannot be read or does not load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin's source as the driver read it; never loaded from a tracking store.

    Args:
        path: Path of the file, for error lines and tracebacks.
        text: Source code of the file.
    """

    path: str
    text: str

    @classmethod
    def read(cls, path: Path, source: str) -> "Plugin":
        """Read a plugin.

        Raises:
            PluginError: If it cannot be read. The line begins with ``source``.
        """
        try:
            return cls(path=str(path), text=path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise PluginError(
                f"{source}: expected a readable Python file; got {str(path)!r}: {why}"
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def load(self) -> None:
        """Run the file, once per process; it registers its metrics in ``METRICS``.

        Raises:
            PluginError: If the file raises an error.
        """
        name = f"sweep_plugin_{self.digest[:16]}"
        if name in sys.modules:
            return
        module = types.ModuleType(name)
        module.__file__ = self.path
        sys.modules[name] = module
        try:
            exec(compile(self.text, self.path, "exec"), module.__dict__)  # noqa: S102 - its purpose
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, Exception | SystemExit):
                raise
            got = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(
                f"{self.path}: expected a plugin that loads; got {got}{self._line(error)}"
            ) from error

    def _line(self, error: BaseException) -> str:
        """The plugin's last line in the traceback; empty for a syntax error, which names a line."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self.path]
        return f" (line {lines[-1]})" if lines else ""
