"""Objects drawn at their poses and matched to a photo there by XFeat's descriptors, for several stages."""
