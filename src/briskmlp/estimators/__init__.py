"""scikit-learn's multilayer perceptrons with the same parameters and results, trained faster by briskmlp's kernels."""

from briskmlp.estimators.adoption import from_sklearn, patch_sklearn, to_sklearn, unpatch_sklearn
from briskmlp.estimators.classifier import MLPClassifier
from briskmlp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn", "patch_sklearn", "to_sklearn", "unpatch_sklearn"]
