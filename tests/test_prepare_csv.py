"""Boxes from CSV files: columns by their names, and every line that cannot be used."""

import pytest

from prepare.boxes import ImageBoxes
from prepare.cleaning import Report
from prepare.csv_boxes import read_csv


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, encoding="utf-8"):
        path = tmp_path / "boxes.csv"
        path.write_text(text, encoding=encoding)
        report = Report()
        return read_csv(path, report), report

    return write_and_read


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\ni.jpg,640,480,dog,10,20,40,60",
        "Image;Label;X;Y;Width;Height\ni.jpg;dog;10;20;30;40",
        "y_2\tx_2\ty_1\tx_1\tclass name\timage path\n60\t40\t20\t10\tdog\ti.jpg",
        "\ufefffile,category,left,top,w,h\n\ni.jpg, dog ,10,20,30,40\n",
        "extra,bottom,right,top,left,name,img\n?,60,40,20,10,dog,i.jpg",
    ],
)
def test_columns_are_found_by_name(read, text):
    records, report = read(text)
    assert [(r.file_name, r.objects, r.lost) for r in records] == [("i.jpg", [("dog", (10, 20, 40, 60))], 0)]
    assert report == Report()


def test_missing_columns_are_named_with_what_would_do(read):
    with pytest.raises(
        ValueError, match=r"no column for label \(such as label, class, name\); y2 \(such as ymax"
    ) as error:
        read("file,xmin,ymin,xmax\n")
    assert "['file', 'xmin', 'ymin', 'xmax']" in str(error.value)
    with pytest.raises(ValueError, match=r"w \(such as width, w\); h \(such as height, h\)"):
        read("file,label,x,y\n")
    with pytest.raises(ValueError, match="no column for image"):
        read("")


def test_lines_that_cannot_be_used_are_dropped_by_number(read):
    text = (
        "file,label,x1,y1,x2,y2\na.jpg,dog,1,2,3,4\na.jpg,dog,1,2,,4\na.jpg,,1,2,3,4\n,dog,1,2,3,4\nb.jpg,cat,9,2,3,1\n"
    )
    records, report = read(text + "c.jpg,,,,,\na.jpg,dog,1,nan,3,4\nd.jpg,dog")
    assert records == [
        ImageBoxes("boxes.csv line 2", "a.jpg", objects=[("dog", (1, 2, 3, 4))], lost=3),
        ImageBoxes("boxes.csv line 6", "b.jpg", objects=[("cat", (3, 1, 9, 2))]),
        ImageBoxes("boxes.csv line 7", "c.jpg"),
        ImageBoxes("boxes.csv line 9", "d.jpg", lost=1),
    ]
    assert [(file, reason.partition(":")[0]) for file, reason in report.dropped] == [
        ("boxes.csv line 3", "line without a box of four numbers"),
        ("boxes.csv line 4", "line without a class"),
        ("boxes.csv line 5", "line without an image"),
        ("boxes.csv line 8", "line without a box of four numbers"),
        ("boxes.csv line 9", "line without a box of four numbers"),
    ]
    assert report.mended == [("boxes.csv line 6", "corners swapped: 'cat', (9, 2, 3, 1)")]


def test_shares_of_the_image_are_refused(read):
    with pytest.raises(ValueError, match=r"\(0.1, 0.2, 0.5, 1\): shares of the image.*in pixels"):
        read("file,label,x1,y1,x2,y2\na.jpg,dog,0.1,0.2,0.5,1\n")
