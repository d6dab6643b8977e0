from pathlib import Path

import pytest
from pydicom import Dataset

from cxrtriage.errors import ConfigError
from cxrtriage.serve.database import reading
from cxrtriage.serve.notify.recipients import find, names_of, plain, read_recipients, write_template
from serve.notify.node import TABLE, Node
from serve.peers import film
from serve.worklist.rows import Rows

HEAD = "key,match,email,webhook,next\n"


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipients.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_table_is_read_as_it_stands(tmp_path: Path) -> None:
    contacts = read_recipients(table(tmp_path, TABLE))
    assert list(contacts) == ["smith", "ward", "oncall"]
    assert contacts["smith"].match == ("4711", "SMITH^JOHN")
    assert (contacts["ward"].email, contacts["ward"].webhook, contacts["ward"].next) == (
        "icu@hospital.example", "pager-3", "oncall",
    )  # fmt: skip


def test_a_fresh_table_explains_itself_and_has_no_contact(tmp_path: Path) -> None:
    path = tmp_path / "recipients.csv"
    write_template(path)
    assert read_recipients(path) == {}
    shown = path.read_text().replace("# smith", "smith").replace("# icu", "icu").replace("# oncall", "oncall")
    example = HEAD + "".join(line for line in shown.splitlines(True) if line.startswith(("smith", "icu", "oncall")))
    assert read_recipients(table(tmp_path, example))["icu"].match == ("ICU", "Intensive care")
    write_template(path)
    assert path.read_text() == example  # a table that is there stays


@pytest.mark.parametrize("saved", ["utf-8-sig", "utf-8"])
def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path, saved: str) -> None:
    path = tmp_path / "recipients.csv"
    path.write_bytes((HEAD + '"müller","Müller, Anna",m@x.example,,\n').replace("\n", "\r\n").encode(saved))
    assert find(read_recipients(path), ["MÜLLER^ANNA"]) is not None


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("a,x,a@b.c,\n", "line 2: expected 5 cells"),
        ("a,x,a@b.c,,,\n", "line 2: expected 5 cells"),
        (",x,a@b.c,,\n", "line 2: the key"),
        ("a,x,nobody,,\n", "line 2: 'nobody' is no single e-mail address"),
        ('a,x,"a@b.c, d@e.f",,\n', "no single e-mail address"),
        ("a,x,a@b.c,,\na,y,d@e.f,,\n", "line 3: key a stands there twice"),
        ("a,x,a@b.c,,\n# no\n\nb,X,d@e.f,,\n", "line 5: X is matched by a already"),
        ("a,x,a@b.c,,gone\n", "the next of a is gone, which is no key"),
    ],
)
def test_a_line_that_means_nothing_is_named(tmp_path: Path, lines: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_recipients(table(tmp_path, HEAD + lines))


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_recipients(tmp_path / "recipients.csv")
    with pytest.raises(ConfigError, match="first line without # must be key,match"):
        read_recipients(table(tmp_path, "name,address\n"))
    with pytest.raises(ConfigError, match="first line without # must be key,match"):
        read_recipients(table(tmp_path, ""))
    (tmp_path / "recipients.csv").write_bytes(HEAD.encode() + b"m\xfcller,x,a@b.c,,\n")
    with pytest.raises(ConfigError, match="not in UTF-8"):
        read_recipients(tmp_path / "recipients.csv")


@pytest.mark.parametrize("name", ["SMITH^JOHN", "Smith, John", "smith  john", "Smith^John^^"])
def test_names_are_compared_without_their_signs(tmp_path: Path, name: str) -> None:
    found = find(read_recipients(table(tmp_path, TABLE)), ["nobody", name, "ICU"])
    assert found is not None
    assert found.key == "smith"
    assert plain("^^") == ""


def test_names_come_from_order_and_film(node: Node, rows: Rows) -> None:
    with_order, bare = rows.study(accession_number="A1"), rows.study(accession_number="A2")
    node.order("A1", provider="9^Miller", ward="ED")
    (node.home / "films").mkdir()
    person = Dataset()
    code = Dataset()
    code.CodeValue = "815"
    person.PersonIdentificationCodeSequence = [code]
    tags = {"ReferringPhysicianName": "Smith^John=X", "RequestingService": "ICU", "PatientName": "DOE^JANE"}
    film(node.home / "films" / "1.dcm", ReferringPhysicianIdentificationSequence=[person], **tags)
    with reading(node.engine) as connection:
        assert names_of(connection, node.home, node.key(with_order)) == ["9", "815", "Smith^John", "ED", "ICU"]
        assert names_of(connection, node.home, node.key(bare)) == []  # whose film is not there
