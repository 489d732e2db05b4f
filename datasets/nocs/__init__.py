"""Objects known by category with their size, in the layout of NOCS: CAMERA25 (drawn) and REAL275 (photos).

Layout: `layout` (folders), `frames` (one image). Training instances: `similarity`, `labels`, `instances`.
Detections and results: `detections`. Source: Wang et al., Normalized Object Coordinate Space, CVPR 2019.
"""
