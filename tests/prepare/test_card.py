import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optduel.components.prepare.card import records_card
from optduel.components.prepare.prepare import prepare_records, prepare_source
from optduel.components.records import Records, SplitReader
from optduel.components.settings import Data, FolderSource

Images = list[tuple[str, int, bytes, bool]]
Settings = Callable[..., Data]

HOSTILE = ("<img src=x onerror=alert(1)>", "\"'><script>alert(2)</script>", "{{ 7 * 7 }}&amp;")


class Page(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def records(images: Images, memory_source: Any, settings: Settings, tmp_path: Path) -> Records:
    copies = [("copy of daisy-0", 0, images[0][2], False), ("wrong daisy-1", 2, images[1][2], False)]
    return prepare_source(memory_source([*images, *copies]), settings(), tmp_path, threads=1)


def rows(page_html: str) -> dict[str, list[str]]:
    found = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page_html)
    return {re.sub("<.*?>", "", name): re.findall(r"<td>([\d,]+)", cells) for name, cells in found}


def test_the_card_counts_images_per_class_and_split(records: Records) -> None:
    table = rows(records_card(records))
    for label, name in enumerate(records.manifest.classes):
        counts = [
            records.manifest.splits[split].class_counts[label] for split in ("train", "validation", "test")
        ]
        assert table[name] == [str(count) for count in [*counts, sum(counts)]]
    totals = [records.manifest.splits[split].records for split in ("train", "validation", "test")]
    assert table["all"] == [str(total) for total in [*totals, 32]]


def test_the_card_names_the_facts_of_the_records(records: Records) -> None:
    text = Page(records_card(records)).text
    size = sum(path.stat().st_size for path in records.folder.glob("*.tfrecord"))
    for fact in (
        "Records of memory",
        "images in memory",
        "32 in 3 classes",
        "12 x 16 pixels, red-green-blue",
        f"{size:,} bytes in 12 shards",
        records.manifest.fingerprint,
        "4 images are exact copies of one another, in 2 groups",
        "wrong daisy-1",
        "Every image of the source is in the records.",
    ):
        assert fact in text


def test_the_card_lists_what_was_left_out(image_folder: Path, settings: Settings, tmp_path: Path) -> None:
    (image_folder / "daisy" / "notes <b>.txt").write_text("x")
    data = settings(source=FolderSource(path=str(image_folder)), skip_corrupt=True)
    text = Page(records_card(prepare_records(data, str(tmp_path / "root")))).text
    assert "1 image was left out." in text
    assert "daisy/notes <b>.txt" in text
    assert "is not an image file" in text


def test_the_card_is_self_contained_and_runs_nothing(records: Records) -> None:
    page = Page(records_card(records))
    assert {tag for tag, _ in page.elements}.isdisjoint(
        {"script", "link", "iframe", "object", "base", "form"}
    )
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "://" not in page.text


def test_names_cannot_change_the_page(
    images: Images, memory_source: Any, settings: Settings, tmp_path: Path
) -> None:
    source = memory_source(
        [(f"{HOSTILE[label]}{name}", label, *rest) for name, label, *rest in images], HOSTILE
    )
    source.description = HOSTILE[1]
    plain = memory_source(images)
    hostile_page = Page(records_card(prepare_source(source, settings(), tmp_path / "a", threads=1)))
    plain_page = Page(records_card(prepare_source(plain, settings(), tmp_path / "b", threads=1)))
    assert [tag for tag, _ in hostile_page.elements] == [tag for tag, _ in plain_page.elements]
    for name in HOSTILE:
        assert name in hostile_page.text


def contact_sheet(records: Records) -> Image.Image:
    """The only image of the card, which is within the page."""
    (image,) = (attributes for tag, attributes in Page(records_card(records)).elements if tag == "img")
    encoded = str(image["src"]).removeprefix("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_the_contact_sheet_shows_training_images_of_each_class(records: Records) -> None:
    reader = SplitReader(records, "train")
    places = [(shard, row) for shard, size in enumerate(reader.shard_sizes) for row in range(size)]
    pixels, labels = reader.read(*np.array(places).T)
    sheet = np.asarray(contact_sheet(records).convert("RGBA"))
    assert sheet.shape == (3 * 68 - 4, 8 * 68 - 4, 4)
    for label in range(3):
        for column, image in enumerate(pixels[labels == label][:8]):
            # 12 x 16 pixels, each shown as a square of 4 x 4, in the middle of a cell of 64 x 64.
            cell = sheet[68 * label : 68 * label + 64, 68 * column : 68 * column + 64]
            np.testing.assert_array_equal(cell[8 : 8 + 48 : 4, ::4, :3], image)


def test_many_classes_and_grey_images_fit(
    memory_source: Any, settings: Settings, encode: Any, tmp_path: Path
) -> None:
    names = [f"class-{label:03d}" for label in range(100)]
    images = [
        (f"{label}-{index}", label, encode(Image.new("L", (5, 5), label), "PNG") + bytes(index), False)
        for label in range(100)
        for index in range(3)
    ]
    data = settings(channels=1)
    records = prepare_source(memory_source(images, names), data, tmp_path, threads=1)
    page = records_card(records)
    assert set(names) < set(rows(page))
    assert "the first 24 classes" in page
    assert len(page) < 200_000
    sheet = contact_sheet(records)
    assert sheet.size == (8 * 68 - 4, 24 * 68 - 4)
