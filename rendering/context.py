"""The headless OpenGL context that everything is drawn in: EGL, on NVIDIA's driver or Mesa's software one."""

import os

import moderngl

from picopose.utils.errors import InputError

PACKAGES = ("libegl1", "libgl1-mesa-dri")  # Debian's names; Ubuntu's are the same


def create_context() -> moderngl.Context:
    """A new OpenGL 3.3 context without a window; an `InputError` where EGL or a driver is missing.

    Of several GPUs the processes that torchrun starts take one each, as they do to compute.
    """
    own = int(os.environ.get("LOCAL_RANK", "0"))
    try:
        return _context_on(own)
    except InputError:  # software rendering is a single device
        if not own:
            raise
        return _context_on(0)


def _context_on(device: int) -> moderngl.Context:
    # libEGL hands out OpenGL's functions too, so that no libGL, made for displays, has to be there.
    try:
        return moderngl.create_context(
            standalone=True,
            backend="egl",
            require=330,
            libegl="libEGL.so.1",
            libgl="libEGL.so.1",
            device_index=device,
        )
    except Exception as error:  # moderngl raises no narrower one
        raise InputError(
            f"no headless OpenGL 3.3 ({error}): run `python -m picopose install-egl` or install "
            f"{' and '.join(PACKAGES)}"
        ) from error
