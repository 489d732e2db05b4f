"""Mean average precision of poses and sizes by category (NOCS, Wang et al., CVPR 2019)."""
