"""The model behind LitServe, with its batching: arguments MODEL PORT."""

import pickle
import sys
from pathlib import Path

import litserve
import numpy as np


class Api(litserve.LitAPI):
    """Decode, predict in batches, encode."""

    def setup(self, device):
        """Load the model."""
        self.model = pickle.loads(Path(sys.argv[1]).read_bytes())

    def decode_request(self, request):
        """Make an array of a request."""
        return np.array(request["values"], dtype=float)

    def batch(self, inputs):
        """Join requests of one row."""
        return np.concatenate(inputs)

    def predict(self, x):
        """Predict the rows of several requests."""
        return self.model.predict(x)

    def unbatch(self, output):
        """Take a batch apart."""
        return [output[number : number + 1] for number in range(len(output))]

    def encode_response(self, output):
        """Make JSON of an answer."""
        return output.tolist()


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=1
    )
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
