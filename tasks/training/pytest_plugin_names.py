"""Names that the plugin of pytest and who runs it agree on; pytest is not everywhere."""

SERVER = "SLIPWAY_TESTS_SERVER"  # variable with the command of the model's server, as JSON
BUNDLE = "SLIPWAY_TESTS_BUNDLE"  # variable with the folder of its bundle
PORT = "PORT"  # in that command
RESULTS = "results.json"  # file with the names of tests that failed, in the temporary folder
