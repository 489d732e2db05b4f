"""Finds objects of your own in photos of your own: meshes, photos, boxes or masks -> poses and pictures.

python run_demo.py --mesh mug.ply --image photo.jpg --camera camera.json --box 384 234 522 455 --out output
python run_demo.py --serve
"""

from picopose.utils import interrupts

if __name__ == "__main__":
    interrupts.leave_at_once()

import gc


def main() -> None:
    # Importing torch and timm makes a million objects that all stay; looking through them for garbage again
    # and again would take a third of the time that a pose takes.
    gc.disable()
    from picopose.demo.command import main as command

    gc.freeze()
    gc.enable()
    command()


if __name__ == "__main__":
    main()
