"""The container of a DAWproject: a ZIP with XML in it, written always alike, read with care.

Written: members in a given order, one date, stored without compression, because what zlib makes of
the same text differs between its builds, and the same score has to give the same bytes everywhere.

Read: files of this kind come from strangers. Sizes are checked before anything is unpacked, XML is
fed to expat in pieces, a document type (with it go entity bombs and external files) is refused at
its first word, as defusedxml does, and elements, attributes and depth are counted.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any
from xml.parsers import expat

from musegen.errors import MidiError
from musegen.music.files import Source

MAX_XML_BYTES = 64 * 2**20
"""The longest project.xml that is read, unpacked; a symphony with its pedals has about ten."""
MAX_METADATA_BYTES = 2**20
MAX_ELEMENTS = 600_000
"""Elements of one document, a note or a point each: some 400 MB of memory while it is read."""
MAX_ATTRIBUTES = 64
"""Attributes of one element; the schema knows fewer than twenty."""
MAX_DEPTH = 64
MAX_DIRECTORY_BYTES = 16 * 2**20
"""The table of contents of the ZIP: some hundred thousand members."""
MAX_STREAM_BYTES = 256 * 2**20
"""What is read of a source that cannot be searched, such as a pipe."""
_PIECE_BYTES = 2**16
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP can hold
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) cannot hold, not even escaped."""
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_ESCAPES |= {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}  # else a reader makes blanks of them
_TO_ESCAPE = re.compile('[&<>"\t\n\r]')


def xml_text(text: str) -> str:
    """A text without the characters that XML cannot hold (control characters, lone surrogates)."""
    return _NO_XML.sub("", text)


def escape(text: str) -> str:
    """A text as it stands in an attribute or an element; reading gives `xml_text(text)` back."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPES[found[0]], xml_text(text))


class XmlLines:
    """An XML document in the making, a line an element, with numbered ids."""

    def __init__(self) -> None:
        self._lines = ['<?xml version="1.0" encoding="UTF-8" standalone="yes"?>']
        self._open: list[str] = []
        self._ids = 0

    def new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids - 1}"

    def leaf(self, tag: str, **attributes: object) -> None:
        """An element without content. Attributes that are None are left out."""
        self._put(f"<{tag}{_attributes(attributes)}/>")

    def text(self, tag: str, text: str) -> None:
        self._put(f"<{tag}>{escape(text)}</{tag}>")

    @contextmanager
    def element(self, tag: str, **attributes: object) -> Iterator[None]:
        """An element around all that is written within the `with`."""
        self._put(f"<{tag}{_attributes(attributes)}>")
        self._open.append(tag)
        yield
        self._open.pop()
        self._put(f"</{tag}>")

    def data(self) -> bytes:
        return ("\n".join(self._lines) + "\n").encode()

    def _put(self, line: str) -> None:
        self._lines.append("  " * len(self._open) + line)


def _attributes(attributes: dict[str, object]) -> str:
    return "".join(
        f' {name}="{escape(str(value))}"' for name, value in attributes.items() if value is not None
    )


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A ZIP of these members, in this order; the same members always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # else it depends on who writes
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


class Node:
    """An element: its name, attributes and children; its text, where it has no children."""

    __slots__ = ("attributes", "children", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node] = []
        self.text = ""

    def get(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, default)

    def find(self, *tags: str) -> Node | None:
        """The first child on the path `tags`."""
        node = self
        for tag in tags:
            found = next((child for child in node.children if child.tag == tag), None)
            if found is None:
                return None
            node = found
        return node

    def __iter__(self) -> Iterator[Node]:
        return iter(self.children)


class Archive:
    """A DAWproject that is open for reading; made by `open_archive`."""

    def __init__(self, file: zipfile.ZipFile, name: str) -> None:
        self._file = file
        self.name = name

    def xml(self, member: str, root: str, max_bytes: int = MAX_XML_BYTES) -> Node | None:
        """The root element of a member; None where the member is missing.

        Raises `MidiError` for what is no XML, has another root, or is beyond the limits.
        """
        where = f"{self.name}: {member}"
        try:
            info = self._file.getinfo(member)
        except KeyError:
            return None
        if info.file_size > max_bytes:
            raise MidiError(f"{where} unpacks to {info.file_size:,} bytes; {max_bytes:,} are read")
        try:
            with self._file.open(info) as stream:
                return _parse(stream, where, root, max_bytes)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            raise MidiError(f"{where} is damaged: {error}") from None
        except (RuntimeError, NotImplementedError) as error:
            # What zipfile raises for a password, and for a compression that it does not know.
            raise MidiError(f"{where} cannot be unpacked: {error}") from None

    def stored(self, member: str) -> bytes | None:
        """The bytes of a member that is stored as it is; None where there is none.

        Such a member is no longer than the file. Raises `MidiError` where it is damaged.
        """
        try:
            info = self._file.getinfo(member)
            if info.compress_type != zipfile.ZIP_STORED:
                return None
            return self._file.read(info)
        except KeyError:
            return None
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
            raise MidiError(f"{self.name}: {member} is damaged: {error}") from None


@contextmanager
def open_archive(source: Source, name: str = "") -> Iterator[Archive]:
    """Opens a DAWproject: a path, its bytes, or an open binary file.

    A path is not read as a whole: projects may hold hours of audio. Raises `MidiError` where it
    cannot be read or is no ZIP.
    """
    with contextlib.ExitStack() as stack:
        name, file = _opened(source, name, stack)
        _check_directory(file, name)
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
        # NotImplementedError is what zipfile raises for a ZIP of a version that it does not know.
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise MidiError(f"{name}: no DAWproject, for its ZIP is damaged: {error}") from None
        yield Archive(archive, name)


def _opened(source: Source, name: str, stack: contextlib.ExitStack) -> tuple[str, IO[bytes]]:
    if isinstance(source, bytes | bytearray | memoryview):
        return name or "<bytes>", io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        name = name or os.fspath(source)
        try:
            return name, stack.enter_context(open(source, "rb"))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise MidiError(f"{name}: cannot be read: {reason}") from None
    name = name or str(getattr(source, "name", "<file>"))
    data = source.read(MAX_STREAM_BYTES + 1)
    if not isinstance(data, bytes | bytearray):
        raise MidiError(f"{name}: opened as text; open it in binary mode ('rb')")
    if len(data) > MAX_STREAM_BYTES:
        raise MidiError(f"{name}: larger than {MAX_STREAM_BYTES:,} bytes; pass its path")
    return name, io.BytesIO(data)


def _check_directory(file: IO[bytes], name: str) -> None:
    """Refuses a table of contents that would fill the memory, before zipfile reads it."""
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 65_557))  # the end record, behind it a comment of 64 KiB at most
        tail = file.read(65_557)
    except OSError as error:
        raise MidiError(f"{name}: cannot be read: {error.strerror or error}") from None
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) < found + 22:
        raise MidiError(f"{name}: no DAWproject, for it is no ZIP")
    (directory,) = struct.unpack_from("<I", tail, found + 12)
    if directory > MAX_DIRECTORY_BYTES:
        raise MidiError(f"{name}: a ZIP with far too many members; export it again")


def _parse(stream: IO[bytes], where: str, root: str, max_bytes: int) -> Node:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    top = Node("", {})
    stack = [top]
    count = 0

    def refuse(*_: Any) -> Any:
        raise MidiError(f"{where} has a document type or entities, which no DAWproject needs")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS:
            raise MidiError(f"{where} has more than {MAX_ELEMENTS:,} elements, the most we read")
        if len(stack) > MAX_DEPTH or len(attributes) > MAX_ATTRIBUTES:
            raise MidiError(f"{where} is nested deeper than any DAWproject: it was made to do harm")
        if count == 1 and tag != root:
            raise MidiError(f"{where} begins with <{tag[:40]}>, not with <{root}>")
        node = Node(tag, attributes)
        stack[-1].children.append(node)
        stack.append(node)

    def text(data: str) -> None:
        if not stack[-1].children:
            stack[-1].text += data

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    read = 0
    try:
        while piece := stream.read(_PIECE_BYTES):
            read += len(piece)
            if read > max_bytes:
                raise MidiError(f"{where} unpacks to more than {max_bytes:,} bytes")
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise MidiError(f"{where} is no XML: {error}") from None
    return top.children[0]
