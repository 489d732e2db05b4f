"""Quirks of the original program that its released weights were trained with, each of which can be mended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quirks:
    """Which of the original's quirks are kept; none by default, since newly trained weights need none."""

    # The image encoder reads 2 (x / 255) - 1 of colours x in [0, 1], not 2 x - 1.
    dark_images: bool = False
    # Patch and zoom leave out the half pixels of resizing, a zoom's pixel i is drawn at (i + 1/2) 239/240 of
    # its camera but lifted at i, and descriptors of a zoom are read at x 240/239 - 1/2.
    loose_pixels: bool = False
    # A pixel takes the depth of the vertex that is nearest in barycentric coordinates.
    vertex_depth: bool = False
    # A zoom is centred on the projected origin of the model, not on the object.
    origin_zoom: bool = False
    # Flow is brought to cells by the values at the corners of cells; the background's zeros bleed in.
    corner_flow: bool = False
    # Twists are about the camera's centre, damped by 100 on the diagonal.
    camera_twist: bool = False
    # What is nearer than 0.1 m does not count, however small the object.
    near_limit: bool = False
    # Training alone: gradients of the exponential are those at the identity.
    identity_gradient: bool = False
    # Training alone: the losses forget the poses after the last iteration of all renderings but the last.
    forgotten_poses: bool = False
    # Training alone: poses turned by more than 45 degrees are drawn anew, but only once.
    redrawn_once: bool = False


MENDED = Quirks()
RELEASED = Quirks(**dict.fromkeys(Quirks.__dataclass_fields__, True))
