"""Creates headless OpenGL contexts with EGL, on NVIDIA's driver or Mesa's software renderer."""

import moderngl

from picopose.utils.errors import InputError

PACKAGES = ("libegl1", "libgl1-mesa-dri")  # Debian's names; Ubuntu's are the same


def create_context() -> moderngl.Context:
    """A new OpenGL 3.3 context without a window; an `InputError` if EGL or a driver is missing.

    It is on EGL's first device, or on the one that `utils.egl` found to be the process's.
    """
    # libEGL provides OpenGL's functions too, so libGL, which needs a display, is not required.
    try:
        return moderngl.create_context(
            standalone=True, backend="egl", require=330, libegl="libEGL.so.1", libgl="libEGL.so.1"
        )
    except Exception as error:  # moderngl raises nothing narrower
        raise InputError(
            f"no headless OpenGL 3.3 ({error}): run `python -m picopose install-egl` or install "
            f"{' and '.join(PACKAGES)}"
        ) from error
