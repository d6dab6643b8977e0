"""Bodies split into files, whatever the pieces that they arrive in."""

from email.message import EmailMessage
from email.policy import HTTP
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.exceptions import MultipartParseError

from cxrtriage.serve.intake.parts import Part, PartFiles

BOUNDARY = b"0f3c-b"
# what looks like a boundary and is none, in and around the pieces' ends
CONTENT = st.lists(
    st.sampled_from([b"\r\n", b"--", b"\r\n--0f3c-", b"\r\n--0f3", b"\r", b"\n", b"-", b"0f3c-b", b"x", b"\0"])
).map(b"".join) | st.binary(max_size=60)


def body_of(contents: list[bytes], start: bytes = b"") -> bytes:
    header = b"Content-Type: application/dicom\r\n\r\n"
    return (
        start
        + b"".join(b"--%b\r\n%b%b\r\n" % (BOUNDARY, header, content) for content in contents)
        + (b"--%b--\r\n" % BOUNDARY)
    )


def split(files: PartFiles, body: bytes, ends: list[int]) -> list[Part]:
    parts = []
    for start, end in zip([0, *ends], [*ends, len(body)], strict=True):
        parts += files.feed(body[start:end])
    return parts


@given(st.data(), st.lists(CONTENT, min_size=1, max_size=4), st.sampled_from([b"", b"\r\n"]))
def test_any_contents_in_any_pieces_come_out_as_they_were(
    data: st.DataObject, contents: list[bytes], start: bytes
) -> None:
    contents = [content for content in contents if b"\r\n--" + BOUNDARY not in b"\r\n" + content + b"\r\n"]
    body = body_of(contents, start)
    ends = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    with TemporaryDirectory() as folder:
        files = PartFiles(BOUNDARY, Path(folder), 1000, lambda: True)
        parts = split(files, body, ends)
        assert [part.path.read_bytes() for part in parts] == contents
        assert files.finished
        assert {part.content_type for part in parts} <= {"application/dicom"}
        files.close()


@given(st.data(), st.lists(st.binary(max_size=40), min_size=1, max_size=3))
def test_a_body_cut_short_is_not_finished_and_leaves_nothing(data: st.DataObject, contents: list[bytes]) -> None:
    body = body_of(contents)
    cut = data.draw(st.integers(0, len(body) - len(b"--\r\n") - 1))
    with TemporaryDirectory() as folder:
        files = PartFiles(BOUNDARY, Path(folder), 1000, lambda: True)
        try:
            files.feed(body[:cut])
        except MultipartParseError:
            return  # the bytes held a boundary of their own
        assert not files.finished
        files.close()
        assert not list(Path(folder).iterdir())


def test_bodies_of_pythons_own_writer_are_read(tmp_path: Path) -> None:
    message = EmailMessage(HTTP)
    message.make_related(boundary=BOUNDARY.decode())
    for text in ("one\r\n", "two\r\n"):
        message.add_related(text.encode(), "application", "dicom", cte="7bit")
    body = message.as_bytes().partition(b"\r\n\r\n")[2]
    parts = PartFiles(BOUNDARY, tmp_path, 1000, lambda: True).feed(body)
    assert [part.path.read_bytes().strip() for part in parts] == [b"one", b"two"]


def test_a_part_that_is_too_large_is_marked_and_the_others_are_whole(tmp_path: Path) -> None:
    files = PartFiles(BOUNDARY, tmp_path, 100, lambda: True)
    body = body_of([b"a" * 100, b"b" * 5000, b"c"])
    parts = split(files, body, list(range(50, len(body), 50)))
    assert [part.too_large for part in parts] == [False, True, False]
    assert [part.path.stat().st_size <= 100 for part in parts] == [True] * 3
    assert parts[2].path.read_bytes() == b"c"


def test_nothing_is_written_while_there_is_no_room(tmp_path: Path) -> None:
    room = iter([True, False])
    files = PartFiles(BOUNDARY, tmp_path, 100, lambda: next(room, True))
    parts = files.feed(body_of([b"a", b"b", b"c"]))
    assert [part.no_room for part in parts] == [False, True, False]
    assert [part.path.read_bytes() for part in parts] == [b"a", b"", b"c"]


@pytest.mark.parametrize("body", [b"preamble\r\n--0f3c-b\r\n\r\n", b"--other\r\n\r\n", b"--0f3c-bx\r\n", b"{}"])
def test_a_body_not_made_of_parts_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(MultipartParseError):
        PartFiles(BOUNDARY, tmp_path, 100, lambda: True).feed(body)
