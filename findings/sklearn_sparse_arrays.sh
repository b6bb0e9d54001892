#!/usr/bin/env bash
# scikit-learn 1.9.1 with scipy 1.17.1: features in scipy's sparse arrays (csr_array, coo_array), which scipy
# recommends instead of csr_matrix, cannot be fitted by the linear classifiers that n-gram baselines are made
# of. The arrays keep the int64 of the row and column numbers that numpy gives by default; csr_matrix made of
# the same numbers has int32. LogisticRegression with liblinear or saga and LinearSVC then raise "Only sparse
# matrices with 32-bit integer indices are accepted"; lbfgs takes both.
# Expected: the same data and the same shape (40 x 20 here) fit in both, or the arrays are converted.
# Matters to bag-of-words baselines beside a language model: build them with int32 numbers.
#
# Run: bash findings/sklearn_sparse_arrays.sh    (installs into a temporary folder)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import scipy.sparse as sparse
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

draw = np.random.default_rng(0)
rows, columns = np.repeat(np.arange(40), 3), draw.integers(0, 20, 120)
labels = np.arange(40) % 2
models = {
    "liblinear": LogisticRegression(solver="liblinear"),
    "saga": LogisticRegression(solver="saga"),
    "LinearSVC": LinearSVC(),
    "lbfgs": LogisticRegression(solver="lbfgs"),
}
refused = {}
for kind in (sparse.csr_matrix, sparse.csr_array):
    features = kind((np.ones(120), (rows, columns)), shape=(40, 20))
    refused[kind.__name__] = []
    for name, model in models.items():
        try:
            model.fit(features, labels)
        except ValueError as error:
            assert "32-bit integer indices" in str(error), error
            refused[kind.__name__].append(name)
    print("scikit-learn", sklearn.__version__, kind.__name__, features.indices.dtype,
          "refused by", refused[kind.__name__])
assert refused == {"csr_matrix": [], "csr_array": ["liblinear", "saga", "LinearSVC"]}, refused
PYTHON
echo "seen: scipy's sparse arrays are refused where its sparse matrices of the same numbers are taken"
