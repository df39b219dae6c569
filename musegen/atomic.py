"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from musegen.errors import OutputError

__all__ = ["write_all", "write_whole"]


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file by way of a temporary one beside it, so that no half of it is ever seen.

    Raises `OutputError` where the path cannot be written; nothing is left behind then.
    """
    write_all({Path(path): data})


def write_all(files: Mapping[Path, bytes], *, folders: bool = False) -> None:
    """Writes several files, each whole or not at all, by way of temporary ones beside them.

    `folders` makes folders that lack. Raises `OutputError` where a path cannot be written. Whatever
    fails before all the temporary files are there (a full disk, a folder that may not be written)
    leaves nothing behind, and no file that was there has changed.
    """
    for path in files:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file in it")
    made: list[Path] = []
    temporaries: dict[Path, Path] = {}
    path = Path()
    try:
        for number, (path, data) in enumerate(files.items()):
            if folders:
                lacking = [part for part in (path.parent, *path.parents) if not part.exists()]
                path.parent.mkdir(parents=True, exist_ok=True)
                made[:0] = dict.fromkeys(lacking)  # the deepest first
            temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.{number}.part")
            with open(temporary, "xb") as file:
                temporaries[path] = temporary
                file.write(data)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
        made.clear()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
