"""Photos are found by what annotations call them, however another system writes names, and never by a guess."""

import os
import sys
import unicodedata
from pathlib import PurePosixPath

import pytest

from earlyexit.data import PhotoFiles, PhotoFinder, find_photos, list_files, stays_inside, without_ending
from earlyexit.data.photos import HINTS, photo_endings


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def folder(tmp_path):
    names = ("a.jpg", "d.jpg", "d.png", "x/Twice.JPG", "y/twice.jpg", "deep/e.tiff", ".a.jpg", "notes.txt")
    return touch(tmp_path, *names)


def test_photos_are_listed_in_order_whatever_the_case_of_their_ending(folder):
    photos = ["a.jpg", "d.jpg", "d.png", "deep/e.tiff", "x/Twice.JPG", "y/twice.jpg"]
    assert list_files(folder) == photos
    assert list_files(folder, (".txt",)) == ["notes.txt"]
    assert list_files(folder / "nowhere") == []


def test_every_ending_that_pillow_reads_is_that_of_a_photo():
    assert {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".jp2", ".ppm", ".tga"} < set(
        photo_endings()
    )
    assert {".heic", ".heif"} < set(photo_endings())  # so that its remedy is said, rather than that it is missing
    assert not {".pdf", ".mpg", ".txt", ".xml", ".json", ".eps"} & set(photo_endings())


@pytest.mark.parametrize(
    ("own", "named", "photo"),
    [
        ("a", "", "a.jpg"),
        ("labels/a", "other.jpg", "a.jpg"),  # the annotation's own name comes first
        ("", "A.png", "a.jpg"),  # neither case nor ending decides where there is one photo alone
        ("d", "", None),  # two, and nothing to choose by
        ("d", "d.png", "d.png"),
        ("d", "D.PNG", "d.png"),
        ("", "E", "deep/e.tiff"),
        ("", "twice.jpg", "y/twice.jpg"),  # two of that name, but one is written so
        ("x/twice", "", "x/Twice.JPG"),
        ("", "x/twice", "x/Twice.JPG"),
        ("", r"x\twice.jpg", "x/Twice.JPG"),
        ("", r"C:\Users\me\e.tiff", "deep/e.tiff"),
        ("", "https://host/files/e.tiff?X-Amz-Signature=a.jpg/b#d.png", "deep/e.tiff"),
        ("", "s3://bucket/x/Twice.JPG?version=3", "x/Twice.JPG"),
        ("", "deep/e?.tiff", None),  # no address, so the sign is of the name
        ("", "file:///C:/photos/e.tiff", "deep/e.tiff"),
        ("", "/data/local-files/?d=deep/e.tiff", "deep/e.tiff"),
        ("y/none", "twice", "y/twice.jpg"),  # beside the annotation
        ("none", "none.jpg", None),
        ("", "", None),
    ],
)
def test_a_photo_is_found_or_nothing(folder, own, named, photo):
    assert PhotoFinder(folder).find(PurePosixPath(own), PurePosixPath(named)) == photo


# On the disk, and as an annotation has it.
SPELLINGS = [
    ("in/IMG_1.JPG", r"in\IMG_1.JPG"),
    ("in/IMG_1.JPG", r".\in\img_1.jpg"),
    ("IMG_1.JPG", "img_1.jpg"),
    ("IMG_1.JPG", "/home/me/photos/IMG_1.JPG"),
    ("IMG_1.JPG", r"D:\photos\IMG_1.JPG"),
    ("in/IMG_1.JPG", "../in/IMG_1.JPG"),
    ("IMG_1.JPG", "train/images/IMG_1.JPG"),
    ("a b.png", "a%20b.png"),
    ("a%20b.png", "a b.png"),
    ("Ärger 1.jpg", "%C3%84rger%201.jpg"),
    ("in/a b.png", "in%2Fa%20b.png"),
    ("é.jpg", unicodedata.normalize("NFD", "é.jpg")),
    (unicodedata.normalize("NFD", "Ünïcode/É.webp"), "ünïcode/é.webp"),
    ("고양이.jpg", unicodedata.normalize("NFD", "고양이.jpg")),
    ("STRASSE.png", "straße.png"),
    ("a.jfif", "a.jpg"),
    ("a.gif", "a"),
    ("scan.0001.bmp", "scan.0001"),
    ("a.JPEG", " a.jpg "),
]


@pytest.mark.parametrize(("there", "named"), SPELLINGS)
def test_one_photo_however_it_is_written(tmp_path, there, named):
    touch(tmp_path, there, "other.jpg", "in/others.jpg")
    assert find_photos(tmp_path, [named, "other.jpg"]) == [(there, ""), ("other.jpg", "")]
    files = PhotoFiles(tmp_path, [named])
    assert files.path(named).samefile(tmp_path / there)
    finder = PhotoFinder(tmp_path)
    assert finder.find(PurePosixPath(), PurePosixPath(named)) == there


def test_what_is_there_is_taken_and_nobody_gets_it_twice(tmp_path):
    touch(tmp_path, "a.jpg", "b/c.jpg", "d.jpg", "e.jpg", "E.png")
    found = find_photos(tmp_path, ["a.jpg", "A.JPG", "c.jpg", "x/c.jpg", "D.jpg", "e.jpg", "E.png"])
    assert [photo for photo, _ in found] == ["a.jpg", None, None, None, "d.jpg", "e.jpg", "E.png"]
    assert found[1][1] == "no such image: the only one it could be, 'a.jpg', is that of another record"
    assert "'b/c.jpg', is that of another record" in found[2][1]


def test_names_that_differ_in_their_spelling_alone_are_two_photos(tmp_path):
    names = [
        "a b.jpg",
        "a%20b.jpg",
        "A B.jpg",
        unicodedata.normalize("NFC", "é.png"),
        unicodedata.normalize("NFD", "é.png"),
    ]
    touch(tmp_path, *names)
    if len(list_files(tmp_path)) < len(names):
        pytest.skip("this disk does not tell them apart")
    finder = PhotoFinder(tmp_path)
    assert [photo for photo, _ in find_photos(tmp_path, names)] == names
    assert [finder.find(PurePosixPath(), PurePosixPath(name)) for name in names] == names
    assert finder.find(PurePosixPath(), PurePosixPath("a B.jpg")) is None


def test_names_that_are_none(tmp_path):
    touch(tmp_path, "a.jpg")
    names = ["a.jpg", "", ".", "..", "y" * 5000, "../none.jpg", "nul\0.jpg"]
    assert [photo for photo, _ in find_photos(tmp_path, names)] == ["a.jpg"] + [None] * 6
    assert find_photos(tmp_path, names)[5][1] == "file name leaves the image folder"


@pytest.mark.parametrize(
    ("there", "named", "said"),
    [
        ("img_01.jpg", "img_O1.jpg", "the nearest is 'img_01.jpg', with '0' for 'O'"),
        ("image.jpg", "im\u0430ge.jpg", r"the nearest is 'image.jpg', with 'a' for '\u0430'"),  # a Cyrillic a
        ("image.jpg", "ima\u200bge.jpg", r"the nearest is 'image.jpg', with '' for '\u200b'"),  # of no width
        ("in/photo-1.png", "photo–1.png", r"the nearest is 'in/photo-1.png', with '-' for '\u2013'"),
        ("photo 12.png", "photo  12.png", "the nearest is 'photo 12.png', with '' for ' '"),
        ("DSC00123.jpg", "DSC0123", "the nearest is 'DSC00123.jpg', with '0' for ''"),
        ("x/a.jpg", "quite other.png", ""),
    ],
)
def test_the_nearest_name_shows_what_differs(tmp_path, there, named, said):
    touch(tmp_path, there, "zzz.jpg")
    assert PhotoFinder(tmp_path).nearest(named) == said
    ((photo, problem),) = find_photos(tmp_path, [named])
    assert (photo, problem) == (None, "no such image" + f": {said}" * bool(said))
    with pytest.raises(ValueError, match="no such image"):
        PhotoFiles(tmp_path, [named]).path(named)


def test_several_photos_of_one_name_are_said(folder):
    assert PhotoFinder(folder).nearest("d.bmp") == "there are several, such as 'd.jpg' and 'd.png'"


def test_nearest_names_are_looked_for_as_long_as_they_are_read(tmp_path):
    touch(tmp_path, "image_000.jpg")
    found = find_photos(tmp_path, [f"image_{i:03}.jpg" for i in range(1, 40)])
    assert sum("the nearest is" in problem for _, problem in found) == HINTS


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_are_followed_and_lead_to_one_photo(tmp_path):
    store, folder = touch(tmp_path / "store", "a.jpg", "more/b.jpg"), touch(tmp_path / "photos", "c.jpg")
    (folder / "all").symlink_to(store, target_is_directory=True)
    (folder / "again").symlink_to(store, target_is_directory=True)
    (folder / "round").symlink_to(folder, target_is_directory=True)
    (folder / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "sub").mkdir()
    os.symlink(store / "a.jpg", folder / "sub" / "a.jpg")
    assert list_files(folder) == ["again/a.jpg", "again/more/b.jpg", "c.jpg", "lost.jpg", "sub/a.jpg"]
    names = ["B.JPG", r"all\a.jpg", "a.jpg", "c.jpg"]
    files = PhotoFiles(folder, names)
    assert files.path("B.JPG").samefile(store / "more" / "b.jpg")
    assert PhotoFinder(folder).find(PurePosixPath("a"), PurePosixPath()) in ("again/a.jpg", "sub/a.jpg")
    assert files.path("c.jpg") == folder / "c.jpg"


def test_a_link_that_leads_nowhere_is_no_photo(tmp_path):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    assert find_photos(tmp_path, ["A.jpg", "a.jpg"])[1][0] is None


def test_only_the_ending_of_a_photo_is_an_ending():
    names = ("a/b.JPEG", "scan.0001", "b", "c.jfif", "v1.2")
    assert [without_ending(PurePosixPath(name)) for name in names] == ["b", "scan.0001", "b", "c", "v1.2"]


def test_names_that_leave_the_folder():
    assert stays_inside("a.jpg") and stays_inside("deep/..a.jpg")
    assert not any(map(stays_inside, ("", ".", "/a.jpg", "../a.jpg", "deep/../../a.jpg")))
