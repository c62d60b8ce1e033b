"""Photos: every one upright, in eight bits a colour, whatever its file holds; with a remedy where that cannot be."""

import io
import json
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from earlyexit.data import coco_split, open_photo, read_header, size_problem
from earlyexit.data.photos import TURNS, Header
from earlyexit.evaluation.pictures import Source, shots

# How an upright photo lies in a file that has this EXIF orientation.
LYING = {**TURNS, 6: TURNS[8], 8: TURNS[6]}
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "mpo": "MPO"}


def upright():
    """48 x 32 pixels, a colour in three of its corners: no two of the eight orientations look alike."""
    image = Image.new("RGB", (48, 32))
    for corner, colour in (((0, 0), (255, 0, 0)), ((24, 0), (0, 255, 0)), ((0, 16), (0, 0, 255))):
        image.paste(colour, (*corner, corner[0] + 24, corner[1] + 16))
    return image


def save_lying(path, orientation, format="PNG", image=None):
    """Store an upright photo as a camera that was held in another way does."""
    exif, image = Image.Exif(), image or upright()
    exif[0x0112] = orientation
    stored = image.transpose(LYING[orientation]) if orientation in LYING else image
    stored.save(path, format, exif=exif, quality=95, **({"save_all": True} if format == "MPO" else {}))
    return stored.size


def middles(image):
    """The colours in the middle of the four quarters."""
    w, h = image.size
    return [[round(v / 255) for v in image.getpixel((x * w // 4, y * h // 4))] for y in (1, 3) for x in (1, 3)]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_photo_is_upright(tmp_path, ending, orientation):
    path = tmp_path / f"a.{ending}"
    stored = save_lying(path, orientation, FORMATS[ending])
    assert stored == ((32, 48) if orientation > 4 else (48, 32))
    photo = open_photo(path)
    assert (photo.image.size, photo.size, photo.image.mode, photo.note) == ((48, 32), (48, 32), "RGB", "")
    assert middles(photo.image) == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert read_header(path) == Header((48, 32), orientation)


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_a_small_copy_is_upright_and_tells_the_whole_size(tmp_path, orientation):
    for ending in ("jpg", "png"):
        save_lying(tmp_path / f"a.{ending}", orientation, FORMATS[ending], upright().resize((480, 320)))
        photo = open_photo(tmp_path / f"a.{ending}", longest=60)
        assert (photo.image.size, photo.size) == ((60, 40), (480, 320))
        assert middles(photo.image) == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("mark", [0, 9, 77])
def test_an_orientation_that_is_none(tmp_path, mark):
    save_lying(tmp_path / "a.jpg", mark, "JPEG")
    assert open_photo(tmp_path / "a.jpg").size == read_header(tmp_path / "a.jpg").size == (48, 32)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_mark_is_no_mark(tmp_path):
    upright().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12")
    assert open_photo(tmp_path / "a.jpg").size == (48, 32)


def test_detecting_sees_what_training_sees(tmp_path):
    save_lying(tmp_path / "a.png", 8)
    (shot,) = shots(Source(str(tmp_path / "a.png"), "photo"))
    seen = pil_to_tensor(shot.image) / 255
    assert seen.shape == (3, 32, 48)
    assert seen[:, 4, 4].tolist() == [1, 0, 0] and seen[:, 28, 4].tolist() == [0, 0, 1]


def test_sizes_of_the_other_orientation_are_said_with_what_helps():
    assert size_problem((48, 32), Header((48, 32), 6)) == ""
    assert (
        size_problem((48, 31), Header((48, 32), 6)) == "image of another size: 48 x 32, its annotations are for 48 x 31"
    )
    lying = size_problem((32, 48), Header((48, 32), 6))
    assert lying.startswith(
        "annotations for the other orientation: 32 x 48, the photo is 48 x 32 when turned as its EXIF"
    )
    assert "leave width and height out of the annotations" in lying and "exiftool -Orientation=" in lying
    assert "has no EXIF orientation that says otherwise" in size_problem((32, 48), Header((48, 32), 1))


# Values


def save_values(path, pixels, kind):
    if kind == "I;16B":
        Image.frombytes("I;16B", pixels.shape[::-1], pixels.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(pixels.astype(kind)).save(path)


def test_grey_of_16_bits_and_floats_keep_their_range(tmp_path):
    grey = np.linspace(0, 65535, 480).reshape(24, 20).round()
    kinds = [
        ("a.png", grey, np.uint16),
        ("a.tif", grey, "I;16B"),
        ("b.tif", grey, np.uint16),
        ("i.tif", grey, np.int32),
    ]
    kinds += [("c.tif", grey / 65535, np.float32), ("d.tif", grey / 257, np.float32)]
    for name, pixels, kind in kinds:
        save_values(tmp_path / name, pixels, kind)
        image, _, note = open_photo(tmp_path / name)
        assert np.abs(np.asarray(image, dtype=float) - grey[..., None] / 257).max() <= 1.01
        assert note == ""
    for low, kind, said in (
        (-3, np.float32, "its floats are from -3 to 252"),
        (-3, np.int32, "its values are from -3"),
    ):
        save_values(tmp_path / "a.tif", grey / 257 + low, kind)
        with pytest.raises(ValueError, match=said):
            open_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [np.uint16, "I;16B"])
@pytest.mark.parametrize(
    ("largest", "bits"), [(200, 8), (1023, 10), (4095, 12), (3100, 12), (16383, 14), (9000, 14), (0, 8)]
)
def test_fewer_bits_in_a_file_of_16_are_said_and_use_the_whole_range(tmp_path, kind, largest, bits):
    grey = np.linspace(0, largest, 480).reshape(24, 20).round()
    save_values(tmp_path / "a.tif", grey, kind)
    image, _, note = open_photo(tmp_path / "a.tif")
    assert np.abs(np.asarray(image, dtype=float)[..., 1] - grey * 255 / (2**bits - 1)).max() <= 1.01
    assert note.startswith(f"{bits} bits in a file of 16: the largest value is {largest}, so {2**bits - 1} is taken")


def write_png(path, pixels, bits, *late):
    """A PNG of (height, width, 2 to 4) values, and chunks that come after them."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2" if bits == 16 else np.uint8)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    kind = {2: 4, 3: 2, 4: 6}[channels]  # grey or colour, with or without transparency
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), *late, (b"IEND", b"")]
    written = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))


def test_a_mark_after_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.asarray(upright().transpose(LYING[6]))
    write_png(tmp_path / "a.png", pixels, 8, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert read_header(tmp_path / "a.png") == Header((48, 32), 6)
    assert middles(open_photo(tmp_path / "a.png").image) == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_headers_need_no_pixels(tmp_path, monkeypatch):
    for ending in FORMATS:
        save_lying(tmp_path / f"a.{ending}", 1, FORMATS[ending])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("the pixels were decoded"))
    assert {read_header(tmp_path / f"a.{ending}").size for ending in FORMATS} == {(48, 32)}


def test_dark_colours_of_48_bits_are_said(tmp_path):
    """Pillow keeps the upper eight bits of sixteen: of twelve there is next to nothing left."""
    for largest, said in ((4095, True), (65535, False)):
        write_png(tmp_path / "a.png", np.linspace(0, largest, 8 * 4 * 3).reshape(4, 8, 3), 16)
        image, _, note = open_photo(tmp_path / "a.png")
        assert image.size == (8, 4)
        assert note.startswith("nearly black: 16 bits a colour of which Pillow reads the upper 8") == said


@pytest.mark.parametrize("channels", [2, 4])
def test_dark_photos_of_16_bits_with_transparency_are_said(tmp_path, channels):
    pixels = np.full((4, 8, channels), 4095)
    pixels[..., -1] = 65535
    write_png(tmp_path / "a.png", pixels, 16)
    assert read_header(tmp_path / "a.png") == Header((8, 4), 1, deep=True)
    image, _, note = open_photo(tmp_path / "a.png")
    assert (np.asarray(image) == 15).all() and note.endswith("the upper 8, and they end at 15 of 255")


def test_grey_of_few_bits_is_not_called_black(tmp_path):
    """1024 needs 11 bits, so it is taken for 12 and comes out at a quarter of the range."""
    save_values(tmp_path / "a.tif", np.full((4, 8), 1024), np.uint16)
    assert open_photo(tmp_path / "a.tif").note.startswith("12 bits in a file of 16: the largest value is 1024, so 4095")


def test_a_data_set_counts_photos_of_other_ranges_once(tmp_path):
    (tmp_path / "train").mkdir()
    names = [f"{k}.png" for k in range(5)]
    for name, largest in zip(names, (4000, 3000, 65535, 1000, 255), strict=True):
        depth = np.uint8 if largest == 255 else np.uint16
        save_values(tmp_path / "train" / name, np.linspace(0, largest, 48 * 32).reshape(32, 48).round(), depth)
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    data = coco_split(write_data(tmp_path, images, [[0, 16, 24, 16]] * 5), "train")
    before = data.notes
    data.check_photos()
    most = "the largest value is"
    assert data.notes[len(before) :] == [
        f"12 bits in a file of 16: 2 of 5 photos, such as '0.png', {most} 4000, so 4095 is taken for white",
        f"10 bits in a file of 16: 1 of 5 photos, such as '3.png', {most} 1000, so 1023 is taken for white",
    ]


# What cannot be opened


def test_what_stops_a_photo_from_being_used_is_a_value_error(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    assert read_header(path).size == (40, 40)  # the header is whole
    for longest in (None, 8):
        with pytest.raises(ValueError, match="truncated"):
            open_photo(path, longest=longest)
    with pytest.raises(ValueError, match="No such file"):
        read_header(tmp_path / "none.png")


def test_a_huge_photo_has_a_remedy(tmp_path, monkeypatch):
    Image.new("1", (400, 400)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for read in (open_photo, read_header):
        with pytest.raises(
            ValueError, match=r"160000 pixels\) exceeds limit .*make it smaller first.*MAX_IMAGE_PIXELS"
        ):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevc"])
@pytest.mark.parametrize("name", ["a.heic", "a.HEIC", "phone.jpg"])
def test_heic_names_its_package_and_is_read_with_it(tmp_path, monkeypatch, name, brand):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0 and so on")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match="this is HEIC.*pip install pillow-heif, or save it as JPEG"):
        open_photo(tmp_path / name)

    def register():
        png = io.BytesIO()
        upright().save(png, "PNG")
        monkeypatch.setattr(Image, "open", lambda path, known=Image.open: known(io.BytesIO(png.getvalue())))

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    assert open_photo(tmp_path / name).size == (48, 32)


def test_what_is_no_photo_and_no_heic_keeps_its_reason(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypisom, a film")
    with pytest.raises(ValueError, match="cannot identify image file"):
        open_photo(tmp_path / "a.jpg")


# Data sets of photos that lie on their side


def write_data(folder, images, boxes):
    (folder / "annotations").mkdir(exist_ok=True)
    found = [{"image_id": i, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)]
    content = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "red"}]}
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("sizes", [{"width": 48, "height": 32}, {}, {"width": None, "height": 0}])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_upright_photo_are_where_they_are_seen(tmp_path, orientation, sizes):
    (tmp_path / "train").mkdir()
    save_lying(tmp_path / "train" / "a.png", orientation)
    data = coco_split(write_data(tmp_path, [{"id": 0, "file_name": "a.png", **sizes}], [[0, 16, 24, 16]]), "train")
    data.check_photos()
    image, target = data[0]
    x0, y0, x1, y1 = map(int, target["boxes"][0])
    assert (image[:, y0:y1, x0:x1].mean((1, 2)).tolist(), image.shape) == ([0, 0, 1], (3, 32, 48))
    assert data.coco.imgs[0] == {"id": 0, "file_name": "a.png", "width": 48, "height": 32}


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("box", [[2, 3, 4, 5], [30, 3, 15, 5], [2, 40, 4, 5]])  # in both, only upright, only lying
def test_sizes_of_the_other_orientation_are_refused_by_their_cause(tmp_path, orientation, box):
    (tmp_path / "train").mkdir()
    save_lying(tmp_path / "train" / "a.png", orientation)
    image = {"id": 0, "file_name": "a.png", "width": 32, "height": 48}
    for use in (lambda data: data.check_photos(), lambda data: data[0]):
        with pytest.raises(ValueError, match="image 0, 'a.png': annotations for the other orientation: 32 x 48, the"):
            use(coco_split(write_data(tmp_path, [image], [box]), "train"))
