"""Makes headless rendering work on a fresh machine: `picopose install-egl`.

It does nothing if an OpenGL context can be made already; without root rights it says what to install.
"""

import argparse
import os
import shutil
import subprocess

from picopose.rendering.context import PACKAGES, create_context
from picopose.utils.errors import InputError, exits_cleanly


def has_opengl() -> bool:
    """Whether a headless OpenGL context can be created."""
    try:
        create_context().release()
    except InputError:
        return False
    return True


def become_root() -> list[str] | None:
    """The prefix for commands that need root: nothing or password-less sudo; None if neither works."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True).returncode == 0:
        return sudo
    return None


def install() -> None:
    """Installs the Debian packages; otherwise an `InputError` says what to install."""
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
    # Package lists may be missing or old; if updating fails, the present ones may still work.
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
