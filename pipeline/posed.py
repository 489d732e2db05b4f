"""What poses of meshes and of categories have in common."""

import numpy as np
from scipy.spatial.transform import Rotation


class Posed:
    """Something with a rigid pose `cam_from_obj` (4, 4), m."""

    cam_from_obj: np.ndarray

    @property
    def translation(self) -> np.ndarray:
        """The origin (3,) of the object's frame in the camera's, m."""
        return self.cam_from_obj[:3, 3]

    @property
    def quaternion_xyzw(self) -> np.ndarray:
        """The rotation (4,) as a unit quaternion, scalar last."""
        return Rotation.from_matrix(self.cam_from_obj[:3, :3]).as_quat(canonical=True)
