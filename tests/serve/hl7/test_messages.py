from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrtriage.serve.hl7 import messages
from cxrtriage.serve.hl7.messages import CODECS, Message, NotHl7Error, escaped, joined, segment, timestamp
from serve.hl7 import written

TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]))


def test_parts_are_found_where_the_standard_counts_them() -> None:
    message = Message(
        written.joined(written.header("ORM^O01"), "ORC|NW|p||||||x~1^^^^^S|||||47&a&ISO^Smith&van^John", "OBR|1||f1")
    )
    common = message.named("ORC")[0]
    assert message.kind == ("ORM", "O01")
    assert message.control_id == "M1"
    assert common.value(1) == "NW"
    assert common.value(8, 1, 2) == "1"
    assert common.value(8, 6, 2) == "S"
    assert common.value(13, 1) == "47"
    assert common.value(13, 1, 1, 2) == "a"
    assert common.value(13, 2, 1, 2) == "van"
    assert common.value(13, 9) == common.value(40) == common.value(1, 2) == ""
    assert list(common.repetitions(8)) == [1, 2]
    assert list(common.repetitions(40)) == []


@given(TEXTS)
def test_text_comes_back_from_a_message_as_it_went_in(text: str) -> None:
    content = joined([written.header("ORU^R01"), segment("OBX", {5: escaped(text)})])
    assert Message(content).named("OBX")[0].value(5) == text
    assert hl7.parse(content.decode()).segment("OBX").extract_field(1, 5) == text  # as the library reads it


def test_control_characters_never_reach_a_message() -> None:
    assert escaped("a\rMSH|\x0b\x1c") == "a MSH\\F\\  "


def test_formatting_escapes_are_left_out_and_cannot_fill_the_memory() -> None:
    message = Message(written.joined(written.header("ORU^R01"), "OBX|1|TX|||a\\.sp99999999999\\b\\X41\\c\\H\\d"))
    assert message.named("OBX")[0].value(5) == "a b c d"


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("UNICODE UTF-8", "utf-8"), ("", "utf-8"), ("", "latin-1"),
     ("ASCII", "latin-1"), ("GB 18030-2000", "gb18030"), ("KS X 1001", "euc_kr"), ("~ISO IR87", "iso2022_jp")],
)  # fmt: skip
def test_msh_18_says_how_to_read(charset: str, codec: str) -> None:
    name = {"gb18030": "王", "euc_kr": "김", "iso2022_jp": "山田"}.get(codec, "Müller")
    text = "\r".join([written.header("ORM^O01", charset=charset), f"ORC|NW|{name}", ""])
    assert Message(text.encode(codec)).named("ORC")[0].value(2) == name


def test_every_character_set_can_be_read() -> None:
    for codec in CODECS.values():
        assert b"MSH".decode(codec) == "MSH"


def test_wrong_letters_do_not_cost_the_message() -> None:
    content = written.joined(written.header("ORM^O01", charset="UNICODE UTF-8"), "ORC|NW|M\xfcller")
    assert Message(content.replace("ü".encode(), b"\xfc")).named("ORC")[0].value(2) == "M\ufffdller"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not begin"),
        (b"PID|1", "does not begin"),
        (b"MSH|", "does not begin"),
        (b"MSH||||||||", "five different"),
        (b"MSHabcdefghi", "five different"),
        (written.joined(written.header("ORM^O01", charset="EBCDIC")), "table 0211"),
        (written.joined(written.header("ORM^O01"), "OBX" + "|" * 200_001), "more than 200000"),
    ],
)
def test_what_is_no_message_is_named_without_a_word_from_it(content: bytes, why: str) -> None:
    with pytest.raises(NotHl7Error, match=why):
        Message(content)


def test_unused_segments_are_not_taken_apart() -> None:
    message = Message(written.joined(written.header("ORM^O01"), "NTE" + "|" * 300_000, "ORC|NW"))
    assert [part.name for part in message.segments] == ["MSH", "ORC"]


def test_other_delimiters_are_read_too() -> None:
    message = Message(b"MSH#*!?%#RIS#H#C##2026##ORM*O01#7#P#2.3\rORC#NW#a?F?b*c%d!e")
    assert message.kind == ("ORM", "O01")
    common = message.named("ORC")[0]
    assert [common.value(2), common.value(2, 2, 1, 2), common.value(2, 1, 2)] == ["a#b", "d", "e"]


def test_times_carry_their_zone() -> None:
    assert timestamp(datetime(2026, 11, 18, 3, 0, 5, tzinfo=UTC)) == "20261118030005+0000"
    assert messages.segment("MSH", {3: "A", 10: "7"}) == "MSH|^~\\&|A|||||||7"
