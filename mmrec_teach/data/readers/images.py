"""Picture files -> one uint8 array. Sizes are read from the headers, and bounded, before a single pixel is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmrec_teach.data.readers.safety import checked_file, short
from mmrec_teach.errors import DataError, OptionError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
ORIENTATION = 0x0112  # the EXIF tag
MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000  # of one picture
MAX_ARRAY_BYTES = 4 * 2**30  # all pictures of a data set, scaled
KEPT_SIDE = 128  # pictures that all have one size up to this are kept as they are
DEFAULT_SIZE = (64, 64)


def read_pictures(
    paths: Sequence[Path | None], size: int | tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Read one picture per item.

    Args:
        paths: (I,) the file of each item, None where it has none. Files that do not exist count as missing.
        size: (height, width), or one number for both. Default: the pictures' own size if all share one of at most
            128 x 128, else 64 x 64. Pictures of other sizes are scaled, sides independently, and turned upright first.
            Transparent parts become white.

    Returns:
        images (I, H, W, 3) uint8 RGB, all zero where missing; missing (I,) bool; (H, W).

    Raises:
        OptionError: ``size`` is not between 16 and 1024.
        DataError: a file is no picture, is damaged, or claims too many pixels; or no file exists at all.
    """
    if size is not None:
        pair = size if isinstance(size, (tuple, list)) else (size, size)
        if len(pair) != 2 or not all(isinstance(s, int) and not isinstance(s, bool) and 16 <= s <= 1024 for s in pair):
            raise OptionError(
                "not a picture size",
                where="picture_size",
                found=repr(size),
                expected="a whole number from 16 to 1024, or (height, width)",
            )
        size = tuple(pair)
    present = [(row, path) for row, path in enumerate(paths) if path is not None and path.exists()]
    if not present:
        wanted = next((p for p in paths if p is not None), None)
        raise DataError(
            "none of the pictures exists",
            where=str(wanted.parent) if wanted else "pictures",
            expected="at least one picture file",
        )
    sizes = {_header(path) for _, path in present}
    if size is None:
        only = next(iter(sizes))
        size = (only[1], only[0]) if len(sizes) == 1 and min(only) >= 16 and max(only) <= KEPT_SIDE else DEFAULT_SIZE
    height, width = size
    total = len(paths) * height * width * 3
    if total > MAX_ARRAY_BYTES:
        raise DataError(
            "the pictures together are too large",
            where="pictures",
            found=f"{len(paths):,} x {height} x {width} x 3 = {total:,} bytes",
            expected=f"at most {MAX_ARRAY_BYTES:,} bytes",
            fix="Choose a smaller picture_size",
        )
    images = np.zeros((len(paths), height, width, 3), dtype=np.uint8)
    missing = np.ones(len(paths), dtype=bool)
    for row, path in present:
        images[row] = _pixels(path, height, width)
        missing[row] = False
    return images, missing, size


def _header(path: Path) -> tuple[int, int]:
    """Return (width, height) as the file's header claims."""
    checked_file(path, MAX_FILE_BYTES, kind="picture")
    with _Opened(path) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise DataError(
                "the picture claims to be too large",
                where=str(path),
                found=f"{width} x {height} pixels",
                expected=f"at most {MAX_PIXELS:,} pixels",
            )
        # A camera held upright: the picture lies on its side in the file. Only of a JPEG is that known without decoding it.
        if picture.format == "JPEG" and picture.getexif().get(ORIENTATION, 1) > 4:
            width, height = height, width
    return width, height


def _pixels(path: Path, height: int, width: int) -> np.ndarray:
    with _Opened(path) as picture:
        side = max(height, width)
        picture.draft("RGB", (side, side))  # a large JPEG is decoded at a fraction of its size
        picture = ImageOps.exif_transpose(picture)
        if picture.has_transparency_data:  # what is cut out stands on white, as in a shop
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        picture = picture.convert("RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(picture)


class _Opened:
    """``with _Opened(path) as picture``: whatever Pillow raises inside becomes one DataError."""

    def __init__(self, path: Path):
        self.path, self.picture = path, None

    def __enter__(self) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
                self.picture = Image.open(self.path, formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError("not a picture", where=str(self.path), expected=", ".join(FORMATS)) from None
        except Exception as error:
            raise self._damaged(error) from None
        return self.picture

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.picture.close()
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        if isinstance(error, Image.DecompressionBombError):
            return DataError(
                "the picture claims to be too large",
                where=str(self.path),
                found="more pixels than Pillow opens",
                expected=f"at most {MAX_PIXELS:,} pixels",
            )
        return DataError(
            "the picture is damaged", where=str(self.path), found=short(str(error), 100), expected="a whole picture"
        )
