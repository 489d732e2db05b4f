"""The import name of the project: `from picopose import PoseEstimator`.

Installed, all folders (`model`, `datasets`, ...) lie in this one; in a checkout they lie beside it.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picopose.pipeline.category_estimator import CategoryEstimator, CategoryPose
    from picopose.pipeline.estimator import ObjectPose, PoseEstimator

__version__ = "0.1.0"
__all__ = ["CategoryEstimator", "CategoryPose", "ObjectPose", "PoseEstimator"]

_HERE = Path(__file__).resolve().parent
if not (_HERE / "model").is_dir():
    __path__.append(str(_HERE.parent))


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import: only what computes something waits for it.
    if name in __all__:
        module = "category_estimator" if name.startswith("Category") else "estimator"
        return getattr(import_module(f"picopose.pipeline.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
