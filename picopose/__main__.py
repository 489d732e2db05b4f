"""All programs under one name: `picopose COMMAND ...` or `python -m picopose COMMAND ...`."""

import argparse
import sys
from importlib import import_module

from picopose import __version__

COMMANDS = {  # module with a `main`, imported only when it is chosen, and what it does
    "demo": ("run_demo", "find your own objects in your own photos"),
    "test": ("run_test", "estimate and score the poses of a BOP data set"),
    "score": ("commands.score", "score a BOP result file"),
    "categories": ("commands.categories", "score poses and sizes by category"),
    "download": ("commands.download", "fetch weights and data sets by name"),
    "templates": ("commands.templates", "render templates of a data set's objects"),
    "linemod": ("commands.linemod", "make a BOP data set of LINEMOD's test photos"),
    "nocs": ("commands.nocs", "prepare training instances of CAMERA25 and REAL275"),
    "train": ("run_train", "train the network"),
    "export": ("commands.export", "write the weights of a checkpoint as a small file"),
    "convert": ("commands.convert", "write DualPoseNet's released checkpoint as safetensors"),
    "cache": ("commands.cache", "show or clear what is kept of prepared objects"),
    "install-egl": ("commands.install_egl", "install headless OpenGL on Debian and Ubuntu"),
}


def main() -> None:
    listed = "\n".join(f"  {name:<13}{what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="picopose",
        usage="picopose [-h] [--version] COMMAND ...",
        description=f"6D poses of objects in RGB photos, from their meshes.\n\ncommands:\n{listed}",
        epilog="picopose COMMAND --help lists the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"picopose {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    name = parser.parse_args(sys.argv[1:2]).command
    sys.argv = [f"picopose {name}", *sys.argv[2:]]
    import_module(f"picopose.{COMMANDS[name][0]}").main()


if __name__ == "__main__":
    main()
