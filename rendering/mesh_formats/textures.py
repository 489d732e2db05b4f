"""Decodes the textures of a mesh file."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from picopose.rendering.mesh_formats.text import shown
from picopose.utils.errors import InputError
from picopose.utils.pixels import rgb_of

MAX_TEXELS_READ = 1 << 28  # of all pictures in a file together
_KTX2 = b"\xabKTX 20\xbb"


class Textures:
    """Decodes textures and stores equal ones once."""

    def __init__(self, mesh: Path):
        self._mesh = mesh
        self._known: dict[bytes, np.ndarray] = {}
        self._texels = 0

    def decode(self, picture: bytes, name: str) -> np.ndarray:
        """(H, W, 3) uint8, the same array for equal pictures; `name` is for the error."""
        digest = hashlib.sha256(picture).digest()
        if digest not in self._known:
            self._known[digest] = self._decoded(picture, name)
        return self._known[digest]

    def _decoded(self, picture: bytes, name: str) -> np.ndarray:
        where = f"{self._mesh}: its texture {shown(name)}"
        if picture.startswith(_KTX2):
            raise InputError(f"{where} is compressed as KTX2: convert the textures to PNG or JPEG")
        try:
            with Image.open(io.BytesIO(picture)) as image:
                self._make_room(image.width * image.height)  # before it is decoded
                return rgb_of(image, where)
        except Image.DecompressionBombError:
            raise InputError(f"{where} has hundreds of millions of pixels: shrink it") from None
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError(f"{where} cannot be read (it is no picture): save it as PNG or JPEG") from None
        except Exception as error:  # Pillow's readers raise all kinds of errors on damaged data
            raise InputError(
                f"{where} cannot be read ({shown(str(error))}): save it as PNG or JPEG"
            ) from None

    def _make_room(self, texels: int) -> None:
        self._texels += texels
        if self._texels > MAX_TEXELS_READ:
            millions = MAX_TEXELS_READ >> 20
            raise InputError(f"the textures of {self._mesh} have over {millions} million pixels: shrink them")
