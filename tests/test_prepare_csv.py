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
    assert (report.dropped, report.mended) == ([], [])


DOG = [("dog", (10, 20, 40, 60))]


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        # width and height of the image beside a box of its own
        ("filename,width,height,class,x,y,w,h\ni.jpg,640,480,dog,10,20,30,40", (640, 480), "'x', 'y', 'w', 'h'"),
        ("w,h,y,x,label,height,image,width\n30,40,20,10,dog,480,i.jpg,640", (640, 480), "'x', 'y', 'w', 'h'"),
        # Make Sense
        (
            "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
            "dog,10,20,30,40,i.jpg,640,480",
            (640, 480),
            "size of the image 'image_width', 'image_height'",
        ),
        (
            "file,bbox_left,bbox_top,bbox_w,bbox_h,width,height,label\ni.jpg,10,20,30,40,640,480,dog",
            (640, 480),
            "bbox_w",
        ),
        ("img,label,x,y,width,height,img_w,img_h\ni.jpg,dog,10,20,30,40,640,480", (640, 480), "corner and size"),
        # the German traffic signs
        ("Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId;Path\n640;480;10;20;40;60;dog;i.jpg", (640, 480), "corners"),
        # Open Images, in its order
        ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\ni.jpg,xclick,dog,1,10,40,20,60", (0, 0), "'XMin'"),
        # width and height beside corners are the box's own here
        (
            "file,label,xmin,ymin,xmax,ymax,width,height\ni.jpg,dog,10,20,40,60,30,40",
            (0, 0),
            "not used: 'width', 'height'",
        ),
        ("file,label,x0,y0,x1,y1\ni.jpg,dog,10,20,40,60", (0, 0), "'x0', 'y0', 'x1', 'y1' (corners)"),
        ("file,label,xtl,ytl,xbr,ybr\ni.jpg,dog,10,20,40,60", (0, 0), "corners"),
        ("file,label,x_center,y_center,width,height\ni.jpg,dog,25,40,30,40", (0, 0), "centre and size"),
        ("file,label,cx,cy,w,h,width,height\ni.jpg,dog,25,40,30,40,640,480", (640, 480), "centre and size"),
        ("file,label,x1,y1,w,h\ni.jpg,dog,10,20,30,40", (0, 0), "corner and size"),
        # the corners of a turned box, and of an outline
        ("file,label,x1,y1,x2,y2,x3,y3,x4,y4\ni.jpg,dog,20,20,40,40,30,60,10,50", (0, 0), "outline"),
        ("file,label,x1,x2,x3,y1,y2,y3\ni.jpg,dog,10,40,25,20,30,60", (0, 0), "outline"),
        # names before numbers, and "name" is what the others leave
        (
            "class_id,class_name,image_id,file_name,xmin,ymin,xmax,ymax\n3,dog,7,i.jpg,10,20,40,60",
            (0, 0),
            "'class_name'",
        ),
        ("class,label,image,xmin,ymin,xmax,ymax\n3,dog,i.jpg,10,20,40,60", (0, 0), "class 'label'"),
        ("name,label,xmin,ymin,xmax,ymax\ni.jpg,dog,10,20,40,60", (0, 0), "image 'name'; class 'label'"),
        (",Unnamed: 0,name,path,xmin,ymin,xmax,ymax\n0,0,dog,i.jpg,10,20,40,60", (0, 0), "class 'name'"),
        # Excel and its neighbours
        ("sep=;\nimage;label;x;y;w;h\ni.jpg;dog;10,0;20,00;30,0;40", (0, 0), "corner and size"),
        ("image|label|x|y|w|h\ni.jpg|dog|10|20|30|40", (0, 0), "corner and size"),
        ("image,label,x,y,w,h,,\ni.jpg,dog,10,20,30,40,,", (0, 0), "corner and size"),
    ],
)
def test_the_whole_header_decides_and_is_said(read, text, size, said):
    records, report = read(text)
    assert [(r.file_name, r.objects, r.width, r.height) for r in records] == [("i.jpg", DOG, *size)]
    assert (report.dropped, report.mended) == ([], [])
    assert len(report.notes) == 1 and said in report.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label,x,y,width,height,w,h\n", "'width' and 'height', 'w' and 'h' are the box's.*image_width"),
        ("file,width,height,label,x,y,width,height\n", "several columns that could be meant, 'width' and 'width'"),
        ("file,width,height,label,x,y,width.1,height.1\n", "'width' and 'width.1'"),
        ("file,label,xmin,x_min,ymin,xmax,ymax\n", "'xmin' and 'x_min'"),
        ("file,label,class,x,y,w,h\ni.jpg,dog,cat,1,2,3,4", "'label' and 'class' could each be the class"),
        ("file,label,class,x,y,w,h\ni.jpg,1,2,1,2,3,4", "'label' and 'class' could each be the class"),
        ('image_id,width,height,bbox,label\ni,640,480,"[1,2,3,4]",dog', "whole box in 'bbox'.*make four columns"),
        (
            "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n",
            "VGG Image Annotator: export its annotations in COCO's format",
        ),
        # without a first line of names
        ("i.jpg,10,20,40,60,dog\n", "put one before it.*such as image,xmin,ymin,xmax,ymax,label"),
        ("dog,10,20,40,60,i.jpg,640,480\n", "is no line of names: put one before it"),
        ("TRAIN,gs://b/i.jpg,dog,0.1,0.2,,,0.5,0.6,,\n", "such as label,image,label,xmin,ymin,,,xmax,ymax,,"),
        ("i.jpg,,,,,\n", "is no line of names"),
        ("0,1,2,3,4,5\ni.jpg,10,20,40,60,dog\n", "is no line of names"),
        # decimal commas where the comma separates, and where it may be a thousand's
        (
            "file,label,x,y,w,h\ni.jpg,dog,10,5,20,5,30,0,40,0\n",
            "1 of 1 lines have more cells.*decimal comma.*semicolon",
        ),
        ("file;label;x;y;w;h\ni.jpg;dog;1,000;1,200;2,000;1,500\n", "'1,000' could be a thousand or a decimal comma"),
    ],
)
def test_what_could_mean_two_things_is_refused_with_a_remedy(read, text, words):
    with pytest.raises(ValueError, match=words):
        read(text)


def test_decimal_commas_are_read_where_they_do_not_separate(read):
    rows = "file;label;xmin;ymin;xmax;ymax\na.jpg;dog;1,5;2,25;30,125;1.5e1\na.jpg;cat;0,5;1;2;3\n"
    records, report = read(rows)
    assert records[0].objects == [("dog", (1.5, 2.25, 30.125, 15)), ("cat", (0.5, 1, 2, 3))]
    assert report.dropped == []
    records, _ = read('file,label,x,y,w,h\na.jpg,dog,"1,5","2,5",10,20\n')
    assert records[0].objects == [("dog", (1.5, 2.5, 11.5, 22.5))]


def test_a_comma_in_a_name_costs_its_line_only(read):
    text = "file,label,x,y,w,h\na.jpg,dog,1,2,3,4\nb, c.jpg,dog,1,2,3,4\nd.jpg,cat,1,2,3,4\n"
    records, report = read(text)
    assert [record.file_name for record in records] == ["a.jpg", "d.jpg"]
    assert [(file, reason.partition(":")[0]) for file, reason in report.dropped] == [
        ("boxes.csv line 3", "line with more cells than names, a comma without quotes")
    ]


def test_sizes_are_taken_where_the_lines_of_an_image_agree(read):
    rows = [
        "a.jpg,640,480,dog,1,2,3,4",
        "a.jpg,640,480,cat,1,2,3,4",
        "b.jpg,64,48,dog,1,2,3,4",
        "b.jpg,65,48,dog,1,2,3,4",
    ]
    records, _ = read("\n".join(["file,width,height,label,x,y,w,h", *rows, "c.jpg,,0,dog,1,2,3,4"]))
    assert [(r.width, r.height) for r in records] == [(640, 480), (0, 0), (0, 0)]


def test_splits_are_read_as_ours(read):
    rows = ["a.jpg,TRAIN,dog,1,2,3,4", "b.jpg,Validation,dog,1,2,3,4", "c.jpg,test,dog,1,2,3,4", "d.jpg,,dog,1,2,3,4"]
    records, _ = read("\n".join(["file,set,label,x,y,w,h", *rows]))
    assert [record.split for record in records] == ["train", "calibration", "test", ""]
    records, _ = read(
        "file,set,label,x,y,w,h\na.jpg,train,dog,1,2,3,4\na.jpg,test,dog,1,2,3,4\na.jpg,train,dog,1,2,3,4"
    )
    assert [record.split for record in records] == ["train and test"]  # which `splits_of` refuses


def test_unicode_text_of_excel_is_read(read):
    records, _ = read("file\tlabel\tx\ty\tw\th\na.jpg\tKäse\t1\t2\t3\t4\n", encoding="utf-16")
    assert records[0].objects == [("Käse", (1, 2, 4, 6))]
    with pytest.raises(ValueError, match="save it as UTF-8"):
        read("file,label,x,y,w,h\na.jpg,Käse,1,2,3,4\n", encoding="latin-1")


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
