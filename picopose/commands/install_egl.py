"""Makes headless rendering work on a fresh machine: `picopose install-egl`.

It does nothing where an OpenGL context can be made already; without the right to install it says what to do.
"""

import argparse
import os
import shutil
import subprocess

from picopose.rendering.context import PACKAGES, create_context
from picopose.utils.errors import InputError, exits_cleanly


def has_opengl() -> bool:
    """Whether a headless OpenGL context can be made."""
    try:
        create_context().release()
    except InputError:
        return False
    return True


def become_root() -> list[str] | None:
    """What to put before a command that needs root: nothing, or sudo without a password; None if neither."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True).returncode == 0:
        return sudo
    return None


def install() -> None:
    """Installs the Debian packages; an `InputError` says what to install where that cannot be done."""
    command = f"apt-get install {' '.join(PACKAGES)}"
    if shutil.which("apt-get") is None:
        raise InputError(
            "headless rendering needs libEGL and Mesa's OpenGL drivers: install them with the system's "
            f"package manager (Fedora: mesa-libEGL mesa-dri-drivers; Debian, Ubuntu: {command})"
        )
    prefix = become_root()
    if prefix is None:
        raise InputError(f"headless rendering needs {' and '.join(PACKAGES)}: run `sudo {command}`")
    quiet = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]
    # Package lists may be absent or old; if they cannot be renewed, those at hand may still do.
    subprocess.run([*quiet, "update"])
    if subprocess.run([*quiet, "install", "--no-install-recommends", *PACKAGES]).returncode != 0:
        raise InputError(f"`{command}` failed (its messages are above): install these packages by hand")


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description="Installs Mesa's headless OpenGL where there is none.")
    parser.parse_args()
    if has_opengl():
        return
    install()
    if not has_opengl():
        raise InputError(
            f"{' and '.join(PACKAGES)} are installed, but no OpenGL 3.3 context can be made: check EGL"
        )
