"""The label files of public sets, written as published, become manifests by the rules that each adapter states."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from cxrtriage.data.labels.adapters import ADAPTERS
from cxrtriage.data.labels.manifest import read_labelled, read_manifest
from cxrtriage.errors import SourceError
from films import REAL_FILMS

CHEXPERT_HEADER = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
NORMAL = "1.0,,,,,,,,,0.0,,,,"
NORMAL_WITH_DEVICE = "1.0,,,,,,,,,0.0,,,,1.0"
ABNORMAL = ",,1.0,-1.0,,,,,,,,,,1.0"
UNCERTAIN = ",,,-1.0,,,,,,,,,,"
SILENT = ",,,,,,,,,0.0,,,,1.0"


def write(folder: Path, texts: dict[str, str], films: tuple[str, ...] = ()) -> None:
    """Write label files, packed where the name ends in .gz, and empty files for films."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    for film in films:
        (folder / film).parent.mkdir(parents=True, exist_ok=True)
        (folder / film).touch()


def labels(manifest: pd.DataFrame) -> dict[str, int]:
    return {Path(path).name: label for path, label in zip(manifest["path"], manifest["label"], strict=True)}


def test_nih_calls_no_finding_normal_and_mends_ages(tmp_path: Path) -> None:
    # the file of 2017 has a comma at the end of each line, and ages with a unit
    text = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "00000001_000.png,No Finding,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
        "00000001_001.png,Cardiomegaly|Emphysema,1,1,009M,M,AP,2894,2729,0.143,0.143,\n"
        "00000013_000.png,Hernia,0,13,411Y,F,PA,2500,2048,0.168,0.168,\n"
        "00000014_000.png,No Finding,0,14,17,F,PA,2500,2048,0.168,0.168,\n"
    )
    films = (
        "images_001/images/00000001_000.png",
        "images_001/images/00000001_001.png",
        "images_002/images/00000013_000.png",
    )
    write(tmp_path, {"Data_Entry_2017.csv": text}, films)
    manifest = read_labelled(tmp_path / "Data_Entry_2017.csv", public_set="nih")
    assert labels(manifest) == {"00000001_000.png": 0, "00000001_001.png": 1, "00000013_000.png": 1}
    assert manifest["patient_id"].tolist() == ["nih-00000001", "nih-00000001", "nih-00000013"]
    assert manifest["age"].tolist()[:2] == [58.0, 0.75]
    assert manifest["age"].isna().tolist() == [False, False, True]
    assert manifest["age_group"].tolist()[:2] == ["adult", "child"]
    assert manifest["finding"].tolist()[1] == "Cardiomegaly|Emphysema"
    assert manifest.attrs["left_out"] == {"no such file": 1}


def test_nih_takes_the_column_names_of_the_later_file(tmp_path: Path) -> None:
    text = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Sex,View Position\na.png,No Finding,1,58,F,PA\n"
    write(tmp_path, {"Data_Entry_2017_v2020.csv": text}, ("a.png",))
    assert read_labelled(tmp_path / "Data_Entry_2017_v2020.csv", public_set="nih")["sex"].tolist() == ["F"]


def test_nih_agrees_with_the_real_sets_labels(tmp_path: Path) -> None:
    """The shared set was made from the same label file, so its rows written back as published must come out alike."""
    if not (REAL_FILMS / "nih128").exists():
        pytest.skip(f"the real films {REAL_FILMS / 'nih128'} are not here")
    expected = read_manifest(REAL_FILMS / "nih128" / "labels.csv")
    original = pd.DataFrame(
        {
            "Image Index": expected["path"].map(lambda path: Path(path).stem + ".png"),
            "Finding Labels": expected["finding"],
            "Patient ID": expected["patient_id"].str.removeprefix("nih-").astype(int),
            "Patient Age": expected["age"].astype(int),
            "Patient Gender": expected["sex"],
            "View Position": expected["view_position"],
        }
    )
    original.to_csv(tmp_path / "Data_Entry_2017.csv", index=False)
    manifest = ADAPTERS["nih"](tmp_path / "Data_Entry_2017.csv", REAL_FILMS / "nih128" / "images")
    columns = ["path", "label", "patient_id", "view_position", "age", "sex", "age_group"]
    pd.testing.assert_frame_equal(manifest[columns], expected[columns])


def test_chexpert_leaves_out_laterals_and_uncertain_films(tmp_path: Path) -> None:
    root = "CheXpert-v1.0-small/train/patient0000"
    text = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT_HEADER}\n" + "".join(
        f"{root}{number}/study1/view1_{view.lower()}.jpg,Female,{age},{view},{side},{row}\n"
        for number, (view, side, age, row) in enumerate(
            [
                ("Frontal", "PA", 68, NORMAL),
                ("Frontal", "AP", 0, NORMAL_WITH_DEVICE),
                ("Frontal", "AP", 70, ABNORMAL),
                ("Frontal", "AP", 70, UNCERTAIN),
                ("Frontal", "AP", 70, SILENT),
                ("Lateral", "", 70, ABNORMAL),
                ("Frontal", "LL", 70, ABNORMAL),
            ]
        )
    )
    films = tuple(f"train/patient0000{number}/study1/view1_frontal.jpg" for number in range(7))
    write(tmp_path, {"train.csv": text}, films)
    manifest = read_labelled(tmp_path / "train.csv", public_set="chexpert")
    assert dict(zip(manifest["patient_id"], manifest["label"], strict=True)) == {
        "chexpert-patient00000": 0,
        "chexpert-patient00001": 0,
        "chexpert-patient00002": 1,
    }
    assert manifest["study_id"].tolist()[0] == "chexpert-patient00000-study1"
    assert manifest["view_position"].tolist() == ["PA", "AP", "AP"]
    assert manifest["sex"].tolist() == ["F", "F", "F"]
    assert manifest["age"].isna().tolist() == [False, True, False]  # age 0 is a gap in this set
    assert manifest.attrs["left_out"] == {"lateral": 2, "uncertain finding": 1, "neither normal nor a finding": 1}


def test_mimic_joins_labels_views_and_split(tmp_path: Path) -> None:
    studies = {"50000001": NORMAL, "50000002": ABNORMAL, "50000003": UNCERTAIN}
    films = {
        "a": ("10000032", "50000001", "PA", "train"),
        "b": ("10000032", "50000001", "LATERAL", "train"),
        "c": ("11000033", "50000002", "AP", "validate"),
        "d": ("12000034", "50000003", "AP", "test"),
        "e": ("12000034", "50000009", "AP", "test"),
        "f": ("12000034", "50000002", "", "test"),
    }
    patient_of = {"50000001": "10000032", "50000002": "11000033", "50000003": "12000034"}
    write(
        tmp_path,
        {
            "mimic-cxr-2.0.0-chexpert.csv.gz": f"subject_id,study_id,{CHEXPERT_HEADER}\n"
            + "".join(f"{patient_of[study]},{study},{row}\n" for study, row in studies.items()),
            "mimic-cxr-2.0.0-metadata.csv": "dicom_id,subject_id,study_id,ViewPosition,Rows\n"
            + "".join(f"{film},{patient},{study},{view},3056\n" for film, (patient, study, view, _) in films.items()),
            "mimic-cxr-2.0.0-split.csv.gz": "dicom_id,study_id,subject_id,split\n"
            + "".join(f"{film},{study},{patient},{split}\n" for film, (patient, study, _, split) in films.items()),
        },
        ("files/p10/p10000032/s50000001/a.jpg", "files/p11/p11000033/s50000002/c.jpg"),
    )
    manifest = read_labelled(tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz", public_set="mimic")
    assert labels(manifest) == {"a.jpg": 0, "c.jpg": 1}
    assert manifest["split"].tolist() == ["train", "validation"]
    assert manifest["patient_id"].tolist() == ["mimic-10000032", "mimic-11000033"]
    assert manifest["study_id"].tolist() == ["mimic-50000001", "mimic-50000002"]
    assert manifest.attrs["left_out"] == {"not AP or PA": 2, "no labels": 1, "uncertain finding": 1}


def test_mimic_without_views_is_refused(tmp_path: Path) -> None:
    text = f"subject_id,study_id,{CHEXPERT_HEADER}\n10000032,50000001,{NORMAL}\n"
    write(tmp_path, {"mimic-cxr-2.0.0-chexpert.csv": text})
    with pytest.raises(SourceError, match=r"tells no views: put mimic-cxr-2\.0\.0-metadata\.csv\.gz"):
        read_labelled(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", public_set="mimic")


def test_padchest_judges_lists_of_labels(tmp_path: Path) -> None:
    readings = {
        "normal": "['normal']",
        "unchanged_normal": "[' normal', 'unchanged']",
        "abnormal": "['cardiomegaly', ' unchanged', '']",
        "pacemaker": "['pacemaker']",
        "unchanged": "['unchanged']",
        "nothing": "",
        "cut": "['normal', 'card",
        "both": "['nodule', ' normal']",
        "suboptimal": "['suboptimal study', 'pneumonia']",
        "excluded": "['exclude']",
        "lateral": "['normal']",
        "child": "['normal']",
        "lying": "['normal']",
    }
    projections = {"lateral": "L", "lying": "AP_horizontal"}
    text = (
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,MethodLabel,Pediatric,Labels\n"
        + "".join(
            f"{row},{name}.png,{row % 3},20140915,s{row},{row:03d},1930.0,F,{projections.get(name, 'PA')},Physician,"
            f'{"PED" if name == "child" else "No"},"{reading}"\n'
            for row, (name, reading) in enumerate(readings.items())
        )
    )
    write(tmp_path, {"padchest.csv.gz": text}, tuple(f"{row % 3}/{name}.png" for row, name in enumerate(readings)))
    manifest = read_labelled(tmp_path / "padchest.csv.gz", public_set="padchest")
    expected = {"normal.png": 0, "unchanged_normal.png": 0, "abnormal.png": 1, "pacemaker.png": 1, "lying.png": 0}
    assert labels(manifest) == expected
    assert manifest["patient_id"].tolist()[1] == "padchest-001"
    assert manifest["age"].tolist()[0] == 84.0
    assert manifest["view_position"].tolist() == ["PA", "PA", "PA", "PA", "AP"]
    assert "1930" not in manifest.to_csv()  # a birth year is not carried along
    assert manifest.attrs["left_out"] == {
        "not PA or AP": 1,
        "child's film": 1,
        "no label": 3,
        "unfit for reading": 2,
        "normal and a finding": 1,
    }


def test_vindr_goes_by_most_readers_and_keeps_their_share(tmp_path: Path) -> None:
    votes = {"a": (1, 1, 1), "b": (1, 1, 0), "c": (0, 1, 0), "d": (0, 0, 0)}
    text = "image_id,rad_id,Aortic enlargement,No finding\n" + "".join(
        f"{film},R{reader},{1 - vote},{vote}\n"
        for film, film_votes in votes.items()
        for reader, vote in enumerate(film_votes)
    )
    write(tmp_path, {"annotations/image_labels_train.csv": text}, tuple(f"train/{film}.dicom" for film in votes))
    manifest = read_labelled(tmp_path / "annotations/image_labels_train.csv", tmp_path, "vindr")
    assert labels(manifest) == {"a.dicom": 0, "b.dicom": 0, "c.dicom": 1, "d.dicom": 1}
    assert manifest["p_abnormal"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_rsna_has_one_row_a_film(tmp_path: Path) -> None:
    text = "patientId,class\na,Normal\nb,Lung Opacity\nb,Lung Opacity\nc,No Lung Opacity / Not Normal\n"
    films = ("stage_2_train_images/a.dcm", "stage_2_train_images/b.dcm", "png/c.png")
    write(tmp_path, {"stage_2_detailed_class_info.csv": text}, films)
    manifest = read_labelled(tmp_path / "stage_2_detailed_class_info.csv", public_set="rsna")
    assert labels(manifest) == {"a.dcm": 0, "b.dcm": 1, "c.png": 1}
    write(tmp_path, {"other.csv": "patientId,class\na,normal?\n"})
    with pytest.raises(SourceError, match=r"has the class 'normal\?', expected Normal"):
        read_labelled(tmp_path / "other.csv", public_set="rsna")


def test_openi_joins_reports_and_films(tmp_path: Path) -> None:
    reports = (
        "uid,MeSH,Problems\n1,normal,normal\n2,Cardiomegaly/borderline;Pulmonary Artery/enlarged,Cardiomegaly\n"
        "3,No Indexing,No Indexing\n4,Lung/hypoinflation;Technical Quality of Image Unsatisfactory ,Lung\n"
    )
    projections = "uid,filename,projection\n" + "".join(
        f"{uid},{uid}_IM-0001-{series}.dcm.png,{view}\n"
        for uid in range(1, 5)
        for series, view in (("4001", "Frontal"), ("3001", "Lateral"))
    )
    films = tuple(f"images/images_normalized/{uid}_IM-0001-4001.dcm.png" for uid in range(1, 5))
    write(tmp_path, {"indiana_reports.csv": reports, "indiana_projections.csv": projections}, films)
    manifest = read_labelled(tmp_path / "indiana_reports.csv", tmp_path / "images", "openi")
    assert labels(manifest) == {"1_IM-0001-4001.dcm.png": 0, "2_IM-0001-4001.dcm.png": 1}
    assert manifest["patient_id"].tolist() == ["openi-1", "openi-2"]
    assert manifest.attrs["left_out"] == {"not frontal": 4, "not indexed": 1, "poor technical quality": 1}
    (tmp_path / "indiana_projections.csv").unlink()
    with pytest.raises(SourceError, match=r"tells no films: put indiana_projections\.csv"):
        read_labelled(tmp_path / "indiana_reports.csv", public_set="openi")


def test_shenzhen_reads_suffix_reading_and_mask(tmp_path: Path) -> None:
    readings = {
        "ClinicalReadings/CHNCXR_0001_0.txt": "male 45yrs\nnormal\n",
        "ClinicalReadings/CHNCXR_0327_1.txt": "Femal , 18month \nbilateral PTB\n",
    }
    films = ("CXR_png/CHNCXR_0001_0.png", "CXR_png/CHNCXR_0327_1.png", "CXR_png/CHNCXR_0400_1.png", "CXR_png/Thumbs.db")
    write(tmp_path, readings, (*films, "mask/CHNCXR_0001_0_mask.png"))
    manifest = read_labelled(tmp_path, public_set="shenzhen")
    assert labels(manifest) == {"CHNCXR_0001_0.png": 0, "CHNCXR_0327_1.png": 1, "CHNCXR_0400_1.png": 1}
    assert manifest["age"].tolist()[:2] == [45.0, 1.5]
    assert manifest["sex"].tolist()[:2] == ["M", "F"]
    assert manifest["lung_mask"].tolist()[0] == str(tmp_path / "mask/CHNCXR_0001_0_mask.png")
    assert manifest["lung_mask"].isna().tolist() == [False, True, True]


def test_montgomery_reads_suffix_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = {"set/ClinicalReadings/MCUCXR_0001_0.txt": "Patient's Sex: F \nPatient's Age: 027Y\nnormal\n"}
    masks = ("set/ManualMask/leftMask/MCUCXR_0001_0.png", "set/ManualMask/rightMask/MCUCXR_0001_0.png")
    write(tmp_path, reading, ("set/CXR_png/MCUCXR_0001_0.png", *masks))
    monkeypatch.chdir(tmp_path)
    manifest = read_labelled(Path("set"), public_set="montgomery")
    assert manifest["path"].tolist() == [str(tmp_path / "set/CXR_png/MCUCXR_0001_0.png")]
    assert (manifest["age"][0], manifest["sex"][0]) == (27.0, "F")
    assert "lung_mask" not in manifest


def test_guangzhou_takes_patients_from_file_names(tmp_path: Path) -> None:
    films = {
        "train/NORMAL/IM-0115-0001.jpeg": "IM-0115",
        "train/NORMAL/IM-0539-0001-0002.jpeg": "IM-0539",
        "test/NORMAL/NORMAL2-IM-0012-0001.jpeg": "NORMAL2-IM-0012",
        "train/PNEUMONIA/person1_bacteria_1.jpeg": "person1",
        "test/PNEUMONIA/person1_virus_6.jpeg": "person1",
        "train/PNEUMONIA/BACTERIA-40699-0001.jpeg": "BACTERIA-40699",
        "train/NORMAL/NORMAL-28501-0001.jpeg": "NORMAL-28501",
        "train/NORMAL/odd.jpeg": "odd",
    }
    write(tmp_path, {}, (*films, "train/NORMAL/.DS_Store"))
    manifest = read_labelled(tmp_path, public_set="guangzhou")
    relative = manifest["path"].str.removeprefix(f"{tmp_path}/")
    assert dict(zip(relative, manifest["patient_id"], strict=True)) == {
        film: f"guangzhou-{patient}" for film, patient in films.items()
    }
    assert manifest["label"].tolist() == ["PNEUMONIA" in film for film in relative]
    assert set(manifest["age_group"]) == {"child"}


@pytest.mark.parametrize("name", ["shenzhen", "montgomery", "guangzhou"])
def test_a_folder_that_is_not_the_sets_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"hold(s)? no films .*Give the set's folder"):
        read_labelled(tmp_path, public_set=name)


@pytest.mark.parametrize("name", ["nih", "chexpert", "mimic", "padchest", "vindr", "rsna", "openi"])
def test_a_table_of_another_kind_is_refused_with_the_columns_found(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"labels.csv": "path,label\na.png,0\n"})
    with pytest.raises(SourceError, match=r"has no column '.*'; it has path, label\."):
        read_labelled(tmp_path / "labels.csv", public_set=name)


def test_a_set_of_which_nothing_can_be_used_is_refused_with_the_reasons(tmp_path: Path) -> None:
    header = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT_HEADER}"
    text = f"{header}\ntrain/patient1/study1/view1.jpg,Male,50,Lateral,,{NORMAL}\n"
    write(tmp_path, {"train.csv": text})
    with pytest.raises(SourceError, match=r"no film of .* can be used \(lateral: 1\)"):
        read_labelled(tmp_path / "train.csv", public_set="chexpert")


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_states_its_rules_and_its_paper(name: str) -> None:
    rules = ADAPTERS[name].__doc__ or ""
    for word in ("Normal:", "Abnormal:", "Left out:", "References"):
        assert word in rules
