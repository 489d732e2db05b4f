"""Creates headless OpenGL contexts with EGL, on NVIDIA's driver or Mesa's software renderer."""

import os

import moderngl

from picopose.utils.errors import InputError

PACKAGES = ("libegl1", "libgl1-mesa-dri")  # Debian's names; Ubuntu's are the same


def create_context() -> moderngl.Context:
    """A new OpenGL 3.3 context without a window; an `InputError` if EGL or a driver is missing.

    With several GPUs, each process of torchrun renders on the one it computes on.
    """
    own = int(os.environ.get("LOCAL_RANK", "0"))
    try:
        return _context_on(own)
    except InputError:  # software rendering is a single device
        if not own:
            raise
        return _context_on(0)


def _context_on(device: int) -> moderngl.Context:
    # libEGL provides OpenGL's functions too, so libGL, which needs a display, is not required.
    try:
        return moderngl.create_context(
            standalone=True,
            backend="egl",
            require=330,
            libegl="libEGL.so.1",
            libgl="libEGL.so.1",
            device_index=device,
        )
    except Exception as error:  # moderngl raises nothing narrower
        raise InputError(
            f"no headless OpenGL 3.3 ({error}): run `python -m picopose install-egl` or install "
            f"{' and '.join(PACKAGES)}"
        ) from error
