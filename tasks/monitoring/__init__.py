"""What the requests of a live model say: the log of a window against the data it learnt from."""
