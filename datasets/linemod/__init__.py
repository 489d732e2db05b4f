"""LINEMOD's objects in the layouts that refiners are trained and tested on: DeepIM's, PVNet's and PoseCNN's.

What is read is in metres. Layouts: `refine` (DeepIM's LM6d_refine), `fuse` (PVNet's photos), `bop_photos`.
"""
