"""A model whose import costs nothing: it compares one column with two numbers."""

CUTOFFS = (12.5, 13.5)


class Cutoffs:
    """Class 0, 1 or 2 by the first column."""

    def predict(self, X):
        import numpy as np

        return np.digitize(np.asarray(X)[:, 0], CUTOFFS)

    def predict_proba(self, X):
        import numpy as np

        return np.eye(len(CUTOFFS) + 1)[self.predict(X)]
