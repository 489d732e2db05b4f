"""The headless OpenGL context that everything is drawn in: EGL, on NVIDIA's driver or Mesa's software one."""

import moderngl

from utils.errors import InputError

PACKAGES = ("libegl1", "libgl1-mesa-dri")  # Debian's names; Ubuntu's are the same


def create_context() -> moderngl.Context:
    """A new OpenGL 3.3 context without a window; an `InputError` where EGL or a driver is missing."""
    # libEGL hands out OpenGL's functions too, so that no libGL, made for displays, has to be there.
    try:
        return moderngl.create_context(
            standalone=True, backend="egl", require=330, libegl="libEGL.so.1", libgl="libEGL.so.1"
        )
    except Exception as error:  # moderngl raises no narrower one
        raise InputError(
            f"no headless OpenGL 3.3 ({error}): run `make setup` or install {' and '.join(PACKAGES)}"
        ) from error
