"""Readers of mesh files, one per format; a file is read completely or refused.

Each has `read(path) -> list[Part]` and `names(content) -> list of files it refers to`. They raise an
`InputError` for unsupported features and any of `rendering.mesh.DAMAGE` for damaged files.
"""
