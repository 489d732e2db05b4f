"""Readers of mesh files, one a format: what a file says arrives, or the file is refused.

Each has `read(path) -> list[Part]` and `names(content) -> list of the files that it names`. They raise an
`InputError` for what they do not do, and any of `rendering.mesh.DAMAGE` for bytes that make no sense.
"""
