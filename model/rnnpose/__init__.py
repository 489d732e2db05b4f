"""RNNPose: recurrent refinement of the pose of one known object (Xu et al., CVPR 2022)."""
