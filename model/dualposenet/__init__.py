"""DualPoseNet: pose and size of an object of a known category, from one RGB-D view and a mask."""
